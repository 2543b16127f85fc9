"""The group rules: which rows may enter the loss."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rlvr_cpp.groups import live_rows  # noqa: E402

NAN = float("nan")
VECTORS = json.loads((Path(__file__).parents[1] / "data" / "policy_losses.json").read_text())
reward = st.sampled_from([0.0, 0.3, 0.475, 0.65, 1.0, NAN])


def rows(*rewards, group_size):
    return live_rows(torch.tensor(rewards), group_size)


def test_vector_of_discarded_groups():
    vector = VECTORS["dapo_discard"]
    assert rows(*vector["rewards"], group_size=4).mask.int().tolist() == vector["keep"]


@pytest.mark.parametrize("value", [row["reward"] for row in VECTORS["ties_float32"]])
def test_equal_rewards_are_tied_whatever_float32_makes_of_their_deviation(value):
    live = live_rows(torch.full((8,), value), 8)
    assert (live.kept, live.tied) == (0, 1)
    assert not live.mask.any()


def test_an_unscorable_row_leaves_and_its_group_stays():
    live = rows(0.0, NAN, 0.3, 1.0, group_size=4)
    assert live.mask.tolist() == [True, False, True, True]
    assert (live.kept, live.tied, live.infra) == (1, 0, 0)


def test_a_group_with_one_scorable_member_is_infrastructure_not_a_tie():
    live = rows(NAN, NAN, NAN, 1.0, group_size=4)
    assert not live.mask.any()
    assert (live.kept, live.tied, live.infra) == (0, 0, 1)


@given(st.lists(st.tuples(reward, reward, reward, reward), min_size=1, max_size=6))
def test_every_group_is_counted_once_and_unscorable_rows_are_never_live(groups):
    rewards = torch.tensor(groups).flatten()
    live = live_rows(rewards, 4)
    assert live.kept + live.tied + live.infra == len(groups)
    assert not (live.mask & rewards.isnan()).any()
    for i in range(len(groups)):
        kept = rewards[4 * i : 4 * i + 4][live.mask[4 * i : 4 * i + 4]]
        assert len(kept) == 0 or kept.max() > kept.min()


@given(st.lists(reward, min_size=8, max_size=8), st.permutations(range(4)))
def test_order_within_a_group_does_not_matter(rewards, order):
    shuffled = torch.tensor(rewards).view(2, 4)[:, list(order)].flatten()
    before, after = live_rows(torch.tensor(rewards), 4), live_rows(shuffled, 4)
    assert (before.kept, before.tied, before.infra) == (after.kept, after.tied, after.infra)
    assert torch.equal(before.mask.view(2, 4)[:, list(order)].flatten(), after.mask)
