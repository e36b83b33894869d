"""A model store holds complete bundles only, and its pointers move as a whole, here and over ssh."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import slider_contract
from robot_wm.bundle import GRAPHS, Manifest, write_bundle
from robot_wm.errors import BundleError, ContractError, StoreError
from robot_wm.store import ModelStore
from robot_wm.store_files import LocalFiles, SshFiles, open_files

# Stand-in for ssh: drops options and host and runs the command in this machine's home directory. FAULT says what goes wrong.
SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done; shift 2
cd "$HOME" || exit 255
case "$FAULT" in
unreachable) echo "ssh: connect to host robot port 22: No route to host" >&2; exit 255 ;;
truncated) head -c 2048 | sh -c "$1" ;;
truncated_reply) sh -c "$1" | head -c 2048 ;;
*) exec sh -c "$1" ;;
esac
"""


def make_bundle(path, text="one", name="cart", contract=None):
    contract = contract or slider_contract()

    def fill(folder):
        contract.save(folder / "contract.yaml")
        (folder / "graphs").mkdir()
        for graph in GRAPHS:
            (folder / "graphs" / f"{graph}.onnx").write_text(f"{text} {graph} " * 100)

    manifest = Manifest(
        name=name,
        family="tdmpc2",
        size="nano",
        latent=2,
        initial_latent=(0.5, 0.5),
        discount=0.99,
        contract_hash=contract.hash,
        metrics={"return_mean": 870.0},
    )
    return write_bundle(path, manifest, fill)


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """The stand-in on PATH; the remote machine's home is `tmp_path / "home"`."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(SSH)
    program.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("FAULT", raising=False)
    return home


@pytest.fixture(params=["local", "ssh"])
def store(request, tmp_path):
    if request.param == "local":
        return ModelStore(tmp_path / "store")
    request.getfixturevalue("ssh")
    return ModelStore("pilot@robot:models/my store")


@pytest.fixture
def bundles(tmp_path):
    return [make_bundle(tmp_path / f"bundle{i}", text) for i, text in enumerate(("one", "two", "three"))]


def ids(store):
    return {entry.bundle_id for entry in store.list()}


def test_a_pushed_bundle_is_current_and_listed_with_what_its_manifest_says(store, bundles):
    store.push(bundles[0].path)
    (entry,) = store.list()
    assert entry.bundle_id == store.pointer("current") == bundles[0].bundle_id
    assert (entry.name, entry.size, entry.metrics) == ("cart", "nano", {"return_mean": 870.0})
    assert entry.contract_hash == bundles[0].contract.hash
    assert entry.pointers == ("current", "names/cart")
    assert store.pointer("previous") is None


def test_the_former_current_bundle_becomes_previous_and_rollback_goes_one_step(store, bundles):
    for bundle in bundles:
        store.push(bundle.path)
    assert store.pointer("previous") == bundles[1].bundle_id
    assert store.rollback() == bundles[1].bundle_id == store.pointer("current")
    with pytest.raises(StoreError, match="no previous bundle"):
        store.rollback()
    assert store.pointer("current") == bundles[1].bundle_id
    assert ids(store) == {bundle.bundle_id for bundle in bundles}


def test_pushing_the_current_bundle_again_keeps_the_previous_one(store, bundles):
    for bundle in (bundles[0], bundles[1], bundles[1]):
        store.push(bundle.path)
    assert store.pointer("previous") == bundles[0].bundle_id


def test_a_bundle_that_was_rolled_back_can_be_pushed_again(store, bundles):
    store.push(bundles[0].path)
    store.push(bundles[1].path)
    store.rollback()
    store.push(bundles[1].path)
    assert (store.pointer("current"), store.pointer("previous")) == (bundles[1].bundle_id, bundles[0].bundle_id)


@pytest.mark.parametrize("reference", ["current", "cart", "id", "beginning"])
def test_a_bundle_is_pulled_by_pointer_name_or_id(store, bundles, tmp_path, reference):
    store.push(bundles[0].path)
    bundle_id = bundles[0].bundle_id
    wanted = {"id": bundle_id, "beginning": bundle_id[:5]}.get(reference, reference)
    pulled = store.pull(wanted, tmp_path / "robot" / "cart", slider_contract())
    assert pulled.bundle_id == bundle_id
    assert pulled.graph("refine").read_bytes() == bundles[0].graph("refine").read_bytes()
    assert store.pull(wanted, tmp_path / "robot" / "cart").bundle_id == bundle_id


def test_pulling_replaces_another_bundle_as_a_whole(store, bundles, tmp_path):
    target = tmp_path / "robot"
    for bundle in bundles[:2]:
        store.push(bundle.path)
        assert store.pull("current", target).bundle_id == bundle.bundle_id
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".robot")] == []


def test_a_damaged_copy_is_fetched_again(store, bundles, tmp_path):
    store.push(bundles[0].path)
    pulled = store.pull("current", tmp_path / "cache")
    (tmp_path / "cache" / "contract.yaml").write_text("")  # as a power cut leaves it
    assert store.pull("current", tmp_path / "cache").bundle_id == pulled.bundle_id


def test_an_unknown_reference_lists_what_the_store_holds(store, bundles):
    store.push(bundles[0].path)
    with pytest.raises(StoreError, match=rf"no bundle 'walker'; it holds cart \({bundles[0].bundle_id}\)"):
        store.resolve("walker")
    with pytest.raises(StoreError, match="has no previous bundle"):
        store.resolve("previous")


def test_a_bundle_of_another_contract_is_not_pulled(store, bundles, tmp_path):
    store.push(bundles[0].path)
    with pytest.raises(ContractError, match="model_hz: 25"):
        store.pull("current", tmp_path / "robot", slider_contract(model_hz=25))
    assert not (tmp_path / "robot").exists()


def test_a_bundle_that_the_checker_refuses_is_not_stored(store, bundles):
    store.push(bundles[0].path)

    def refuse(bundle):
        raise BundleError("graph refine differs from its golden outputs")

    with pytest.raises(BundleError, match="refine"):
        store.push(bundles[1].path, refuse)
    assert (store.pointer("current"), ids(store)) == (bundles[0].bundle_id, {bundles[0].bundle_id})
    with pytest.raises(BundleError, match="refine"):
        store.verify("current", refuse)


def test_an_altered_bundle_is_neither_pushed_nor_verified(ssh, bundles, tmp_path):
    for location in (str(tmp_path / "store"), "robot:store"):
        store = ModelStore(location)
        store.push(bundles[0].path)
        assert store.verify("current", lambda bundle: bundle.bundle_id) == bundles[0].bundle_id
        root = tmp_path / "store" if "/" in location else ssh / "store"
        (root / "bundles" / bundles[0].bundle_id / "graphs" / "prior.onnx").write_text("altered")
        with pytest.raises(BundleError, match=r"graphs/prior.onnx does not match"):
            store.verify("current")
    bundles[1].graph("heads").write_text("altered")
    with pytest.raises(BundleError, match=r"graphs/heads.onnx"):
        store.push(bundles[1].path)


def test_a_whole_bundle_under_another_ones_id_is_refused(bundles, tmp_path):
    store = ModelStore(tmp_path / "store")
    store.push(bundles[0].path)
    stored = tmp_path / "store" / "bundles" / bundles[0].bundle_id
    shutil.rmtree(stored)
    shutil.copytree(bundles[1].path, stored)
    with pytest.raises(StoreError, match=f"is bundle {bundles[1].bundle_id}"):
        store.verify("current")


def test_a_name_that_is_no_file_name_is_refused(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", name="../../current")
    with pytest.raises(StoreError, match="cannot be a file's name"):
        ModelStore(tmp_path / "store").push(bundle.path)


def test_a_copy_that_breaks_off_changes_nothing(bundles, tmp_path, monkeypatch):
    store = ModelStore(tmp_path / "store")
    store.push(bundles[0].path)

    def full_disk(source, target, **_):
        shutil.copy(source / "contract.yaml", target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("robot_wm.store_files.shutil.copytree", full_disk)
    with pytest.raises(StoreError, match="No space left on device"):
        store.push(bundles[1].path)
    assert (store.pointer("current"), ids(store)) == (bundles[0].bundle_id, {bundles[0].bundle_id})
    assert len(list((tmp_path / "store" / "bundles").iterdir())) == 1


def test_a_push_that_is_killed_in_the_middle_of_the_copy_never_becomes_current(bundles, tmp_path):
    store = ModelStore(tmp_path / "store")
    store.push(bundles[0].path)
    script = f"""
