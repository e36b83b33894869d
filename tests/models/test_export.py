"""An exported bundle is the model that was trained: the same answers in ONNX Runtime, for any weights, or no bundle at all."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from models import export, networks
from models.export import BundleTemplate, export_again, export_bundle, load_world_model
from models.graphs import SIGNATURES, trace
from models.networks import Sizes
from models.parity import Draw, elite_gap, golden_sample
from models.planner_graph import Refine
from models.world_model import WorldModel
from robot_wm.backend import Model
from robot_wm.bundle import PlannerDefaults, file_digest, load_bundle
from robot_wm.contract import parse_contract
from robot_wm.errors import BackendError, BundleError, ContractError
from robot_wm.messages import Latent
from robot_wm.planner import Carry, Planner
from robot_wm.verify import read_golden, verify_on_device

SIZES = Sizes("tiny", latent=16, mlp=24, encoder=16, value_heads=3, encoder_layers=2)
PLANNER = PlannerDefaults(horizon=2, samples=60, proposals=6, elites=12)
ACTIONS = 2


def make_contract(**changes):
    joints = ["slider", "hinge"]
    data = {
        "name": "cart",
        "model_hz": 50,
        "observations": [
            {"name": "position", "topic": "j", "field": "position", "names": joints, "encoding": ["linear", "angle"]},
            {"name": "velocity", "topic": "j", "field": "velocity", "names": joints, "scale": [2.0, 5.0]},
        ],
        "action": {"names": joints, "mode": "effort", "low": [-10, -1], "high": [10, 1], "rate": [100, 20]},
    }
    return parse_contract({**data, **changes})


def make_model(contract, seed=0, noise=0.1, sizes=SIZES):
    torch.manual_seed(seed)
    model = WorldModel(contract, sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * torch.randn(parameter.shape)
    return model


@pytest.fixture(scope="module")
def contract():
    return make_contract()


@pytest.fixture(scope="module")
def template(contract, tmp_path_factory):
    """Traced from a model as it is before training: many weights are equal, zero or one."""
    path = tmp_path_factory.mktemp("export") / "fresh"
    export_bundle(make_model(contract, noise=0.0), contract, path, PLANNER)
    return BundleTemplate.load(path, contract)


@pytest.fixture
def bundle(template, contract, tmp_path):
    return template.write(make_model(contract), tmp_path / "cart", {"seed": 3}, {"return_mean": 5.0})


def reseal(path, graph, alter):
    """Alter a graph file and make the manifest's digest agree."""
    file = path / "graphs" / f"{graph}.onnx"
    proto = onnx.load(file)
    alter(proto)
    file.write_bytes(proto.SerializeToString())
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][f"graphs/{graph}.onnx"] = file_digest(file)
    (path / "manifest.json").write_text(json.dumps(manifest))


def double_largest_weight(proto):
    largest = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    largest.raw_data = (2 * numpy_helper.to_array(largest)).tobytes()


def test_a_bundle_says_what_it_is_and_where_it_comes_from(bundle, contract):
    manifest = load_bundle(bundle.path, contract).manifest
    assert (manifest.name, manifest.family, manifest.size) == ("cart", "tdmpc2", "tiny")
    assert (manifest.latent, manifest.planner) == (16, PLANNER)
    assert tuple(manifest.initial_latent) == (0.125,) * 16
    assert manifest.discount == pytest.approx(0.99)  # 10 s at 50 Hz
    assert (manifest.provenance, manifest.metrics) == ({"seed": 3}, {"return_mean": 5.0})
    assert set(manifest.parity) == set(SIGNATURES)
    assert max(manifest.parity.values()) < 1e-4


