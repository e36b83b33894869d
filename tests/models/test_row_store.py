"""Rows survive crashes, are shared between processes, and are never half there."""

import json

import numpy as np
import pytest

from models.row_store import RowStore, Stored
from robot_wm.errors import BagError


def rows(count, value):
    return np.full((count, 3), value, np.float32)


def fill(store, bag, *episodes):
    store.append(bag, episodes, f"/bags/{bag}", ["fingerprint"], f"hash of {bag}")


def test_episodes_come_back_where_the_index_says(tmp_path):
    store = RowStore(tmp_path / "cache", 3)
    fill(store, "a", rows(4, 1.0), rows(2, 2.0))
    fill(store, "b", rows(3, 3.0))
    assert store.episodes("a") == [Stored(0, 4, "/bags/a"), Stored(4, 2, "/bags/a")]
    assert store.episodes("b") == [Stored(6, 3, "/bags/b")]
    assert store.rows[:, 0].tolist() == [1.0] * 4 + [2.0] * 2 + [3.0] * 3
    assert store.episodes("c") is None


def test_another_process_sees_and_extends_the_same_rows(tmp_path):
    first, second = RowStore(tmp_path, 3), RowStore(tmp_path, 3)
    fill(first, "a", rows(4, 1.0))
    fill(second, "b", rows(2, 2.0))
    assert second.episodes("a") == first.episodes("a")
    fill(first, "b", rows(2, 9.0))  # stored meanwhile by the other one: not stored twice
    assert first.episodes("b") == second.episodes("b") == [Stored(4, 2, "/bags/b")]
    assert first.rows[:, 0].tolist() == [1.0] * 4 + [2.0] * 2


def test_rows_of_an_append_that_was_killed_are_overwritten(tmp_path):
    fill(RowStore(tmp_path, 3), "a", rows(4, 1.0))
    with (tmp_path / "rows.f32").open("ab") as file:
        file.write(b"half a row")
    store = RowStore(tmp_path, 3)
    fill(store, "b", rows(2, 2.0))
    assert store.rows[:, 0].tolist() == [1.0] * 4 + [2.0] * 2


def test_a_content_hash_is_remembered_while_the_files_look_the_same(tmp_path):
    fill(RowStore(tmp_path, 3), "a", rows(1, 1.0))
    store = RowStore(tmp_path, 3)
    assert store.hash_of("/bags/a", ["fingerprint"]) == "hash of a"
    assert store.hash_of("/bags/a", ["another"]) is None
    assert store.hash_of("/bags/b", ["fingerprint"]) is None


def test_a_cache_that_cannot_be_used_is_named(tmp_path):
    fill(RowStore(tmp_path / "a", 3), "a", rows(1, 1.0))
    with pytest.raises(BagError, match="holds rows of 3 numbers, 4 are needed"):
        RowStore(tmp_path / "a", 4)
    (tmp_path / "a/index.json").write_text("{")
    with pytest.raises(BagError, match="index.json is damaged; delete this cache folder"):
        RowStore(tmp_path / "a", 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(BagError, match="cannot keep aligned bags here"):
        RowStore(tmp_path / "file/cache", 3)


def test_the_index_is_replaced_as_a_whole(tmp_path):
    store = RowStore(tmp_path, 3)
    fill(store, "a", rows(1, 1.0))
    assert json.loads((tmp_path / "index.json").read_text())["rows"] == 1
    assert not (tmp_path / ".index.json").exists()


SHAPE = (2, 3, 1)


def see(store, bag, *values, delays=((0.08, 0.1),)):
    pictures = [np.full((4, *SHAPE), value, np.uint8) for value in values]
    store.append(
        bag, [rows(4, float(v)) for v in values], f"/bags/{bag}", ["f"], "h", {"eye": pictures}, [delays] * len(values)
    )


def test_images_lie_beside_their_rows_with_their_delays(tmp_path):
    store = RowStore(tmp_path, 3, {"eye": SHAPE})
    see(store, "a", 1, 2)
    see(store, "b", 3)
    again = RowStore(tmp_path, 3, {"eye": SHAPE})
    for found in (store, again):
        assert found.images["eye"].dtype == np.uint8
        assert found.images["eye"].shape == (12, *SHAPE)
        assert found.images["eye"][:, 0, 0, 0].tolist() == [1] * 4 + [2] * 4 + [3] * 4
        assert found.episodes("b") == [Stored(8, 4, "/bags/b", ((0.08, 0.1),))]


def test_images_of_an_append_that_was_killed_are_overwritten(tmp_path):
    see(RowStore(tmp_path, 3, {"eye": SHAPE}), "a", 1)
    with (tmp_path / "image_eye.u8").open("ab") as file:
        file.write(b"half")
    store = RowStore(tmp_path, 3, {"eye": SHAPE})
    see(store, "b", 2)
    assert store.images["eye"][:, 1, 2, 0].tolist() == [1] * 4 + [2] * 4


def test_a_store_without_images_is_as_it_was(tmp_path):
    fill(RowStore(tmp_path, 3), "a", rows(1, 1.0))
    assert json.loads((tmp_path / "index.json").read_text())["bags"] == {
        "a": [{"start": 0, "length": 1, "source": "/bags/a"}]
    }
    assert {file.name for file in tmp_path.iterdir()} == {"rows.f32", "index.json", "lock"}
