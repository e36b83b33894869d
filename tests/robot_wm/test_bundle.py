"""A bundle is complete, unaltered and made for this contract, or it is refused with the reason."""

import json
from dataclasses import replace

import pytest

from robot_wm.bundle import GRAPHS, Manifest, PlannerDefaults, add_metrics, load_bundle, write_bundle
from robot_wm.contract import parse_contract
from robot_wm.contract_objective import Costs
from robot_wm.errors import BundleError, ContractError


def cart(**action):
    data = {
        "name": "cart",
        "model_hz": 50,
        "observations": [{"name": "position", "topic": "joint_states", "field": "position", "names": ["slider"]}],
        "action": {"names": ["slider"], "mode": "effort", "low": [-1], "high": [1], **action},
    }
    return parse_contract(data)


def manifest_for(contract, **changes):
    base = Manifest(
        name="cart",
        family="tdmpc2",
        size="nano",
        latent=2,
        initial_latent=(0.5, 0.5),
        discount=0.99,
        contract_hash=contract.hash,
        planner=PlannerDefaults(horizon=4),
    )
    return replace(base, **changes)


def filler(contract, text="graph", leave_out=()):
    def fill(folder):
        contract.save(folder / "contract.yaml")
        (folder / "graphs").mkdir()
        for name in GRAPHS:
            if name not in leave_out:
                (folder / "graphs" / f"{name}.onnx").write_text(f"{text} {name}")

    return fill


@pytest.fixture
def bundle(tmp_path):
    contract = cart()
    return write_bundle(tmp_path / "cart", manifest_for(contract), filler(contract))


def test_a_contract_that_wants_other_cost_functions_than_are_built_in_is_refused(bundle):
    wanted = replace(cart(), costs=Costs(functions={"models.costs:joint_limits": 2.0}))
    with pytest.raises(
        BundleError, match=r"built into a bundle at export: it has none, the contract wants .*joint_limits"
    ):
        load_bundle(bundle.path, wanted)
    reweighed = replace(cart(), costs=Costs(action=(0.5,), disagreement=1.0))
    assert load_bundle(bundle.path, reweighed).contract.costs.disagreement == 1.0


def edit_manifest(path, change):
    file = path / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def test_what_is_written_is_what_is_read(bundle):
    again = load_bundle(bundle.path, cart())
    assert again.manifest == bundle.manifest
    assert again.manifest.planner.horizon == 4
    assert again.graph("prior").read_text() == "graph prior"
    assert len(again.bundle_id) == 12


def test_id_depends_on_the_content_alone(bundle, tmp_path):
    contract = cart()
    same = write_bundle(tmp_path / "elsewhere", manifest_for(contract, metrics={"return": 1.0}), filler(contract))
    other = write_bundle(tmp_path / "other", manifest_for(contract), filler(contract, text="weights"))
    assert same.bundle_id == bundle.bundle_id
    assert other.bundle_id != bundle.bundle_id


def test_metrics_can_be_added_and_the_id_stays(bundle):
    rated = add_metrics(bundle.path, {"return_mean": 870.0})
    assert (rated.bundle_id, rated.manifest.metrics) == (bundle.bundle_id, {"return_mean": 870.0})
    assert not list(bundle.path.glob(".manifest*"))


def test_altered_file_is_refused_by_name(bundle):
    (bundle.path / "graphs" / "policy.onnx").write_text("altered")
    with pytest.raises(BundleError, match=r"graphs/policy\.onnx does not match its digest.*altered"):
        load_bundle(bundle.path)


def test_missing_file_is_refused_by_name(bundle):
    (bundle.path / "graphs" / "refine.onnx").unlink()
    with pytest.raises(BundleError, match=r"half-written bundle: graphs/refine\.onnx is missing"):
        load_bundle(bundle.path)


def test_export_without_a_graph_is_refused_and_replaces_nothing(bundle):
    contract = cart()
    with pytest.raises(BundleError, match=r"lists no prior"):
        write_bundle(bundle.path, manifest_for(contract), filler(contract, leave_out=("prior",)))
    assert load_bundle(bundle.path).bundle_id == bundle.bundle_id