@pytest.mark.parametrize("graph", SIGNATURES)
def test_a_graph_has_the_documented_signature_and_holds_the_contract(bundle, contract, graph):
    proto = onnx.load(bundle.graph(graph))
    assert tuple(item.name for item in proto.graph.input) == SIGNATURES[graph].inputs
    assert tuple(item.name for item in proto.graph.output) == SIGNATURES[graph].outputs
    free = SIGNATURES[graph].free
    shapes = {item.name: item.type.tensor_type.shape.dim for item in proto.graph.input}
    named = {name: dims[0].dim_param for name, dims in shapes.items() if dims and dims[0].dim_param}
    assert named == (dict.fromkeys(SIGNATURES[graph].inputs, "N") if free is None else free)
    metadata = {item.key: item.value for item in proto.metadata_props}
    assert metadata["graph"] == graph
    assert metadata["contract_hash"] == contract.hash
    assert json.loads(metadata["contract"]) == contract.model_facing()
    assert proto.ir_version <= 10
    assert [(item.domain, item.version) for item in proto.opset_import] == [("", 18)]


@pytest.mark.parametrize("graph", SIGNATURES)
def test_a_graph_tells_nothing_of_the_machine_that_made_it(bundle, graph):
    data = bundle.graph(graph).read_bytes()
    assert b".py" not in data
    assert b"site-packages" not in data


def test_normalisation_and_activation_stay_fast_operators(bundle):
    slow = {"Softplus", "Mish", "ReduceSumSquare", "InstanceNormalization"}
    for graph, needed in (("refine", set()), ("propose", {"LayerNormalization"})):
        kinds = {node.op_type for node in onnx.load(bundle.graph(graph)).graph.node}
        assert needed <= kinds
        assert not slow & kinds


@pytest.mark.parametrize("graph", SIGNATURES)
def test_products_are_of_equal_ranks_which_openvino_needs(bundle, graph):
    model = onnx.shape_inference.infer_shapes(onnx.load(bundle.graph(graph)), strict_mode=True, data_prop=True)
    ranks = {x.name: len(x.dims) for x in model.graph.initializer}
    ranks |= {
        x.name: len(x.type.tensor_type.shape.dim)
        for x in (*model.graph.input, *model.graph.value_info, *model.graph.output)
    }
    for node in model.graph.node:
        if node.op_type == "MatMul":
            assert len({ranks[name] for name in node.input}) == 1, node.name


def test_new_weights_reach_every_graph(template, contract, bundle, tmp_path):
    trained = make_model(contract, seed=1, noise=0.3)
    other = template.write(trained, tmp_path / "trained")
    verify_on_device(other, Model(other, "cpu"))
    for name in SIGNATURES:
        ours, theirs = read_golden(other)[name][1], read_golden(bundle)[name][1]
        assert any(np.nanmax(np.abs(ours[key] - theirs[key])) > 1e-4 for key in ours)
    before, after = (Model(item, "cpu") for item in (bundle, other))
    z, a = np.full((1, 16), 0.125, np.float32), np.zeros((1, ACTIONS), np.float32)
    with torch.no_grad():
        expected = trained.eval().prior(torch.tensor(z), torch.tensor(a)).numpy()
    np.testing.assert_allclose(after.prior(z, a), expected, atol=1e-5)
    assert np.abs(before.prior(z, a) - expected).max() > 1e-3


def test_every_parameter_a_graph_uses_keeps_its_name(template, contract, tmp_path):
    """Were one merged or folded away by the exporter, a model whose weights are all different would not fit."""
    model = make_model(contract, seed=2, noise=0.5)
    template.write(model, tmp_path / "cart", draws=3)


def test_equal_weights_give_equal_bytes(contract, bundle, tmp_path):
    again = BundleTemplate.load(bundle.path, contract).write(make_model(contract), tmp_path / "again", draws=2)
    assert again.bundle_id == bundle.bundle_id


def test_a_model_whose_rollouts_all_tie_is_exported_but_its_elites_are_not_compared(
    template, contract, tmp_path, monkeypatch
):
    drawn = Draw._refine
    monkeypatch.setattr(Draw, "_refine", lambda draw: {k: v * ("cost" not in k) for k, v in drawn(draw).items()})
    fresh = template.write(make_model(contract, noise=0.0), tmp_path / "fresh")
    outputs = read_golden(fresh)["refine"][1]
    assert np.isnan(outputs["next_mean"]).all()
    assert np.isfinite(outputs["value"])
    verify_on_device(fresh, Model(fresh, "cpu"))


