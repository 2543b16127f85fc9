"""Which rows share a pass, and what is said of those that share none."""

import torch

from rlvr_cpp.training.logps import by_groups, by_length, scored_in_batches

MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]])
IDS = torch.arange(24).reshape(6, 4)


def forward(ids, mask, kept, size):
    """Each kept token's own number: what the trainer's model would say of it."""
    assert len(ids) == size
    return (ids[:, ids.shape[1] - kept :].float(), None, None)


def test_every_row_gets_what_belongs_to_it_without_the_padding_of_others():
    logps, *_ = scored_in_batches(forward, IDS, MASK, 2, by_length(MASK, 2))
    seen = MASK[:, 2:].bool()
    assert torch.equal(logps[seen], IDS[:, 2:].float()[seen])


def test_a_dead_group_is_left_out_when_its_turn_comes_and_changes_no_other_batch():
    asked = []

    def is_dead(first):
        asked.append(first)
        return first == 2

    batches = by_groups(MASK, 2, 2, is_dead)
    assert next(batches).tolist() == [1, 0]
    assert asked == [0]
    assert [rows.tolist() for rows in batches] == [[5, 4]]
    logps, *_ = scored_in_batches(forward, IDS, MASK, 2, by_groups(MASK, 2, 2, is_dead))
    assert logps[2:4].tolist() == [[0.0, 0.0]] * 2
    assert logps[4].tolist() == [18.0, 19.0]
    assert scored_in_batches(forward, IDS, MASK, 2, [])[0].tolist() == [[0.0, 0.0]] * 6