import shutil, sys
import robot_wm.store_files as files
from robot_wm.store import ModelStore
def first_file_then_wait(source, target, **_):
    shutil.copy(source / "manifest.json", target)
    print("half", flush=True)
    sys.stdin.read()
files.shutil.copytree = first_file_then_wait
ModelStore({str(tmp_path / "store")!r}).push({str(bundles[1].path)!r})
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert (store.pointer("current"), ids(store)) == (bundles[0].bundle_id, {bundles[0].bundle_id})
    store.push(bundles[1].path)
    assert store.pointer("current") == bundles[1].bundle_id


def test_a_connection_that_breaks_off_during_a_push_changes_nothing(ssh, bundles, monkeypatch):
    store = ModelStore("robot:store")
    store.push(bundles[0].path)
    monkeypatch.setenv("FAULT", "truncated")
    with pytest.raises(StoreError, match=f"robot:store: cannot push {bundles[1].bundle_id}"):
        store.push(bundles[1].path)
    monkeypatch.delenv("FAULT")
    assert (store.pointer("current"), ids(store)) == (bundles[0].bundle_id, {bundles[0].bundle_id})
    assert len(list((ssh / "store" / "bundles").iterdir())) == 1


def test_a_connection_that_breaks_off_during_a_pull_leaves_no_bundle(ssh, bundles, tmp_path, monkeypatch):
    ModelStore("robot:store").push(bundles[0].path)
    files = SshFiles("robot", "store")
    (tmp_path / "robot").mkdir()
    monkeypatch.setenv("FAULT", "truncated_reply")
    with pytest.raises(StoreError, match="the copy broke off"):
        files.receive(bundles[0].bundle_id, tmp_path / "robot")
    with pytest.raises(StoreError, match="the copy broke off"):
        ModelStore("robot:store", files).pull("current", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_unreachable_machine_is_one_sentence(ssh, monkeypatch):
    monkeypatch.setenv("FAULT", "unreachable")
    with pytest.raises(
        StoreError, match=r"^pilot@robot:store: cannot read the pointers: ssh: connect to host robot.*No route"
    ):
        ModelStore("pilot@robot:store").resolve("current")


def test_a_machine_without_ssh_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="needs the program ssh"):
        ModelStore("robot:store").list()


