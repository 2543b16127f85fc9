"""How live rows reach the forward passes: each exactly once, none that is dead, all passes alike."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.training.batches import deal, join_batches, pass_rows, pass_width, without_fillers

LENGTHS = torch.tensor([7 * n % 24 for n in range(24)])
updates_of_rows = st.lists(st.integers(-1, 2), min_size=1, max_size=24).map(torch.tensor)


@given(updates_of_rows, st.integers(1, 4))
def test_every_live_row_is_dealt_once_to_its_own_update(update, passes):
    width = pass_width(update, 3, passes)
    dealt = deal(update, LENGTHS[: len(update)], 3, passes, width)
    assert dealt.rows.shape == (3 * passes, width)
    for step in range(3):
        part = slice(step * passes, (step + 1) * passes)
        rows = dealt.rows[part][dealt.counts[part]].tolist()
        assert sorted(rows) == (update == step).nonzero().flatten().tolist()
        assert LENGTHS[rows].tolist() == sorted(LENGTHS[rows].tolist())


@given(updates_of_rows, st.integers(1, 4))
def test_a_process_alone_fills_up_no_pass(update, passes):
    dealt = deal(update, LENGTHS[: len(update)], 3, passes, pass_width(update, 3, passes))
    left = [without_fillers(*one) for one in zip(dealt.rows, dealt.counts, strict=True)]
    live = [rows[counts] for rows, counts in left]
    assert torch.cat(live).sort().values.tolist() == (update >= 0).nonzero().flatten().tolist()
    assert all(len(rows) == max(1, len(some)) for (rows, _), some in zip(left, live, strict=True))


@given(updates_of_rows, st.integers(1, 4))
def test_no_pass_is_wider_than_it_must_be(update, passes):
    fullest = max(int((update == step).sum()) for step in range(3))
    assert pass_width(update, 3, passes) == max(1, -(-fullest // passes))


def batch(rows=3, prompt=4, completion=5):
    mask = torch.zeros(rows, completion, dtype=torch.long)
    for row in range(rows):
        mask[row, : row + 1] = 1
    return {
        "prompt_ids": torch.arange(rows * prompt).view(rows, prompt),
        "prompt_mask": torch.tensor([[0] * (prompt - 1 - row) + [1] * (row + 1) for row in range(rows)]),
        "completion_ids": torch.arange(rows * completion).view(rows, completion),
        "completion_mask": mask,
        "loss_mask": torch.ones_like(mask),
        "advantages": torch.arange(1.0, rows + 1),
        "old_per_token_logps": torch.rand(rows, completion),
    }


def test_a_pass_has_its_rows_and_no_padding_that_none_of_them_needs():
    whole = batch()
    part = pass_rows(whole, torch.tensor([1, 0]), torch.tensor([True, True]))
    assert part["prompt_ids"].tolist() == [[6, 7], [2, 3]]
    assert part["completion_ids"].tolist() == [[5, 6], [0, 1]]
    assert torch.equal(part["old_per_token_logps"], whole["old_per_token_logps"][[1, 0], :2])


def test_a_row_that_only_fills_up_counts_for_nothing():
    part = pass_rows(batch(), torch.tensor([2, 0]), torch.tensor([True, False]))
    assert part["live"].tolist() == [True, False]
    assert not part["loss_mask"][1].any()
    assert part["advantages"].tolist() == [3.0, 0.0]


def test_joined_batches_keep_prompts_at_the_right_and_completions_at_the_left():
    first, second = batch(prompt=4, completion=5), batch(prompt=6, completion=3)
    joined = join_batches(first, second)
    assert torch.equal(joined["prompt_ids"][:3, 2:], first["prompt_ids"])
    assert not joined["prompt_mask"][:3, :2].any()
    assert torch.equal(joined["prompt_ids"][3:], second["prompt_ids"])
    assert torch.equal(joined["completion_mask"][3:, :3], second["completion_mask"])
    assert not joined["completion_mask"][3:, 3:].any()
    assert joined["advantages"].tolist() == [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
