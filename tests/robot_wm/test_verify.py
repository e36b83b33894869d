"""A bundle is used only where every graph returns on this machine what it returned where it was exported."""

from types import SimpleNamespace

import numpy as np
import pytest

from conftest import slider_contract
from robot_wm.backend import Session
from robot_wm.bundle import GRAPHS, write_bundle
from robot_wm.errors import BackendError, BundleError
from robot_wm.verify import angle_columns, largest_error, read_golden, verify_on_device, write_golden
from test_bundle import cart, filler, manifest_for

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)


class DoublingSession(Session):
    """Stand-in for an ONNX Runtime session: y = 2 x + offset, and `chosen` outputs for `refine`."""

    def __init__(self, contract_hash, offset=0.0, outputs=("y",), provider="cpu"):
        self.metadata = {"contract_hash": contract_hash}
        self.offset = offset
        self.outputs = list(outputs)
        self.provider = provider

    def run(self, **inputs):
        if not np.isfinite(self.offset):
            raise BackendError("output 'y' is not finite")
        return {name: 2 * inputs["x"] + np.float32(self.offset) for name in self.outputs}


def golden(name):
    outputs = ("next_mean", "value") if name == "refine" else ("y",)
    return {"x": X}, dict.fromkeys(outputs, 2 * X)


@pytest.fixture
def bundle(tmp_path):
    contract = cart()

    def fill(folder):
        filler(contract)(folder)
        write_golden(folder, {name: golden(name) for name in GRAPHS})

    return write_bundle(tmp_path / "cart", manifest_for(contract), fill)


def model_of(bundle, provider="cpu", **offsets):
    sessions = {
        name: DoublingSession(bundle.contract.hash, offsets.get(name, 0.0), golden(name)[1], provider)
        for name in GRAPHS
    }
    return SimpleNamespace(provider=provider, sessions=sessions)


def test_a_sound_bundle_reports_the_error_of_every_graph(bundle):
    found = verify_on_device(bundle, model_of(bundle, prior=2e-4))
    assert found.bundle_id == bundle.bundle_id
    assert set(found.errors) == set(GRAPHS)
    assert found.errors["prior"] == pytest.approx(2e-4, rel=1e-2)
    assert found.errors["encode"] == 0.0


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_that_computes_something_else_is_named(bundle, graph):
    with pytest.raises(BundleError, match=rf"graph {graph} differs from its golden outputs by 0\.1"):
        verify_on_device(bundle, model_of(bundle, **{graph: 0.1}))


def test_a_graph_that_returns_nan_is_named(bundle):
    with pytest.raises(BundleError, match="graph heads fails on its golden inputs: output 'y' is not finite"):
        verify_on_device(bundle, model_of(bundle, heads=np.nan))


def test_a_graph_of_another_contract_is_named(bundle):
    model = model_of(bundle)
    model.sessions["policy"].metadata["contract_hash"] = "0123"
    with pytest.raises(BundleError, match="graph policy was exported for contract 0123"):
        verify_on_device(bundle, model)


def test_a_provider_of_lower_precision_gets_its_own_tolerance(bundle):
    assert verify_on_device(bundle, model_of(bundle, "tensorrt", policy=0.02)).tolerance == 5e-2
    with pytest.raises(BundleError, match=r"allowed: 0\.001 on tensorrt"):
        verify_on_device(bundle, model_of(bundle, "tensorrt", policy=0.02), tolerance=1e-3)


def test_at_lower_precision_other_rollouts_may_become_elites_but_not_with_another_value(bundle):
    model = model_of(bundle, "cuda")
    chosen = model.sessions["refine"].run
    model.sessions["refine"].run = lambda **inputs: {**chosen(**inputs), "next_mean": X + 3}
    verify_on_device(bundle, model)
    with pytest.raises(BundleError, match="graph refine"):
        verify_on_device(bundle, model, tolerance=1e-3)
    model.sessions["refine"].run = lambda **inputs: {**chosen(**inputs), "value": X + 3}
    with pytest.raises(BundleError, match="graph refine"):
        verify_on_device(bundle, model)


def test_golden_arrays_survive_the_file(bundle):
    inputs, outputs = read_golden(bundle)["encode"]
    np.testing.assert_array_equal(inputs["x"], X)
    np.testing.assert_array_equal(outputs["y"], 2 * X)


def test_a_golden_file_that_lacks_a_graph_or_is_damaged_is_refused(bundle):
    write_golden(bundle.path, {name: golden(name) for name in GRAPHS if name != "readout"})
    with pytest.raises(BundleError, match=r"golden\.npz: holds nothing for graph readout"):
        read_golden(bundle)
    (bundle.path / "golden.npz").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
        read_golden(bundle)
    (bundle.path / "golden.npz").unlink()
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
        read_golden(bundle)


def test_the_error_is_absolute_below_one_and_relative_above():
    assert largest_error(np.array([0.0, 100.0]), np.array([0.5, 101.0])) == 0.5
    assert largest_error(np.array([100.0]), np.array([101.0])) == pytest.approx(0.01)


def test_what_the_inputs_do_not_determine_is_not_compared_but_must_be_finite():
    undetermined = np.array([np.nan, 1.0])
    assert largest_error(undetermined, np.array([7.0, 1.0])) == 0.0
    assert largest_error(undetermined, np.array([np.nan, 1.0])) == np.inf
    assert largest_error(undetermined, np.array([1.0])) == np.inf


def test_angles_are_compared_modulo_a_turn():
    expected, got = np.array([[3.1, 3.1]]), np.array([[-3.1, -3.1]])
    assert largest_error(expected, got, [0, 1]) == pytest.approx((2 * np.pi - 6.2) / 3.1)
    assert largest_error(expected, got, [0]) == pytest.approx(2.0)


def test_angles_are_found_in_the_concatenated_observation():
    observations = [
        {"name": "speed", "topic": "j", "field": "velocity", "names": ["a", "b"]},
        {"name": "place", "topic": "j", "field": "position", "names": ["a", "b"], "encoding": ["linear", "angle"]},
    ]
    assert angle_columns(slider_contract(observations=observations)) == [3]
