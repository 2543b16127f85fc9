"""What is kept of a run and when it ends early follow from its evaluations alone."""

from math import nan

import pytest

from rlvr_cpp.training.guards.best import best_point, nothing_better


@pytest.mark.parametrize(
    ("rates", "best"),
    [([0.4, 0.5, 0.6], 2), ([0.4, 0.6, 0.6], 1), ([0.6, 0.4, 0.5], 0), ([nan, 0.1, nan], 1), ([nan], None), ([], None)],
)
def test_the_best_step_is_the_first_of_the_best(rates, best):
    point = best_point(list(enumerate(rates)))
    assert (point and point[0]) == best


@pytest.mark.parametrize(
    ("rates", "patience", "ends"),
    [
        ([0.4], 1, False),
        ([0.4, 0.4], 1, True),
        ([0.4, 0.5], 1, False),
        ([0.4, 0.5, 0.5], 2, False),
        ([0.4, 0.5, 0.5, 0.3], 2, True),
        ([0.4, 0.5, 0.3, 0.6], 2, False),
        ([0.4, nan, nan], 2, True),
        ([nan, nan, nan], 2, False),
        ([0.9] + [0.1] * 50, None, False),
    ],
)
def test_a_run_ends_when_nothing_better_came_for_as_long_as_its_patience(rates, patience, ends):
    assert nothing_better(list(enumerate(rates)), patience) == ends