def test_a_failing_export_leaves_the_old_bundle_and_no_litter(bundle):
    def fail(folder):
        (folder / "graphs").mkdir()
        raise KeyboardInterrupt

    before = load_bundle(bundle.path).bundle_id
    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle.path, manifest_for(cart()), fail)
    assert load_bundle(bundle.path).bundle_id == before
    assert [item.name for item in bundle.path.parent.iterdir()] == ["cart"]


def test_a_new_export_replaces_the_old_one_whole(bundle):
    contract = cart()
    new = write_bundle(bundle.path, manifest_for(contract), filler(contract, text="new"))
    assert new.bundle_id != bundle.bundle_id
    assert load_bundle(bundle.path).graph("heads").read_text() == "new heads"
    assert [item.name for item in bundle.path.parent.iterdir()] == ["cart"]


def test_bundle_for_another_contract_is_refused_naming_the_field(bundle):
    with pytest.raises(ContractError, match=r"action\.high"):
        load_bundle(bundle.path, cart(high=[2]))


def test_tightened_limits_still_fit(bundle):
    tight = cart(limit_high=[0.5])
    assert load_bundle(bundle.path, tight).contract.action.limit_high == (0.5,)


def test_swapped_contract_file_is_refused(bundle):
    cart(high=[3]).save(bundle.path / "contract.yaml")
    with pytest.raises(BundleError, match=r"contract\.yaml does not match its digest"):
        load_bundle(bundle.path)


def test_contract_that_disagrees_with_the_manifest_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"manifest\.json says 0123"):
        write_bundle(tmp_path / "cart", manifest_for(cart(), contract_hash="0123"), filler(cart()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.update(format=99), "format: 99 is not supported"),
        (lambda data: data.pop("planner"), r"manifest\.json: planner: is missing"),
        (lambda data: data.pop("latent"), r"manifest\.json: latent: is missing"),
        (lambda data: data.update(initial_latent=[0.5]), "initial_latent: must have 2 entries"),
        (lambda data: data["planner"].update(horizons=3), "planner.horizons: unknown field"),
        (lambda data: data["planner"].update(samples="all"), "planner.samples: must be a whole number"),
        (lambda data: data["planner"].update(temperature=0), "planner.temperature: must be above 0"),
        (lambda data: data.update(discount="much"), "discount: must be a finite number"),
        (lambda data: data.update(initial_latent=[0.5, 10**400]), r"initial_latent\[1\]: must be a finite number"),
        (lambda data: data.update(name=7), "name: must be text"),
        (lambda data: data.update(metrics=[]), "metrics: must be a table"),
        (lambda data: data["parity"].update(prior=None), "parity.prior: must be a finite number"),
        (lambda data: data["files"].update({"../../etc/passwd": "0"}), "files: .*passwd' is no path inside a bundle"),
        (lambda data: data["files"].update({"/etc/passwd": "0"}), "files: .*passwd' is no path inside a bundle"),
        (lambda data: data["files"].update({"a\0b": "0"}), "files: .* is no path inside a bundle"),
        (lambda data: data["files"].update({"graphs/policy.onnx": 0}), "files.graphs/policy.onnx: must be text"),
        (lambda data: data["files"].update({"a" * 5000: "0"}), "cannot be read: File name too long"),
    ],
)
def test_malformed_manifest_is_refused_with_the_reason(bundle, change, reason):
    edit_manifest(bundle.path, change)
    with pytest.raises(BundleError, match=reason):
        load_bundle(bundle.path)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"not a bundle: it has no manifest\.json"):
        load_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(tmp_path)


def test_fields_of_a_later_version_are_ignored(bundle):
    edit_manifest(bundle.path, lambda data: data.update(colour="blue"))
    assert load_bundle(bundle.path).bundle_id == bundle.bundle_id


def test_a_manifest_of_brackets_alone_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read"):
        load_bundle(tmp_path)
