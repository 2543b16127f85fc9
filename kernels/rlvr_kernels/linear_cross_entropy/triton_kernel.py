"""The loss of a language-model head with its softmax in Triton: logits become their own gradient in place.

A chunk of rows at a time, the head's product fills one buffer; one program a row then reads it twice, once for the
normalizer and once to write the gradient over it, from which the two other products are taken (as Liger Kernel does,
arXiv 2410.10989). A summed loss makes its gradients in the forward pass; losses of single tokens, whose weights are
known in backward only, make the logits again there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.triton_math import tanh

COLUMNS = 4096
"""Logits of a row that a program holds at a time."""
_Settings = tuple[float, float, int]
"""The softcap (0 is none), the weight of the z-loss, and the label of targets that do not count."""


@triton.jit
def _capped(logits, column, columns, softcap, CAPPED: tl.constexpr):
    """The capped logits, -inf past the last column, and the factor that the cap puts on their gradient."""
    value = tl.load(logits + column, mask=column < columns, other=float("-inf")).to(tl.float32)
    if CAPPED:
        bent = tanh(value / softcap)
        value, slope = tl.where(column < columns, bent * softcap, float("-inf")), 1 - bent * bent
    else:
        slope = 1.0
    return value, slope


@triton.jit
def _row(
    logits, targets, scales, losses, columns, row_step, ignore_index, softcap, z_loss,
    COLUMNS: tl.constexpr, CAPPED: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """The loss of one row; with GRADIENT its logits are overwritten by the gradient of `scale` times the loss."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * row_step
    target = tl.load(targets + row)
    counted = target != ignore_index
    there = (target >= 0) & (target < columns)  # a target beyond the vocabulary makes the loss NaN
    # before a reduction, hence before any store
    wanted = tl.load(logits + tl.where(counted, target, 0), mask=there | (target == ignore_index), other=float("nan"))
    wanted = wanted.to(tl.float32)
    if CAPPED:
        wanted = tanh(wanted / softcap) * softcap
    highest = tl.full([COLUMNS], float("-inf"), tl.float32)
    total = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, columns, COLUMNS):
        value, _ = _capped(logits, start + tl.arange(0, COLUMNS), columns, softcap, CAPPED)
        higher = tl.maximum(highest, value)
        anchor = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(highest - anchor) + tl.exp(value - anchor)
        highest = higher
    peak = tl.max(highest, 0)
    normalizer = peak + tl.log(tl.sum(total * tl.exp(highest - peak), 0))
    loss = normalizer - wanted + z_loss * normalizer * normalizer
    tl.store(losses + row, tl.where(counted, loss, 0.0))
    if GRADIENT:
        scale = tl.where(counted, tl.load(scales + row), 0.0)
        spread = scale * (1 + 2 * z_loss * normalizer)
        for start in range(0, columns, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            value, slope = _capped(logits, column, columns, softcap, CAPPED)
            gradient = (spread * tl.exp(value - normalizer) - tl.where(column == target, scale, 0.0)) * slope
            tl.store(logits + column, gradient.to(logits.dtype.element_ty), mask=column < columns)


def _rows(logits: Tensor, targets: Tensor, scales: Tensor | None, losses: Tensor, settings: _Settings) -> None:
    """Fill `losses` of a chunk; with `scales`, overwrite its logits by their gradient."""
    softcap, z_loss, ignore_index = settings
    columns = logits.shape[1]
    _row[(len(logits),)](
        logits, targets, scales, losses, columns, logits.stride(0), ignore_index, softcap, z_loss,
        COLUMNS=min(COLUMNS, triton.next_power_of_2(columns)), CAPPED=softcap > 0, GRADIENT=scales is not None,
        num_warps=8,
    )  # fmt: skip


@torch.library.custom_op("rlvr_kernels::head_losses", mutates_args=())
def _losses(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, z_loss: float, ignore_index: int, rows: int
) -> Tensor:
    """(N,) float32 losses."""
    losses = hidden.new_empty(len(hidden), dtype=torch.float32)
    head = weight.to(hidden.dtype).T
    buffer = hidden.new_empty(rows, len(weight))
    for begin in range(0, len(hidden), rows):
        chunk = slice(begin, begin + rows)
        logits = torch.mm(hidden[chunk], head, out=buffer[: len(hidden[chunk])])
        _rows(logits, targets[chunk], None, losses[chunk], (softcap, z_loss, ignore_index))
    return losses


@torch.library.custom_op("rlvr_kernels::head_gradients", mutates_args=())
def _gradients(
    hidden: Tensor, weight: Tensor, targets: Tensor, scales: Tensor,
    softcap: float, z_loss: float, ignore_index: int, rows: int, trained: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The (N,) float32 losses, and the gradients of sum(scales * losses) for `hidden` and, if `trained`, `weight`."""
    losses = hidden.new_empty(len(hidden), dtype=torch.float32)
    d_hidden, d_weight = torch.empty_like(hidden), _sum_of_products(hidden, weight, trained)
    head = weight.to(hidden.dtype)
    buffer = hidden.new_empty(rows, len(weight))
    for begin in range(0, len(hidden), rows):
        chunk = slice(begin, begin + rows)
        logits = torch.mm(hidden[chunk], head.T, out=buffer[: len(hidden[chunk])])
        _rows(logits, targets[chunk], scales[chunk], losses[chunk], (softcap, z_loss, ignore_index))
        torch.mm(logits, head, out=d_hidden[chunk])
        if trained:
            _add_product(d_weight, logits.T, hidden[chunk])
    return losses, d_hidden, d_weight.to(weight.dtype)


def _sum_of_products(hidden: Tensor, weight: Tensor, trained: bool) -> Tensor:
    """Zeros to sum the gradient of `weight` in: in its own dtype, or in float32 where products are in another one."""
    dtype = weight.dtype if weight.dtype == hidden.dtype else torch.float32
    return torch.zeros_like(weight[: None if trained else 0], dtype=dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total` += left @ right, the sum in the dtype of `total`: that of the factors, or float32."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    elif not total.is_cuda:
        total.addmm_(left.float(), right.float())
    else:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)


@_losses.register_fake
def _(hidden, weight, targets, softcap, z_loss, ignore_index, rows):
    return hidden.new_empty(len(hidden), dtype=torch.float32)


@_gradients.register_fake
def _(hidden, weight, targets, scales, softcap, z_loss, ignore_index, rows, trained):
    d_weight = torch.empty_like(weight[: None if trained else 0])
    return hidden.new_empty(len(hidden), dtype=torch.float32), torch.empty_like(hidden), d_weight


def _remember_tokens(ctx, inputs, output):
    hidden, weight, targets, *ctx.settings = inputs
    ctx.save_for_backward(hidden, weight, targets)


def _differentiate_tokens(ctx, d_losses):
    trained = ctx.needs_input_grad[1]
    _, d_hidden, d_weight = _gradients(*ctx.saved_tensors, d_losses.contiguous(), *ctx.settings, trained)
    return d_hidden, d_weight if trained else None, *[None] * 5


_losses.register_autograd(_differentiate_tokens, setup_context=_remember_tokens)


@torch.library.custom_op("rlvr_kernels::head_loss", mutates_args=())
def _summed(
    hidden: Tensor, weight: Tensor, targets: Tensor,
    softcap: float, z_loss: float, ignore_index: int, rows: int, mean: bool, trained: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The summed or mean loss, a float32 scalar, and its gradients for `hidden` and, if `trained`, `weight`."""
    scale = (targets != ignore_index).sum().float().reciprocal() if mean else hidden.new_ones((), dtype=torch.float32)
    scales = scale.expand(len(targets)).contiguous()
    settings = (softcap, z_loss, ignore_index, rows, trained)
    losses, d_hidden, d_weight = _gradients(hidden, weight, targets, scales, *settings)
    return losses.sum() * scale, d_hidden, d_weight


@_summed.register_fake
def _(hidden, weight, targets, softcap, z_loss, ignore_index, rows, mean, trained):
    d_weight = torch.empty_like(weight[: None if trained else 0])
    return hidden.new_empty((), dtype=torch.float32), torch.empty_like(hidden), d_weight


def _remember_sum(ctx, inputs, output):
    ctx.spent = False
    ctx.set_materialize_grads(False)  # or backward is handed zeros as large as both gradients
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _differentiate_sum(ctx, d_loss, *_):
    """Scale the gradients where they lie: a second copy of them would be the peak of the whole step."""
    if ctx.spent:
        raise RuntimeError("a summed loss gives its gradients once; take reduction='none' and sum it to go back twice")
    ctx.spent = True
    d_hidden, d_weight = ctx.saved_tensors
    return d_hidden.mul_(d_loss), d_weight.mul_(d_loss) if ctx.needs_input_grad[1] else None, *[None] * 7


_summed.register_autograd(_differentiate_sum, setup_context=_remember_sum)


def token_losses(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None, z_loss: float, ignore_index: int, rows: int
) -> Tensor:
    """(N,) float32 losses; backward makes the logits again."""
    return _losses(hidden.contiguous(), weight, targets.contiguous(), softcap or 0.0, z_loss, ignore_index, rows)


def summed_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor,
    softcap: float | None, z_loss: float, ignore_index: int, rows: int, mean: bool,
) -> Tensor:  # fmt: skip
    """The sum or mean of the losses, float32; with gradients wanted, they are made along with it.

    Not in float16, where a gradient has to wait for the loss scale or vanishes: there backward makes the logits again.
    """
    hidden, targets, cap = hidden.contiguous(), targets.contiguous(), softcap or 0.0
    wanted = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    if wanted and hidden.dtype != torch.float16:
        loss, *_ = _summed(hidden, weight, targets, cap, z_loss, ignore_index, rows, mean, weight.requires_grad)
        return loss
    losses = _losses(hidden, weight, targets, cap, z_loss, ignore_index, rows).sum()
    return losses / (targets != ignore_index).sum() if mean else losses