def test_an_archive_cannot_write_outside_the_bundle(ssh, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../escaped"))
    monkeypatch.setattr(SshFiles, "_run", lambda *args: buffer.getvalue())
    with pytest.raises(StoreError, match=r"outside the bundle: \.\./escaped"):
        SshFiles("robot", "store").receive("1234", tmp_path)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("models/store", LocalFiles),
        (Path("robot:store"), LocalFiles),
        ("./robot:store", LocalFiles),
        ("-oProxyCommand=touch:store", LocalFiles),
        ("robot:store", SshFiles),
        ("pilot@robot.local:/var/models", SshFiles),
    ],
)
def test_a_location_with_a_host_is_remote(location, expected):
    assert type(open_files(location)) is expected


def test_a_remote_path_may_begin_at_home_or_at_the_root():
    assert open_files("robot:~/store").root == "store"
    assert open_files("robot:/var/models").root == "/var/models"


def test_an_ambiguous_beginning_is_refused(bundles, tmp_path):
    store = ModelStore(tmp_path / "store")
    store.push(bundles[0].path)
    folder = tmp_path / "store" / "bundles"
    shutil.copytree(folder / bundles[0].bundle_id, folder / (bundles[0].bundle_id[:11] + "_"))
    with pytest.raises(StoreError, match="more than one bundle"):
        store.resolve(bundles[0].bundle_id[:6])


def test_a_damaged_manifest_in_the_store_is_named(bundles, tmp_path):
    store = ModelStore(tmp_path / "store")
    store.push(bundles[0].path)
    (tmp_path / "store" / "bundles" / bundles[0].bundle_id / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=rf"bundle {bundles[0].bundle_id}: manifest.json is malformed"):
        store.list()


def test_an_empty_store_lists_nothing(tmp_path):
    assert ModelStore(tmp_path / "store").list() == ()


def test_two_names_have_their_own_pointer_and_share_current(tmp_path):
    store = ModelStore(tmp_path / "store")
    cart, walker = make_bundle(tmp_path / "a", "a"), make_bundle(tmp_path / "b", "b", name="walker")
    store.push(cart.path)
    store.push(walker.path)
    assert store.resolve("cart") == cart.bundle_id
    assert store.resolve("walker") == store.resolve("current") == walker.bundle_id
    assert replace(store.list()[0], metrics={}).pointers == ("names/cart", "previous")
