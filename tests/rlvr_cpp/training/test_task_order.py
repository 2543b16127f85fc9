"""What is looked up ahead is what the sampler then gives."""

import pytest
from trl.trainer.utils import RepeatSampler

from rlvr_cpp.training.batches import TaskOrder


@pytest.mark.parametrize(("tasks", "groups", "size", "repeats"), [(7, 2, 3, 2), (8, 4, 2, 1), (5, 5, 1, 3)])
def test_each_rollouts_tasks_are_known_from_the_start_of_its_epoch(tasks, groups, size, repeats):
    order = TaskOrder(RepeatSampler(range(tasks), size, groups, repeats, shuffle=True, seed=3))
    for _ in range(2):
        given = list(iter(order))
        for rollout in range(tasks // groups):
            rows = given[rollout * groups * size * repeats :][: groups * size]
            assert order.rollout(rollout) == list(dict.fromkeys(rows))
        assert order.rollout(tasks // groups) == []


@pytest.mark.parametrize(("tasks", "groups", "size", "repeats"), [(7, 2, 3, 2), (8, 4, 2, 1), (5, 5, 1, 3)])
def test_tasks_that_are_drawn_stand_as_trls_own_would(tasks, groups, size, repeats):
    drawn = iter(range(1000))
    sampler = RepeatSampler(range(tasks), size, groups, repeats, shuffle=False)
    order = TaskOrder(sampler, lambda count: [next(drawn) for _ in range(count)])
    epoch = list(sampler)
    assert list(iter(order)) == epoch
    steps = tasks // groups
    assert list(iter(order)) == [index + steps * groups for index in epoch]
    assert order.rollout(steps - 1) == list(range((2 * steps - 1) * groups, 2 * steps * groups))
    assert len(order) == len(epoch)