def test_a_model_that_is_not_finite_is_not_exported(template, contract, tmp_path):
    model = make_model(contract)
    with torch.no_grad():
        model.reward_head[0].norm.weight[0] = torch.nan
    with pytest.raises(BundleError, match="graph heads is not exported: its output reward is not finite"):
        template.write(model, tmp_path / "cart")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_from_pytorch_is_not_exported(bundle, contract, tmp_path):
    altered = BundleTemplate.load(bundle.path, contract)
    negate = onnx.helper.make_node("Neg", ["squashed"], ["action"])
    policy = altered._graphs["policy"].graph
    next(node for node in policy.node if "action" in node.output).output[0] = "squashed"
    policy.node.append(negate)
    with pytest.raises(BundleError, match="not written: graph policy differs from PyTorch"):
        altered.write(make_model(contract), tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_model_of_another_size_does_not_fit_the_template(template, contract, tmp_path):
    larger = make_model(contract, sizes=Sizes("small", 24, 32, 16, 2, 1))
    with pytest.raises(BundleError, match="a model of size small does not fit graphs of tiny"):
        template.write(larger, tmp_path / "cart")


def test_a_bundle_of_another_contract_is_no_template(bundle):
    with pytest.raises(ContractError, match="model_hz"):
        BundleTemplate.load(bundle.path, make_contract(model_hz=25))


@pytest.mark.parametrize("graph", SIGNATURES)
def test_a_tampered_graph_is_named_on_the_device_even_if_its_digest_agrees(bundle, graph):
    reseal(bundle.path, graph, double_largest_weight)
    tampered = load_bundle(bundle.path)
    with pytest.raises(BundleError, match=rf"graph {graph} (differs|fails)"):
        verify_on_device(tampered, Model(tampered, "cpu"))


def test_a_graph_of_another_contract_is_refused_on_the_device(bundle):
    def relabel(proto):
        next(item for item in proto.metadata_props if item.key == "contract_hash").value = "beef"

    reseal(bundle.path, "readout", relabel)
    relabelled = load_bundle(bundle.path)
    with pytest.raises(BundleError, match="graph readout was exported for contract beef"):
        verify_on_device(relabelled, Model(relabelled, "cpu"))


def test_the_exported_world_model_comes_back_for_fine_tuning(bundle, contract):
    original, loaded = make_model(contract), load_world_model(bundle.path, SIZES)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in original.state_dict().items())
    assert any(parameter.requires_grad for parameter in loaded.parameters())


def test_missing_or_foreign_weights_are_refused(bundle):
    with pytest.raises(BundleError, match=r"weights\.pt: does not fit"):
        load_world_model(bundle, Sizes("small", 24, 32, 16, 2, 1))
    (bundle.path / "weights.pt").unlink()
    with pytest.raises(BundleError, match=r"has no weights\.pt"):
        load_world_model(bundle, SIZES)


def test_weights_are_exported_again_with_another_contracts_costs_and_their_history(bundle, tmp_path, monkeypatch):
    """The graphs that costs do not change are not traced once more."""
    monkeypatch.setitem(networks.SIZES, "tiny", SIZES)
    known = {name: onnx.load(bundle.graph(name)) for name in SIGNATURES if name != "refine"}

    def traced(signatures, modules, inputs):
        return known | trace(signatures, {"refine": modules["refine"]}, inputs)

    monkeypatch.setattr(export, "trace", traced)
    costly = make_contract(
        costs={"functions": {"models.costs:joint_limits": 1.0}}, safety={"position": {"slider": [3, 23]}}
    )
    shutil.copytree(bundle.path, tmp_path / "again")
    (tmp_path / "again" / "curve.json").write_text("[]")
    again = export_again(tmp_path / "again", tmp_path / "again", costly)
    assert (again.path / "curve.json").read_text() == "[]"
    assert (again.manifest.name, again.manifest.provenance, again.manifest.planner) == ("cart", {"seed": 3}, PLANNER)
    assert (again.manifest.metrics, again.contract.costs) == (bundle.manifest.metrics, costly.costs)
    given = read_golden(again)["refine"][0]
    free, charged = (Model(item, "cpu").sessions["refine"].run(**given)["value"] for item in (bundle, again))
    assert charged < free - 1.0  # whatever it predicts is beyond the limit
    with pytest.raises(ContractError, match="model_hz"):
        export_again(bundle.path, tmp_path / "other", make_contract(model_hz=25))
    assert not (tmp_path / "other").exists()


