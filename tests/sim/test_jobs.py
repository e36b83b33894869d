"""Work side by side: results in the order of the items, each reported as it is done, the first error raised."""

import math

import pytest

from sim.jobs import side_by_side


def test_results_come_in_the_order_of_the_items_and_each_is_reported_once():
    seen = []
    assert side_by_side(math.sqrt, [16.0, 4.0, 9.0, 4.0], 2, seen.append) == [4.0, 2.0, 3.0, 2.0]
    assert sorted(seen) == [2.0, 2.0, 3.0, 4.0]


def test_the_first_error_is_raised_here():
    with pytest.raises(ValueError, match="math domain error|expected a nonnegative"):
        side_by_side(math.sqrt, [-1.0, 4.0], 1)
