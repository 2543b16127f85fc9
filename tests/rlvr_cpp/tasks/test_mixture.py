"""Tasks of several sources, drawn by weights."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp import UserError
from rlvr_cpp.tasks.mixture import Mixture, describe_sources, mixture_of
from rlvr_cpp.tasks.sources import Source
from rlvr_cpp.tasks.task import Task

WEIGHTS = st.lists(st.floats(0.05, 20), min_size=1, max_size=4)


def mixture(weights, sizes, seed="0") -> Mixture:
    names = [f"s{n}" for n in range(len(weights))]
    tasks = {name: [f"{name}/{n}" for n in range(size)] for name, size in zip(names, sizes, strict=False)}
    return Mixture(dict(zip(names, weights, strict=True)), tasks, seed)


def counts(ids) -> Counter:
    return Counter(name.partition("/")[0] for name in ids)


@given(WEIGHTS, st.integers(1, 8), st.integers(1, 12))
def test_of_every_stretch_each_source_has_its_share(weights, size, steps):
    drawn = mixture(weights, [40] * 4)
    given = [name for _ in range(steps) for name in drawn.take(size)]
    for name, share in drawn.shares.items():
        assert abs(counts(given)[name] - share * len(given)) < len(weights)


@given(WEIGHTS, st.lists(st.integers(1, 6), min_size=4, max_size=4), st.integers(1, 12), st.integers(1, 8))
def test_no_task_comes_twice_in_a_step(weights, sizes, size, steps):
    drawn = mixture(weights, sizes)
    most = sum(sizes[: len(weights)])
    for _ in range(steps):
        step = drawn.take(min(size, most))
        assert len(set(step)) == len(step) == min(size, most)


def test_every_task_of_a_source_comes_before_any_comes_again():
    drawn = mixture([3, 1], [5, 7])
    given = [name for _ in range(28) for name in drawn.take(1)]
    for name, size in (("s0", 5), ("s1", 7)):
        own = [one for one in given if one.startswith(name)]
        rounds = [own[start : start + size] for start in range(0, len(own) - size + 1, size)]
        assert all(len(set(part)) == size for part in rounds)
        assert len(rounds) == 1 or rounds[0] != rounds[1]


def test_a_seed_and_a_number_of_draws_say_what_is_next():
    whole, other, late = (mixture([2, 1], [6, 6], seed) for seed in ("1", "2", "1"))
    steps = [whole.take(4) for _ in range(9)]
    for step in steps[:5]:
        assert late.take(4) == step
    assert [late.take(4) for _ in range(4)] == steps[5:]
    assert [other.take(4) for _ in range(9)] != steps
    refills = [late.again("refill").take(4) for _ in range(2)]
    assert refills[0] == refills[1] != steps[0]


def sources(*weights, tasks=3):
    return [
        Source(f"s{n}", tuple(Task(f"s{n}/{i}", "", "", "f") for i in range(tasks)), weight)
        for n, weight in enumerate(weights)
    ]


def test_only_weights_make_a_mixture_and_only_of_what_is_trained_on():
    given = sources(1.0, 3.0)
    training = [*given[0].tasks, given[1].tasks[1]]
    assert mixture_of(sources(None, None), training, 0) is None
    assert {*mixture_of(given, training, 0).take(4)} == {task.task_id for task in training}
    with pytest.raises(UserError, match=r"s1 has a weight in tasks\.source and no training task is left of it"):
        mixture_of(given, given[0].tasks, 0)


def test_a_share_that_a_source_cannot_give_is_refused():
    wide = mixture_of(sources(3.0, 1.0), [task for source in sources(3.0, 1.0) for task in source.tasks], 0)
    wide.check(4)
    with pytest.raises(UserError, match=r"give s0 3\.8 of 5 prompts a step and it has 3 training tasks"):
        wide.check(5)


def test_what_is_mixed_is_told():
    training = [task for source in sources(1, 1) for task in source.tasks][:-1]
    for weights, parts in (((None, None), ("60.0%", "40.0%")), ((1.0, 3.0), ("25.0%", "75.0%"))):
        assert describe_sources(sources(*weights), training) == [
            f"s0: 3 training tasks, {parts[0]} of the prompts",
            f"s1: 2 training tasks, {parts[1]} of the prompts",
        ]
