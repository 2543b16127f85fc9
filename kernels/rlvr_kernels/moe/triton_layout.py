"""The experts' layout as a counting sort in three launches: a dozen of PyTorch's would outlast the products.

Blocks of slots count their experts, one program turns the counts into each block's first row of each expert, and the
blocks place their slots, in order, so that the same choice gives the same layout.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.moe import layout

CELLS = 8192
"""Slots times experts that a program holds at a time."""


@triton.jit
def _chosen(experts, slots, first, BLOCK: tl.constexpr, EXPERTS: tl.constexpr):
    """(BLOCK, EXPERTS) int32: 1 where a slot has chosen an expert."""
    slot = first + tl.arange(0, BLOCK)
    expert = tl.load(experts + slot, mask=slot < slots, other=EXPERTS).to(tl.int32)
    return (expert[:, None] == tl.arange(0, EXPERTS)[None, :]).to(tl.int32)


@triton.jit
def _count(experts, counts, slots, BLOCK: tl.constexpr, EXPERTS: tl.constexpr):
    """How many slots of a block have chosen each expert."""
    block = tl.program_id(0)
    chosen = _chosen(experts, slots, block * BLOCK, BLOCK, EXPERTS)
    tl.store(counts + block * EXPERTS + tl.arange(0, EXPERTS), tl.sum(chosen, 0))


@triton.jit
def _make_room(
    counts, first_rows, ends, blocks, num_experts, align, least, last,
    BLOCK: tl.constexpr, EXPERTS: tl.constexpr,
):  # fmt: skip
    """Each expert's end, and each block's first row of each expert; `last` is the last end, or negative for its own."""
    expert = tl.arange(0, EXPERTS)
    count = tl.zeros([EXPERTS], tl.int32)
    for start in range(0, blocks, BLOCK):
        block = start + tl.arange(0, BLOCK)
        at = block[:, None] * EXPERTS + expert[None, :]
        count += tl.sum(tl.load(counts + at, mask=(block < blocks)[:, None], other=0), 0)
    taken = tl.maximum((count + align - 1) // align * align, least)
    taken = tl.where(expert < num_experts, taken, 0)
    end = tl.cumsum(taken, 0)
    stored = tl.where((expert == num_experts - 1) & (last >= 0), last, end)
    tl.store(ends + expert, stored, mask=expert < num_experts)
    row = end - taken
    for start in range(0, blocks, BLOCK):
        block = start + tl.arange(0, BLOCK)
        at = block[:, None] * EXPERTS + expert[None, :]
        of_block = tl.load(counts + at, mask=(block < blocks)[:, None], other=0)
        before = tl.cumsum(of_block, 0) - of_block
        tl.store(first_rows + at, row[None, :] + before, mask=(block < blocks)[:, None])
        row += tl.sum(of_block, 0)


@triton.jit
def _place(experts, first_rows, slot_of_row, row_of_slot, slots, BLOCK: tl.constexpr, EXPERTS: tl.constexpr):
    """Give each slot of a block its row."""
    block = tl.program_id(0)
    slot = block * BLOCK + tl.arange(0, BLOCK)
    chosen = _chosen(experts, slots, block * BLOCK, BLOCK, EXPERTS)
    first = tl.load(first_rows + block * EXPERTS + tl.arange(0, EXPERTS))
    row = tl.sum(chosen * (tl.cumsum(chosen, 0) - 1 + first[None, :]), 1)
    tl.store(row_of_slot + slot, row, mask=slot < slots)
    tl.store(slot_of_row + row, slot, mask=slot < slots)


@torch.library.custom_op("rlvr_kernels::lay_out_experts", mutates_args=())
def _lay_out(experts: Tensor, num_experts: int, lane: str) -> tuple[Tensor, Tensor, Tensor]:
    """The two tensors of a `Layout` and the ends of the experts' rows, int32."""
    experts, slots = experts.contiguous(), experts.numel()
    align, least, total = layout.room(lane, slots, num_experts)
    columns = triton.next_power_of_2(num_experts)
    constants = {"BLOCK": max(CELLS // columns, 16), "EXPERTS": columns}
    blocks = triton.cdiv(slots, constants["BLOCK"])
    slot_of_row = experts.new_full((total,), -1, dtype=torch.int32)
    row_of_slot = torch.empty_like(experts, dtype=torch.int32)
    counts, first_rows = experts.new_empty(2, blocks, columns, dtype=torch.int32).unbind()
    ends = experts.new_empty(num_experts, dtype=torch.int32)
    last = total if lane == "grouped" else -1  # a row of no group would be left uninitialised
    _count[(blocks,)](experts, counts, slots, **constants)
    _make_room[(1,)](counts, first_rows, ends, blocks, num_experts, align, least, last, **constants)
    _place[(blocks,)](experts, first_rows, slot_of_row, row_of_slot, slots, **constants)
    return slot_of_row, row_of_slot, ends


@_lay_out.register_fake
def _(experts, num_experts, lane):
    _, _, total = layout.room(lane, experts.numel(), num_experts)
    sizes = ((total,), experts.shape, (num_experts,))
    return tuple(experts.new_empty(size, dtype=torch.int32) for size in sizes)


def lay_out(experts: Tensor, num_experts: int, lane: str) -> layout.Layout:
    """As `layout.lay_out`, which is called for "padded": only the device knows the size of that layout."""
    if lane == "padded":
        return layout.lay_out(experts, num_experts, lane)
    return layout.Layout(*_lay_out(experts, num_experts, lane))
