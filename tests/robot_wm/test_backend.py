"""Which execution provider runs the graphs, and what is said where the one asked for cannot."""

import json
from pathlib import Path

import onnxruntime as ort
import pytest

from robot_wm.backend import Model, Session, _settings, choose_provider
from robot_wm.bundle import load_bundle
from robot_wm.errors import BackendError

ZOO = Path(__file__).parents[2] / "models" / "zoo"


def only(monkeypatch, *names):
    monkeypatch.setattr("robot_wm.backend.ort.get_available_providers", lambda: list(names))


def test_auto_takes_the_best_provider_there_is_and_never_openvino(monkeypatch):
    only(monkeypatch, "OpenVINOExecutionProvider", "CPUExecutionProvider")
    assert choose_provider("auto") == "cpu"
    only(monkeypatch, "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    assert choose_provider("auto") == "tensorrt"


def test_an_unknown_provider_is_refused_with_those_that_exist():
    with pytest.raises(
        BackendError, match=r"unknown provider 'tpu'; choose auto, tensorrt, cuda, openvino, openvino-bf16, cpu"
    ):
        choose_provider("tpu")


def test_a_provider_that_is_not_installed_is_refused_with_those_that_are_and_the_remedy(monkeypatch):
    only(monkeypatch, "CPUExecutionProvider")
    with pytest.raises(BackendError, match=r"'cuda' is not in .* which has cpu; install the extra that has it"):
        choose_provider("cuda")


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "refine.onnx").write_bytes(b"nothing")
    with pytest.raises(BackendError, match=r"refine\.onnx: ONNX Runtime cannot load the graph"):
        Session(tmp_path / "refine.onnx", "cpu")


def test_openvino_runs_the_planners_graphs_and_its_lower_precision_is_asked_for_by_name(monkeypatch):
    asked = []

    def sessions(path, options, provider, threads, bound):
        asked.append((path.rsplit("/")[-1], provider, _settings(provider, threads, captured=False)))
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]), None, False

    only(monkeypatch, "OpenVINOExecutionProvider", "CPUExecutionProvider")
    monkeypatch.setattr("robot_wm.backend._opened", sessions)
    for wanted, precision in (("openvino", "f32"), ("openvino-bf16", "bf16")):
        asked.clear()
        with pytest.raises(BackendError, match=f"asked for provider '{wanted}', ONNX Runtime gave 'cpu'"):
            Model(load_bundle(ZOO / "cartpole_swingup"), wanted, threads=1, planner_threads=2)
        assert all(provider == "cpu" for name, provider, _ in asked if name != "propose.onnx")
        name, provider, settings = asked[-1]
        assert (name, provider) == ("propose.onnx", wanted)
        own = json.loads(settings["load_config"])["CPU"]
        assert own == {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": "2"}
