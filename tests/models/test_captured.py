"""What surrounds a captured update; the capture itself needs a GPU."""

from typing import NamedTuple

import pytest
import torch

from models.captured import leaves, to_device
from models.feed import ahead
from models.train_run import device_named
from robot_wm.errors import RunError


class Pair(NamedTuple):
    first: torch.Tensor
    second: tuple[torch.Tensor, ...] = ()
    third: torch.Tensor | None = None


def test_tensors_are_found_in_order_and_copied_into_the_same_tuples():
    pair = Pair(torch.zeros(2), (torch.ones(1), torch.full((3,), 2.0)))
    assert [len(leaf) for leaf in leaves((pair, None, torch.zeros(4)))] == [2, 1, 3, 4]
    copied = to_device(pair, torch.device("cpu"))
    assert isinstance(copied, Pair) and copied.third is None
    copied.second[0].fill_(7.0)
    assert pair.second[0].item() == 1.0


def test_draws_come_in_order_and_none_is_left_over():
    drawn = []

    def draw():
        drawn.append(len(drawn))
        return drawn[-1]

    assert list(ahead(draw, 3)) == [0, 1, 2]
    assert list(ahead(draw, 0)) == []
    assert next(ahead(draw, 1)) == 3
    assert drawn == [0, 1, 2, 3]


def test_errors_of_a_draw_are_handed_on():
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda: 1 // 0, 2))


def test_an_unknown_or_missing_device_is_refused():
    assert device_named("cpu").type == "cpu"
    with pytest.raises(RunError, match="--device tpu: choose cpu or cuda"):
        device_named("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(RunError, match="finds no GPU here"):
            device_named("cuda")
