"""What is looked up ahead is what the sampler then gives."""

import pytest
from trl.trainer.utils import RepeatSampler

from rlvr_cpp.training.batches import TaskOrder


@pytest.mark.parametrize(("tasks", "groups", "size", "repeats"), [(7, 2, 3, 2), (8, 4, 2, 1), (5, 5, 1, 3)])
def test_each_rollouts_tasks_are_known_from_the_start_of_its_epoch(tasks, groups, size, repeats):
    order = TaskOrder(RepeatSampler(range(tasks), size, groups, repeats, shuffle=True, seed=3))
    following = None
    for _ in range(3):
        given = list(iter(order))
        for rollout in range(tasks // groups):
            rows = given[rollout * groups * size * repeats :][: groups * size]
            assert order.rollout(rollout) == list(dict.fromkeys(rows))
        assert following in (None, order.rollout(0))
        following = order.rollout(tasks // groups)  # of the next epoch, before it begins


def test_an_epoch_that_was_looked_at_before_it_began_is_the_one_that_comes():
    looked, plain = (TaskOrder(RepeatSampler(range(8), 2, 4, 1, shuffle=True, seed=3)) for _ in range(2))
    for _ in range(3):
        assert list(iter(looked)) == list(iter(plain))
        looked.rollout(2)
        looked.rollout(3)


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
