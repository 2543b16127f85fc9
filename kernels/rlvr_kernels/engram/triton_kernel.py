"""The n-gram memory in Triton: hashes are made in registers and the rows they name are copied, or added to.

One program takes a few tokens of one head of one order. Gradients of one row meet in float32 atomic additions, whose
order is not fixed; under `torch.use_deterministic_algorithms` PyTorch's own sorted sum is used instead.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.engram import reference

TOKENS = 32
"""Tokens that one program looks up."""


@triton.jit
def _rows(
    ids_ptr, multiplier_ptr, size_ptr, start_ptr, document_ptr, domain_ptr, token, tokens, length, pad_id, slot,
    slots: tl.constexpr, heads: tl.constexpr, ORDERS: tl.constexpr, LONGEST: tl.constexpr,
):  # fmt: skip
    """The table row of each token's n-gram of this order, for one head; int64."""
    there = token < tokens
    in_row = token % length
    order = (ORDERS >> (slot // heads * 4)) & 15
    document = tl.load(document_ptr + token, mask=there, other=0) if document_ptr is not None else 0
    mixed = tl.load(ids_ptr + token, mask=there, other=0) * tl.load(multiplier_ptr)
    for back in tl.static_range(1, LONGEST):
        inside = there & (in_row >= back)
        earlier = tl.load(ids_ptr + token - back, mask=inside, other=pad_id)
        if document_ptr is not None:
            earlier = tl.where(tl.load(document_ptr + token - back, mask=inside, other=-1) == document, earlier, pad_id)
        term = earlier * tl.load(multiplier_ptr + back)
        mixed = mixed ^ tl.where(back < order, term, 0)
    row = mixed % tl.load(size_ptr + slot) + tl.load(start_ptr + slot)
    if domain_ptr is not None:
        rows = tl.load(start_ptr + slots - 1) + tl.load(size_ptr + slots - 1)
        row += tl.load(domain_ptr + token, mask=there, other=0) * rows
    return row


@triton.jit
def _gather(
    ids_ptr, multiplier_ptr, size_ptr, start_ptr, document_ptr, domain_ptr, table_ptr, out_ptr,
    tokens, length, pad_id, slots: tl.constexpr, heads: tl.constexpr, width: tl.constexpr, ORDERS: tl.constexpr,
    LONGEST: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr, SCATTER: tl.constexpr,
):  # fmt: skip
    """Copies rows of the table to `out` or, to SCATTER, adds `out` to rows of the table. ORDERS has four bits each."""
    slot = tl.program_id(1)
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    row = _rows(
        ids_ptr, multiplier_ptr, size_ptr, start_ptr, document_ptr, domain_ptr, token, tokens, length, pad_id, slot,
        slots, heads, ORDERS, LONGEST,
    )  # fmt: skip
    column = tl.arange(0, WIDTH)
    there = (token < tokens)[:, None] & (column < width)[None, :]
    source = table_ptr + row[:, None] * width + column[None, :]
    target = out_ptr + (token[:, None] * slots + slot) * width + column[None, :]
    if SCATTER:
        tl.atomic_add(source, tl.load(target, mask=there, other=0.0).to(tl.float32), mask=there)
    else:
        tl.store(target, tl.load(source, mask=there, other=0.0), there)


def engram(
    ids: Tensor,
    table: Tensor,
    multipliers: Tensor,
    sizes: Tensor,
    orders: tuple[int, ...],
    pad_id: int,
    document_ids: Tensor | None,
    domains: Tensor | None,
) -> Tensor:
    """Arguments as for `rlvr_kernels.engram`; at most seven orders of at most 15."""
    if len(orders) > 7 or max(orders) > 15:
        raise ValueError(f"orders={orders} do not fit the Triton kernel: at most seven, of at most 15 tokens each.")
    result: Tensor = _lookup(table, ids, multipliers, sizes, list(orders), pad_id, document_ids, domains)
    return result


_ARGUMENTS = (
    "Tensor table, Tensor ids, Tensor multipliers, Tensor sizes, int[] orders, int pad_id, Tensor? document_ids, "
    "Tensor? domains"
)


@torch.library.custom_op("rlvr_kernels::engram", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor")
def _lookup(table: Tensor, ids: Tensor, multipliers: Tensor, sizes: Tensor, *rest: Any) -> Tensor:
    out: Tensor = _shape_of_result(table, ids, multipliers, sizes)
    _launch(table.contiguous(), out, ids, multipliers, sizes, *rest, scatter=False)
    return out


@torch.library.custom_op(
    "rlvr_kernels::engram_backward", mutates_args=(), schema=f"(Tensor grad, {_ARGUMENTS}) -> Tensor"
)
def _gradient(grad: Tensor, table: Tensor, ids: Tensor, multipliers: Tensor, sizes: Tensor, *rest: Any) -> Tensor:
    if torch.are_deterministic_algorithms_enabled():
        return _sorted_gradient(grad, table, ids, multipliers, sizes, *rest)
    grad_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
    _launch(grad_table, grad.contiguous(), ids, multipliers, sizes, *rest, scatter=True)
    return grad_table.to(table.dtype)


def _launch(
    table: Tensor,
    out: Tensor,
    ids: Tensor,
    multipliers: Tensor,
    sizes: Tensor,
    orders: list[int],
    pad_id: int,
    document_ids: Tensor | None,
    domains: Tensor | None,
    *,
    scatter: bool,
) -> None:
    """Reads rows of `table` into `out`, or adds `out` to them."""
    rows = sizes.flatten().cumsum(0)
    width = table.shape[1]
    _gather[(triton.cdiv(ids.numel(), TOKENS), sizes.numel())](
        *(ids.contiguous(), multipliers.contiguous(), sizes.contiguous(), rows - sizes.flatten()),
        *(None if extra is None else extra.contiguous() for extra in (document_ids, domains)),
        *(table, out, ids.numel(), ids.shape[1], pad_id),
        slots=sizes.numel(),
        width=width,
        heads=sizes.shape[1],
        ORDERS=sum(order << 4 * place for place, order in enumerate(orders)),
        LONGEST=max(orders),
        TOKENS=TOKENS,
        WIDTH=triton.next_power_of_2(width),
        SCATTER=scatter,
    )


def _sorted_gradient(
    grad: Tensor,
    table: Tensor,
    ids: Tensor,
    multipliers: Tensor,
    sizes: Tensor,
    orders: list[int],
    pad_id: int,
    document_ids: Tensor | None,
    domains: Tensor | None,
) -> Tensor:
    rows = reference.ngram_rows(ids, multipliers, sizes, tuple(orders), pad_id, document_ids)
    if domains is not None:
        rows = rows + (domains * sizes.sum())[..., None, None]
    grad_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
    return grad_table.index_add(0, rows.flatten(), grad.reshape(-1, table.shape[1]).float()).to(table.dtype)


@_lookup.register_fake
def _shape_of_result(table: Tensor, ids: Tensor, multipliers: Tensor, sizes: Tensor, *_: Any) -> Tensor:
    return table.new_empty(*ids.shape, sizes.numel() * table.shape[1])


@_gradient.register_fake
def _(grad: Tensor, table: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(table, memory_format=torch.contiguous_format)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    table, ids, multipliers, sizes, ctx.orders, ctx.pad_id, document_ids, domains = inputs
    ctx.save_for_backward(table, ids, multipliers, sizes, document_ids, domains)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *given, document_ids, domains = ctx.saved_tensors
    return _gradient(grad, *given, ctx.orders, ctx.pad_id, document_ids, domains), *[None] * 7


_lookup.register_autograd(_differentiate, setup_context=_remember)
