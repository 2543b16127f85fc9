"""Limits of a task's own: what is none is refused, what is given stands in the place of the usual."""

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.verifier.limits import RunLimits
from rlvr_sandbox import Limits

USUAL = Limits(cpu=10.0, wall=21.0)


def test_without_limits_of_its_own_a_run_has_the_usual_ones():
    assert RunLimits().within(USUAL) == USUAL


def test_what_a_task_says_stands_in_the_place_of_the_usual():
    limits = RunLimits(time=0.5, memory=256, output=100, stack=8).within(USUAL)
    assert (limits.cpu, limits.wall, limits.memory) == (0.5, 2.0, 256 << 20)
    assert (limits.output, limits.stack) == (100 << 10, 8 << 20)


def test_a_stack_may_fill_the_memory_that_a_task_gives():
    assert RunLimits(memory=512).within(USUAL).stack == 512 << 20
    assert RunLimits(memory=16).within(USUAL).stack == USUAL.stack


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"time": 0}, "time_limit is 0: it must be a number from 0.01 to 86400"),
        ({"time": "2 s"}, "time_limit is '2 s'"),
        ({"time": float("nan")}, "time_limit is nan"),
        ({"memory": 4}, "memory_limit is 4: it must be a whole number from 16 to"),
        ({"memory": 256.5}, "memory_limit is 256.5"),
        ({"output": True}, "output_limit is True"),
        ({"stack": -1}, "stack_limit is -1"),
    ],
)
def test_what_is_no_limit_is_named(limits, words):
    with pytest.raises(UserError) as caught:
        RunLimits(**limits)
    assert words in str(caught.value)
