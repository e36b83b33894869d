"""Windows never cross an episode, the cache follows its keys, and data larger than memory works."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.dataset import Dataset, cache_key, columns
from robot_wm.bags.align import Options, align
from robot_wm.errors import BagError

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/robot_wm"))

from bag_tools import drive, drives, record, robot, robot_data  # noqa: E402


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    record(folder / "one", drives([1.0, 0.5], marks=("start", "failure")), robot())
    record(folder / "two", drive(0.2), robot())
    return [folder / "one", folder / "two"]


@pytest.fixture
def dataset(bags, tmp_path):
    return Dataset(bags, robot(), tmp_path / "cache")


def test_it_holds_every_episode_of_every_bag(dataset, bags):
    assert [e.length for e in dataset.episodes] == [51, 26, 11]
    assert len(dataset) == 88
    assert set(dataset.hashes) == {str(bag) for bag in bags}


def test_a_batch_has_the_shapes_of_the_contract(dataset):
    batch = dataset.sample(np.random.default_rng(0), 32, 6)
    shapes = {name: getattr(batch, name).shape for name in batch.__dataclass_fields__ if name != "images"}
    assert shapes == {
        "observation": (32, 6, 4),
        "mask": (32, 6, 2),
        "age": (32, 6, 2),
        "action": (32, 6, 2),
        "reward": (32, 6),
        "target": (32, 6, 4),
        "terminal": (32, 6),
        "valid": (32, 6),
        "begins": (32, 6),
        "rows": (32, 6),
    }
    assert all(getattr(batch, name).dtype == np.float32 for name in shapes if name != "rows")
    assert batch.images == ()


def test_windows_are_stretches_of_one_episode(dataset, bags):
    episodes = [episode for bag in bags for episode in align(bag, robot())]
    batch = dataset.sample(np.random.default_rng(0), 500, 8)
    assert (np.diff(batch.rows, axis=1) == 1).all()
    assert batch.valid.all()
    for i in range(500):
        at = int(batch.rows[i, 0])
        index = int(np.searchsorted([51, 77, 88], at, side="right"))
        first = at - [0, 51, 77][index]
        assert first + 8 <= len(episodes[index])
        for name in ("observation", "mask", "age", "action", "reward", "target"):
            assert np.array_equal(getattr(batch, name)[i], getattr(episodes[index], name)[first : first + 8])


def test_every_window_is_as_likely_as_another(dataset):
    batch = dataset.sample(np.random.default_rng(0), 40_000, 11)
    starts, counts = np.unique(batch.rows[:, 0], return_counts=True)
    assert starts.tolist() == [*range(41), *range(51, 67), 77]
    assert counts.min() > 0.75 * counts.mean()


def test_the_same_seed_draws_the_same_windows(dataset):
    first, second = (dataset.sample(np.random.default_rng(5), 16, 4).rows for _ in range(2))
    assert np.array_equal(first, second)


def test_an_episode_shorter_than_the_window_is_padded_with_valid_0(dataset):
    batch = dataset.window(np.array([77]), 20)
    assert batch.valid[0].tolist() == [1.0] * 11 + [0.0] * 9
    assert (batch.rows[0, 10:] == 87).all()
    assert dataset.sample(np.random.default_rng(0), 100, 20).valid.min() == 0.0


def test_a_failure_is_terminal_on_its_last_row_only(dataset):
    everything = dataset.window(np.array([0, 51, 77]), 51)
    failed = np.flatnonzero(everything.terminal[0])
    assert failed.tolist() == [50]
    assert everything.terminal[1][everything.valid[1] == 1].sum() == 1.0
    assert not everything.terminal[2].any()


def test_starts_cover_every_episode_by_the_stride(dataset):
    starts = dataset.starts(10, stride=5)
    assert starts.tolist() == [*range(0, 42, 5), *range(51, 68, 5), 77]
    assert dataset.window(starts, 10).valid.all()


def test_bags_are_added_while_training_goes_on(bags, tmp_path):
    dataset = Dataset(bags[:1], robot(), tmp_path)
    dataset.sample(np.random.default_rng(0), 4, 4)
    dataset.add(bags[1])
    assert len(dataset) == 88
    assert dataset.sample(np.random.default_rng(0), 400, 4).rows.max() == 87
    assert Dataset(bags, robot(), tmp_path).reports == []


def test_a_cached_bag_is_not_read_again(bags, tmp_path, monkeypatch):
    first = Dataset(bags, robot(), tmp_path)
    assert len(first.reports) == 2

    def refuse(*_):
        raise AssertionError("read again")

    monkeypatch.setattr("models.dataset.open_bag", refuse)
    monkeypatch.setattr("models.dataset.align_with_report", refuse)
    again = Dataset(bags, robot(), tmp_path)
    assert again.hashes == first.hashes
    rows = [d.sample(np.random.default_rng(0), 8, 4).observation for d in (first, again)]
    assert np.array_equal(*rows)


def test_a_bag_that_changed_under_its_name_is_read_again(tmp_path):
    record(tmp_path / "bag", drive(0.2), robot())
    assert len(Dataset([tmp_path / "bag"], robot(), tmp_path / "cache")) == 11
    (tmp_path / "bag").rename(tmp_path / "old")
    record(tmp_path / "bag", drive(0.4), robot())
    assert len(Dataset([tmp_path / "bag"], robot(), tmp_path / "cache")) == 21


def test_shifted_grids_multiply_the_windows(bags, tmp_path):
    once, twice = (Dataset(bags, robot(), tmp_path, phases=phases) for phases in (1, 2))
    assert len(twice.episodes) == 2 * len(once.episodes)
    assert [e.length for e in twice.episodes[:2]] == [51, 26]


def test_the_cache_key_follows_whatever_changes_the_rows(monkeypatch):
    options = Options()
    changes = [{"model_hz": 25.0}, {"reward": {"topic": ""}}, {"reward": {"function": "bag_tools:drive"}}]
    data = robot_data()
    for key, value in (("topic", "commands"), ("delay_s", 0.01), ("field", "data")):
        changes.append({"action": data["action"] | {key: value}})
    keys = [cache_key(robot(), options), *(cache_key(robot(**change), options) for change in changes)]
    keys += [cache_key(robot(), Options(gap_s=1.0)), cache_key(robot(), Options(phase=0.5))]
    assert len(set(keys)) == len(keys)
    assert cache_key(robot(name="other", motor_hz=400.0), options) == keys[0]


def test_editing_a_reward_function_changes_the_key(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for weight in (1, 2):
        (tmp_path / "edited_reward.py").write_text(
            f"def f(observation, action, contract):\n    return {weight} * action[:, 0]\n"
        )
        sys.modules.pop("edited_reward", None)
        keys.append(cache_key(robot(reward={"function": "edited_reward:f"}), Options()))
    sys.modules.pop("edited_reward", None)
    assert keys[0] != keys[1]


def test_no_bags_and_missing_bags_are_one_clear_sentence(tmp_path):
    with pytest.raises(BagError, match="no bags given"):
        Dataset([], robot(), tmp_path)
    with pytest.raises(BagError, match="nothing: there is no such bag"):
        Dataset([tmp_path / "nothing"], robot(), tmp_path)


def test_columns_fill_the_row_without_overlap():
    parts, width = columns(robot())
    taken = np.zeros(width, int)
    for part in parts.values():
        taken[part] += 1
    assert (taken == 1).all()


LARGER_THAN_MEMORY = """
import resource, sys
import numpy as np
from pathlib import Path
from bag_tools import robot
from models import dataset as data

