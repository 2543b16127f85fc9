"""The group rules: which rows may enter the loss."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.training.config import GRPOConfig
from rlvr_cpp.training.groups import group_advantages, group_signal, live_rows, overlong_penalty

NAN = float("nan")
VECTORS = json.loads((Path(__file__).parents[2] / "data" / "policy_losses.json").read_text())
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


# Advantages

INPUTS = VECTORS["inputs"]
CONVENTIONS: dict[str, Any] = {
    "ddof1_eps1e-4 (TRL)": {},
    "ddof1_eps1e-6 (verl, slime)": {"eps": 1e-6},
    "ddof1_eps1e-9 (OpenRLHF)": {"eps": 1e-9},
    "ddof0_eps1e-8 (DeepSeekMath text / numpy.std, AReaL unbiased=False)": {"ddof": 0, "eps": 1e-8},
    "ddof0_eps1e-6 (rLLM)": {"ddof": 0, "eps": 1e-6},
    "mean_only (Dr.GRPO, nanochat)": {"scale": False},
}


@pytest.mark.parametrize("name", INPUTS["advantages_by_convention"])
def test_vectors_of_advantages(name):
    found = group_advantages(torch.tensor(INPUTS["rewards"], dtype=torch.float64), 4, **CONVENTIONS[name])
    assert found.tolist() == pytest.approx(INPUTS["advantages_by_convention"][name], abs=1e-12)


def test_vector_of_advantages_with_a_tied_group():
    vector = VECTORS["dapo_discard"]
    found = group_advantages(torch.tensor(vector["rewards"], dtype=torch.float64), 4)
    assert found.tolist() == pytest.approx(vector["adv"], abs=1e-12)


@pytest.mark.parametrize("row", VECTORS["ties_float32"])
def test_a_tie_has_exactly_no_advantage(row):
    for dtype in (torch.float32, torch.float64):
        assert not group_advantages(torch.full((row["G"],), row["reward"], dtype=dtype), row["G"]).any()


@given(st.lists(reward, min_size=8, max_size=8))
def test_advantages_of_a_group_add_up_to_nothing_and_the_unscorable_have_none(rewards):
    found = group_advantages(torch.tensor(rewards), 4)
    assert torch.allclose(found.view(2, 4).sum(dim=1), torch.zeros(2, dtype=torch.float64), atol=1e-9)
    assert not found[torch.tensor(rewards).isnan()].any()


@given(st.lists(reward.filter(lambda x: x == x), min_size=4, max_size=4))
def test_an_unscorable_member_does_not_shift_the_others(rewards):
    whole = group_advantages(torch.tensor([*rewards, NAN]), 5)[:4]
    assert torch.allclose(whole, group_advantages(torch.tensor(rewards), 4), atol=1e-12)


# Length


def test_vector_of_the_overlong_table():
    table = VECTORS["overlong"]
    lengths, penalties = zip(*table["table"], strict=True)
    found = overlong_penalty(torch.tensor(lengths), table["l_max"], table["l_cache"])
    assert found.tolist() == pytest.approx(list(penalties), abs=1e-12)


def test_the_penalty_for_length_moves_advantages_and_never_makes_a_tie_count():
    algorithm = GRPOConfig(group_size=4, max_gen_len=100, overlong_buffer=20, overlong_penalty=0.5)
    tied = group_signal([0.3] * 4, [0.3] * 4, [10, 10, 100, 100], [False] * 4, algorithm)
    assert tied.rows.kept == 0
    mixed = group_signal([0.0, 0.3, 0.3, 1.0], [0.0, 0.3, 0.3, 1.0], [10, 10, 100, 10], [False] * 4, algorithm)
    assert mixed.advantages[2] < mixed.advantages[1]


def test_a_masked_truncated_completion_leaves_loss_and_baseline():
    algorithm = GRPOConfig(group_size=4, truncated="mask")
    rewards, truncated = [0.0, 0.3, 1.0, 0.0], [False, False, False, True]
    signal = group_signal(rewards, rewards, [5] * 4, truncated, algorithm)
    assert signal.rows.mask.tolist() == [True, True, True, False]
    alone = group_advantages(torch.tensor(rewards[:3], dtype=torch.float64), 3)
    assert signal.advantages[:3].tolist() == pytest.approx(alone.tolist())


def test_shaping_cannot_bring_a_tied_group_back():
    algorithm = GRPOConfig(group_size=4)
    signal = group_signal([1.0] * 4, [0.9, 0.95, 1.0, 1.0], [5] * 4, [False] * 4, algorithm)
    assert (signal.rows.kept, signal.rows.tied) == (0, 1)


# Which optimizer step a row belongs to


@given(st.lists(st.tuples(reward, reward, reward, reward), min_size=1, max_size=8), st.integers(1, 4))
def test_kept_groups_are_dealt_whole_and_evenly(groups, updates):
    live = live_rows(torch.tensor(groups).flatten(), 4)
    step = live.update_of_rows(4, updates)
    assert torch.equal(step >= 0, live.mask)
    shares: list[Any] = []
    for group in range(len(groups)):
        mine = set(step[4 * group : 4 * group + 4].tolist()) - {-1}
        assert len(mine) <= 1
        shares += mine
    counts = [shares.count(number) for number in range(updates)]
    assert max(counts) - min(counts) <= 1
