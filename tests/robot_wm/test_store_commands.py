"""`robot-wm models`: what each command prints, and that a refusal is one sentence."""

import json

import pytest

from robot_wm import cli, store_commands
from robot_wm.errors import BundleError
from test_store import make_bundle


@pytest.fixture
def checked(monkeypatch):
    """Stand-in for golden parity on this machine: remembers what it was given; `refuse` makes it fail."""
    state = {"seen": [], "refuse": ""}

    def checker(provider):
        def check(bundle):
            state["seen"].append((bundle.bundle_id, provider))
            if state["refuse"]:
                raise BundleError(state["refuse"])
            return {"bundle_id": bundle.bundle_id, "provider": provider}

        return check

    monkeypatch.setattr(store_commands, "_checker", checker)
    return state


@pytest.fixture
def run(capsys):
    def call(*words):
        with pytest.raises(SystemExit) as end:
            cli.main(["models", *map(str, words)])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture
def figures(run):
    def call(*words):
        code, out, err = run(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out.splitlines()[-1])

    return call


@pytest.fixture
def bundles(tmp_path):
    return [make_bundle(tmp_path / name, name) for name in ("one", "two")]


def test_a_bundle_goes_through_the_store_and_back(figures, bundles, checked, tmp_path):
    store = ("--store", tmp_path / "store")
    one, two = (bundle.bundle_id for bundle in bundles)
    assert figures("push", bundles[0].path, *store)["previous"] is None
    assert figures("push", bundles[1].path, *store, "--provider", "cpu")["previous"] == one
    assert checked["seen"] == [(one, "auto"), (two, "cpu")]
    listed = figures("list", *store)["bundles"]
    assert {key: (row["current"], row["previous"]) for key, row in listed.items()} == {
        one: (False, True),
        two: (True, False),
    }
    pulled = figures("pull", "current", "--to", tmp_path / "robot", *store)
    assert (pulled["pulled"], pulled["path"]) == (two, str(tmp_path / "robot"))
    assert figures("rollback", *store)["current"] == one
    assert figures("verify", "current", *store)["bundle_id"] == one
    assert figures("verify", bundles[1].path)["bundle_id"] == two


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rollback",), "there is no previous bundle"),
        (("pull", "walker"), "no bundle 'walker'; it holds nothing"),
        (("verify", "current"), "has no current bundle; push one first"),
    ],
)
def test_an_empty_store_is_one_sentence_and_status_one(run, tmp_path, words, sentence):
    code, out, err = run(*words, "--store", tmp_path / "store")
    assert (code, out) == (1, "")
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_what_is_no_bundle_is_one_sentence(run, tmp_path):
    for words in (("push", tmp_path, "--store", tmp_path / "store"), ("verify", tmp_path)):
        code, _, err = run(*words)
        assert (code, len(err.splitlines())) == (1, 1)
        assert "not a bundle" in err


def test_a_bundle_that_this_machine_computes_wrongly_is_not_pushed(run, bundles, checked, tmp_path):
    checked["refuse"] = "graph refine differs from its golden outputs"
    code, _, err = run("push", bundles[0].path, "--store", tmp_path / "store")
    assert (code, "graph refine differs" in err) == (1, True)
    assert not (tmp_path / "store").exists()


def test_without_json_a_table_is_printed(run, bundles, checked, tmp_path):
    run("push", bundles[0].path, "--store", tmp_path / "store")
    code, out, _ = run("list", "--store", tmp_path / "store")
    assert code == 0
    assert bundles[0].bundle_id in out
