"""Which execution provider runs the graphs, and what is said where the one asked for cannot."""

import pytest

from robot_wm.backend import Session, choose_provider
from robot_wm.errors import BackendError


def only(monkeypatch, *names):
    monkeypatch.setattr("robot_wm.backend.ort.get_available_providers", lambda: list(names))


def test_auto_takes_the_best_provider_there_is_and_never_openvino(monkeypatch):
    only(monkeypatch, "OpenVINOExecutionProvider", "CPUExecutionProvider")
    assert choose_provider("auto") == "cpu"
    only(monkeypatch, "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    assert choose_provider("auto") == "tensorrt"


def test_an_unknown_provider_is_refused_with_those_that_exist():
    with pytest.raises(BackendError, match=r"unknown provider 'tpu'; choose auto, tensorrt, cuda, openvino, cpu"):
        choose_provider("tpu")


def test_a_provider_that_is_not_installed_is_refused_with_those_that_are_and_the_remedy(monkeypatch):
    only(monkeypatch, "CPUExecutionProvider")
    with pytest.raises(BackendError, match=r"'cuda' is not in .* which has cpu; install the extra that has it"):
        choose_provider("cuda")


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "refine.onnx").write_bytes(b"nothing")
    with pytest.raises(BackendError, match=r"refine\.onnx: ONNX Runtime cannot load the graph"):
        Session(tmp_path / "refine.onnx", "cpu")
