"""Which row each token's copies take when the rows of one expert lie together.

The three lanes differ in one thing, how much room an expert gets: "grouped" a multiple of 8 rows and at least 8, so
that slices are aligned and an idle expert's gradient is a sum over zeros; "block_sparse" whole tiles (MegaBlocks,
arXiv 2211.15841); "padded" the same for all, as much as the busiest needs. No token is ever dropped, and except for
"padded" the number of rows is known without waiting for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GROUP_ALIGN = 8
TILE = 128


@dataclass(frozen=True)
class Layout:
    """Where P rows come from, of which some are padding. A slot, n k + j, is the j-th expert of token n."""

    slot_of_row: Tensor
    """(P,) integers, -1 for padding."""
    row_of_slot: Tensor
    """(N, k) integers: the row of each of a token's experts."""
    ends: Tensor
    """(E,) int32: one past the last row of each expert, its padding included; what follows the last is padding."""


def lay_out(experts: Tensor, num_experts: int, lane: str) -> Layout:
    """Lay out the tokens' copies by `experts` (N, k); copies of one expert keep the tokens' order."""
    slots = experts.flatten()
    order = slots.argsort(stable=True)
    ordered = slots[order]
    ends = torch.searchsorted(ordered, torch.arange(num_experts, device=slots.device), right=True)
    counts = ends.diff(prepend=ends.new_zeros(1))
    align, least, total = room(lane, len(slots), num_experts)
    if lane == "padded":
        align = least = max(int(counts.max()), 1)
        total = num_experts * align
    taken = ((counts + align - 1) // align * align).clamp(min=least)
    room_ends = taken.cumsum(0)
    shift = (room_ends - taken) - (ends - counts)
    rows = torch.arange(len(slots), device=slots.device) + shift[ordered]
    slot_of_row = torch.full((total,), -1, dtype=torch.int64, device=slots.device)
    slot_of_row[rows] = order
    row_of_slot = torch.empty_like(order).scatter_(0, order, rows).view_as(experts)
    if lane == "grouped":
        room_ends[-1] = total  # a row of no group would be left uninitialised
    return Layout(slot_of_row, row_of_slot, room_ends.int())


def room(lane: str, slots: int, experts: int) -> tuple[int, int, int]:
    """What an expert's rows are a multiple of, how many it has at least, and the rows of all (not for "padded")."""
    align, least = (TILE, 0) if lane == "block_sparse" else (GROUP_ALIGN, GROUP_ALIGN)
    return align, least, (slots // align + experts) * align