def test_exporting_leaves_the_model_as_it_is_in_training(template, contract, tmp_path):
    model = make_model(contract).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    template.write(model, tmp_path / "cart")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.policy_head.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_graphs_take_any_batch(bundle):
    model = Model(bundle, "cpu")
    for count in (1, 2, 37):
        z = np.full((count, 16), 0.125, np.float32)
        assert [x.shape for x in model.heads(z, np.zeros((count, ACTIONS), np.float32))] == [(count,)] * 3
        assert model.readout(z).shape == (count, 4)


def test_a_planner_runs_on_an_exported_bundle_inside_its_bounds(bundle, contract):
    contract = replace(contract, action=replace(contract.action, jerk=(2_500.0, 500.0)))
    planner = Planner(contract, Model(bundle, "cpu"))
    latent = Latent(0, np.full(16, 0.125, np.float32), bundle.bundle_id)
    carry, first = planner.plan(Carry(), latent, 0)
    _, second = planner.plan(carry, latent, 20_000_000, previous=np.array([np.zeros(2), first.actions[0]]))
    for plan, before in ((first, np.zeros((2, 2))), (second, [np.zeros(2), first.actions[0]])):
        assert plan.stats.refinements == PLANNER.refinements
        assert np.abs(plan.actions / [10, 1]).max() <= 1 + 1e-6
        rows = np.array([*before, *plan.actions])
        assert np.abs(np.diff(rows, axis=0) / [2, 0.4]).max() <= 1 + 1e-4
        assert np.abs(np.diff(rows, n=2, axis=0) / [1, 0.2]).max() <= 1 + 1e-4
    assert np.array_equal(planner.plan(Carry(), latent, 0)[1].actions, first.actions)


def test_a_bundle_from_before_there_was_a_jerk_bound_is_refused_where_it_would_plan(bundle):
    def rename(proto):
        next(item for item in proto.graph.input if item.name == "jerk").name = "jolt"
        for node in proto.graph.node:
            node.input[:] = ["jolt" if name == "jerk" else name for name in node.input]

    reseal(bundle.path, "refine", rename)
    with pytest.raises(
        BackendError, match=r"refine\.onnx: was exported before plans had a jerk bound; `robot-wm export`"
    ):
        Model(load_bundle(bundle.path), "cpu")
    Model(load_bundle(bundle.path), "cpu", graphs=("prior",))


def test_golden_inputs_leave_no_tie_between_elites(contract):
    model = make_model(contract, noise=0.3).eval()
    step = Refine(model, PLANNER, 0.99)
    inputs, outputs = golden_sample(Draw(model, contract, PLANNER, seed=0), "refine", step)
    assert elite_gap(step, inputs) > 1e-5
    assert outputs["next_mean"].isfinite().all()
    assert elite_gap(step, inputs | {"std": 0 * inputs["std"]}) == 0.0


def test_a_draw_has_complete_partial_and_missing_observations(contract):
    draw = Draw(make_model(contract).eval(), contract, PLANNER, seed=0).inputs("encode", batch=64)
    assert draw["mask"][0].tolist() == [1, 1]
    assert draw["mask"][1].tolist() == [0, 0]
    assert 0 < draw["mask"][2:].mean() < 1
    assert draw["observation"][1].abs().sum() == 0
    assert draw["age"].abs().max() <= 0.5
    assert set(asdict(PLANNER)) == set(asdict(PlannerDefaults()))


def test_a_bundle_can_be_copied_and_still_verifies(bundle, tmp_path):
    shutil.copytree(bundle.path, tmp_path / "robot" / "cart")
    assert load_bundle(tmp_path / "robot" / "cart").bundle_id == bundle.bundle_id