folder, bag = Path(sys.argv[1]), Path(sys.argv[2])
contract = robot()
small = data.Dataset([bag], contract, folder)
store = small._store
big = np.ones((200_000, store.width), np.float32)
for i in range(20):  # 256 MB, written in pieces
    store.append(f"big {i}", [big], "big", [], "big")
    small._episodes += store.episodes(f"big {i}")
del big
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
used = int(status["VmData"].split()[0]) * 1024
limit = used + 100 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones(store.rows.size, np.float32)
except MemoryError:
    print("does not fit")
small.extend([bag])
rng = np.random.default_rng(0)
total = sum(float(small.sample(rng, 256, 8).observation.sum()) for _ in range(200))
print(len(small), store.rows.nbytes, np.isfinite(total))
"""


def test_a_dataset_larger_than_the_memory_allowed_is_sampled(bags, tmp_path):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/robot_wm")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LARGER_THAN_MEMORY, str(tmp_path / "cache"), str(bags[1])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["does not fit", f"{20 * 200_000 + 22} {(20 * 200_000 + 11) * 16 * 4} True"]


def test_windows_may_begin_before_their_episode_with_nothing_measured(dataset):
    batch = dataset.sample(np.random.default_rng(0), 400, 6, lead=4)
    before = batch.valid[:, 0] == 0
    assert 0.05 < before.mean() < 0.5
    assert batch.begins[before].sum(1).tolist() == [1.0] * before.sum()
    for mask, begins in zip(batch.mask[before], batch.begins[before], strict=True):
        first = int(begins.argmax())
        assert 1 <= first <= 4
        assert not mask[:first].any() and mask[first].any()
    assert not dataset.sample(np.random.default_rng(0), 400, 6).begins[:, 1:].any()
