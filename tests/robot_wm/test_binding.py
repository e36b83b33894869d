"""Inputs and outputs bound once: the same numbers as without, in arrays that a later run leaves alone."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from robot_wm.backend import Session
from robot_wm.binding import Binding
from robot_wm.errors import BackendError

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)


def graph(tmp_path, rows=3, kind=onnx.TensorProto.FLOAT):
    """total () = sum of (x (rows, 2) + factor ()), double (rows, 2) = 2 x."""
    make = onnx.helper
    two = make.make_tensor("two", kind, (), [2.0])
    nodes = [
        make.make_node("Mul", ["x", "two"], ["double"]),
        make.make_node("Add", ["x", "offset"], ["moved"]),
        make.make_node("ReduceSum", ["moved"], ["total"], keepdims=0),
    ]
    inputs = [make.make_tensor_value_info(name, kind, shape) for name, shape in (("x", [rows, 2]), ("offset", []))]
    outputs = [make.make_tensor_value_info(name, kind, shape) for name, shape in (("double", [rows, 2]), ("total", []))]
    model = make.make_model(
        make.make_graph(nodes, "main", inputs, outputs, [two]), opset_imports=[make.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(model, tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


def binding(path):
    return Binding(ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]), "cpu")


def test_a_bound_graph_returns_what_an_unbound_one_does_run_after_run(tmp_path):
    bound = Session(graph(tmp_path, rows="N"), "cpu", sizes={"N": 3}, bound=True)
    plain = Session(graph(tmp_path, rows="N"), "cpu")
    for offset in np.float32([0.5, -2.0, 0.0]):
        got, expected = bound.run(x=X + offset, offset=offset), plain.run(x=X + offset, offset=offset)
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name], value)
            assert got[name].shape == value.shape


def test_a_later_run_leaves_earlier_outputs_as_they_were(tmp_path):
    bound = binding(graph(tmp_path))
    first = bound.run({"x": X, "offset": np.float32(0)})
    bound.run({"x": X + 1, "offset": np.float32(1)})
    np.testing.assert_array_equal(first["double"], 2 * X)
    first["double"][:] = 0
    np.testing.assert_array_equal(bound.run({"x": X, "offset": np.float32(0)})["double"], 2 * X)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"x": X}, "missing or unknown inputs: offset"),
        ({"x": X, "offset": np.float32(0), "y": X}, "missing or unknown inputs: y"),
        ({"x": X[:1], "offset": np.float32(0)}, r"input 'x' has shape \(1, 2\) where \(3, 2\) is bound"),
        ({"x": X, "offset": np.float32([0])}, r"input 'offset' has shape \(1,\) where \(\) is bound"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(tmp_path, inputs, complaint):
    with pytest.raises(BackendError, match=rf"graph\.onnx: {complaint}"):
        Session(graph(tmp_path), "cpu", bound=True).run(**inputs)


def test_an_output_that_is_not_finite_is_refused_as_without(tmp_path):
    with pytest.raises(BackendError, match="output 'double' is not finite"):
        Session(graph(tmp_path), "cpu", bound=True).run(x=X * np.inf, offset=np.float32(0))


def test_a_graph_that_cannot_be_captured_is_opened_without(tmp_path, monkeypatch, caplog):
    asked = []

    def opened(path, options, providers, enable_fallback=1):
        asked.append([options for _, options in providers])
        if providers[0][1].get("enable_cuda_graph") == "1":
            raise RuntimeError("an operator runs elsewhere")
        return session

    session = ort.InferenceSession(str(graph(tmp_path)), providers=["CPUExecutionProvider"])
    monkeypatch.setattr("robot_wm.backend.ort.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("robot_wm.backend.ort.InferenceSession", opened)
    found = Session(tmp_path / "graph.onnx", "auto", bound=True)
    assert [options[0]["enable_cuda_graph"] for options in asked] == ["1", "0"]
    assert not found.captured
    assert "graph.onnx: not replayed as one CUDA graph, so slower: an operator runs elsewhere" in caplog.text
    np.testing.assert_array_equal(found.run(x=X, offset=np.float32(0))["double"], 2 * X)


@pytest.mark.parametrize(("rows", "kind"), [("N", onnx.TensorProto.FLOAT), (3, onnx.TensorProto.DOUBLE)])
def test_only_single_precision_of_fixed_shape_can_be_bound(tmp_path, rows, kind):
    with pytest.raises(ValueError, match=r"'x' is tensor.*: only float32 of fixed shape can be bound"):
        binding(graph(tmp_path, rows, kind))
