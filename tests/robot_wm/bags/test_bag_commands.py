"""The commands: figures as JSON, one clear sentence and exit status 1 on bad input."""

import json

import pytest

from bag_tools import drive, record, robot
from robot_wm.cli import main


@pytest.fixture
def run(capsys):
    """Run the program; return its exit status, figures (or None) and the sentence on standard error."""

    def call(*words):
        with pytest.raises(SystemExit) as exit_:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return exit_.value.code, json.loads(out.splitlines()[-1]) if "--json" in words else out, err.strip()

    return call


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return record(tmp_path_factory.mktemp("bags") / "bag", drive(2.0), robot())


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    path = tmp_path_factory.mktemp("contracts") / "arm.yaml"
    robot().save(path)
    return path


def test_bags_info(run, bag, contract):
    code, figures, _ = run("bags", "info", bag, "--contract", contract, "--json")
    assert code == 0
    assert figures["messages"] == 201 + 200 + 100 + 2
    assert figures["topics"]["/joint_states"] == {
        "type": "sensor_msgs/msg/JointState",
        "count": 201,
        "rate_hz": 100.0,
        "longest_gap_s": 0.01,
    }
    assert figures["events"] == ["0.000 s start", "2.000 s end"]
    assert figures["contract"] == f"arm {robot().hash}"
    assert figures["episode_rows"] == [101]
    assert figures["aligned"]["masked"] == {"position": 0.0, "velocity": 0.0}
    assert run("bags", "info", bag)[0] == 0


def test_bags_salvage(run, bag, tmp_path):
    code, figures, _ = run("bags", "salvage", bag, tmp_path / "out", "--json")
    assert (code, figures["messages"]) == (0, 503)
    code, _, error = run("bags", "salvage", bag, tmp_path / "out")
    assert code == 1
    assert "exists already" in error


def test_bad_bags_are_one_sentence(run, bag, contract, tmp_path):
    file = bag / "bag_0.mcap"
    (tmp_path / "cut.mcap").write_bytes(file.read_bytes()[:3000])
    code, _, error = run("bags", "info", tmp_path / "cut.mcap")
    assert code == 1
    assert error.startswith("robot-wm: ")
    assert "salvage" in error
    assert "\n" not in error
    assert run("bags", "info", tmp_path / "nothing")[0] == 1


def test_contract_show_and_check(run, bag, contract):
    code, figures, _ = run("contract", "show", contract, "--json")
    assert (code, figures["hash"], figures["observation_size"]) == (0, robot().hash, 4)
    code, figures, _ = run("contract", "check", contract, "--bag", bag, "--json")
    assert (code, figures["aligned"]["episodes"]) == (0, 1)


def test_contract_check_names_what_is_wrong(run, bag, tmp_path):
    (tmp_path / "bad.yaml").write_text("name: x\nmodel_hz: -1\nobservations: []\naction: {}\n")
    code, _, error = run("contract", "check", tmp_path / "bad.yaml")
    assert code == 1
    assert "observations: at least one is needed" in error
    robot(model_hz=25.0).save(tmp_path / "slow.yaml")
    code, _, error = run("contract", "check", tmp_path / "slow.yaml", "--bag", bag)
    assert code == 1
    assert "model_hz" in error


def test_contract_new(run, bag, tmp_path):
    out = tmp_path / "new.yaml"
    code, figures, _ = run("contract", "new", bag, "--out", out, "--json")
    assert (code, figures["action_size"]) == (0, 2)
    assert run("contract", "check", out, "--json")[0] == 0
    code, _, error = run("contract", "new", bag, "--out", out)
    assert code == 1
    assert "never written over" in error
    code, _, error = run("contract", "new", bag, "--out", tmp_path / "no/folder/x.yaml")
    assert code == 1
    assert "cannot be written" in error


def test_bench_bags(run, tmp_path):
    code, figures, _ = run("bench", "bags", "--seconds", "1", "--folder", tmp_path, "--json")
    assert code == 0
    for name in ("write_messages_per_s", "write_ms_p50", "write_ms_p99", "read_messages_per_s", "align_rows_per_s"):
        assert figures[name] > 0.0
    assert figures["messages"] == 1000
    assert figures["machine"]["cores"] >= 1
