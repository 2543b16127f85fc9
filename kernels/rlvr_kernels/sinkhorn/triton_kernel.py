"""mHC's mixing in Triton: one token's n x n matrix and n streams at a time.

The backward pass of Sinkhorn keeps nothing: it makes the matrix before each division again from the logits, which are
n² numbers. Both kernels between streams and branch read every stream once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS = 64
"""Tokens whose matrices one program normalises."""
BLOCK = 1024
"""The most channels that a program holds at a time."""


@triton.jit
def _divided(mixing, epsilon, ROUNDS: tl.constexpr):
    """After ROUNDS divisions in turn, columns first, of a matrix whose rows sum to one."""
    for index in tl.static_range(ROUNDS):
        mixing = mixing / (tl.sum(mixing, 1 + index % 2, keep_dims=True) + epsilon)
    return mixing


@triton.jit
def _through_division(grad, before, epsilon, AXIS: tl.constexpr):
    """The gradient of a matrix that was divided by its sums along AXIS."""
    total = tl.sum(before, AXIS, keep_dims=True) + epsilon
    return (grad - tl.sum(grad * before, AXIS, keep_dims=True) / total) / total


@triton.jit
def _softmaxed(ptr, place, there, temperature):
    logits = tl.load(ptr + place, mask=there, other=0.0).to(tl.float32) / temperature
    powers = tl.exp(logits - tl.max(logits, 2, keep_dims=True))
    return powers / tl.sum(powers, 2, keep_dims=True)


@triton.jit
def _sinkhorn(
    logits_ptr, grad_ptr, out_ptr, tokens, temperature, epsilon, blend,
    ROUNDS: tl.constexpr, N: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Writes the mixing matrices or, given their gradient, that of the logits."""
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    i = tl.arange(0, N)
    place = token[:, None, None] * N * N + i[None, :, None] * N + i[None, None, :]
    there = (token < tokens)[:, None, None]
    start = _softmaxed(logits_ptr, place, there, temperature)
    if grad_ptr is None:
        identity = tl.where(i[None, :, None] == i[None, None, :], 1.0 - blend, 0.0)
        tl.store(out_ptr + place, blend * _divided(start, epsilon, ROUNDS) + identity, there)
    else:
        grad = blend * tl.load(grad_ptr + place, mask=there, other=0.0)
        for index in tl.static_range(ROUNDS):
            before = _divided(start, epsilon, ROUNDS - 1 - index)
            grad = _through_division(grad, before, epsilon, 1 + (ROUNDS - 1 - index) % 2)
        grad = start * (grad - tl.sum(grad * start, 2, keep_dims=True)) / temperature
        tl.store(out_ptr + place, grad.to(out_ptr.dtype.element_ty), there)


@triton.jit
def _read(streams_ptr, pre_ptr, out_ptr, width, N: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, N)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = channel < width
    place = token * N * width + i[:, None] * width + channel[None, :]
    streams = tl.load(streams_ptr + place, mask=here[None, :], other=0.0).to(tl.float32)
    pre = tl.load(pre_ptr + token * N + i).to(tl.float32)
    tl.store(out_ptr + token * width + channel, tl.sum(streams * pre[:, None], 0).to(out_ptr.dtype.element_ty), here)


@triton.jit
def _read_backward(
    streams_ptr, pre_ptr, grad_ptr, grad_streams_ptr, grad_pre_ptr, width, N: tl.constexpr, BLOCK: tl.constexpr
):
    token = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, N)
    pre = tl.load(pre_ptr + token * N + i).to(tl.float32)
    grad_pre = tl.zeros((N,), tl.float32)
    for first in range(0, width, BLOCK):
        channel = first + tl.arange(0, BLOCK)
        here = channel < width
        place = token * N * width + i[:, None] * width + channel[None, :]
        streams = tl.load(streams_ptr + place, mask=here[None, :], other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + token * width + channel, mask=here, other=0.0).to(tl.float32)[None, :]
        grad_pre += tl.sum(streams * grad, 1)
        tl.store(grad_streams_ptr + place, (pre[:, None] * grad).to(grad_streams_ptr.dtype.element_ty), here[None, :])
    tl.store(grad_pre_ptr + token * N + i, grad_pre.to(grad_pre_ptr.dtype.element_ty))


@triton.jit
def _write(streams_ptr, branch_ptr, post_ptr, mixing_ptr, out_ptr, width, N: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, N)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = channel < width
    branch = tl.load(branch_ptr + token * width + channel, mask=here, other=0.0).to(tl.float32)
    out = tl.load(post_ptr + token * N + j).to(tl.float32)[:, None] * branch[None, :]
    for i in tl.static_range(N):
        mixing = tl.load(mixing_ptr + (token * N + i) * N + j).to(tl.float32)
        stream = tl.load(streams_ptr + (token * N + i) * width + channel, mask=here, other=0.0).to(tl.float32)
        out += mixing[:, None] * stream[None, :]
    place = token * N * width + j[:, None] * width + channel[None, :]
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), here[None, :])


@triton.jit
def _write_backward(
    streams_ptr, branch_ptr, post_ptr, mixing_ptr, grad_ptr, grad_streams_ptr, grad_branch_ptr, grad_post_ptr,
    grad_mixing_ptr, width, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, N)
    post = tl.load(post_ptr + token * N + j).to(tl.float32)
    grad_post = tl.zeros((N,), tl.float32)
    grad_mixing = tl.zeros((N, N), tl.float32)
    for first in range(0, width, BLOCK):
        channel = first + tl.arange(0, BLOCK)
        here = channel < width
        grad = tl.load(grad_ptr + token * N * width + j[:, None] * width + channel[None, :], here[None, :], 0.0)
        grad = grad.to(tl.float32)
        branch = tl.load(branch_ptr + token * width + channel, mask=here, other=0.0).to(tl.float32)
        grad_post += tl.sum(grad * branch[None, :], 1)
        grad_branch = tl.sum(grad * post[:, None], 0)
        tl.store(grad_branch_ptr + token * width + channel, grad_branch.to(grad_branch_ptr.dtype.element_ty), here)
        for i in tl.static_range(N):
            place = (token * N + i) * width + channel
            stream = tl.load(streams_ptr + place, mask=here, other=0.0).to(tl.float32)
            mixing = tl.load(mixing_ptr + (token * N + i) * N + j).to(tl.float32)
            grad_mixing += tl.where((j == i)[:, None], tl.sum(grad * stream[None, :], 1)[None, :], 0.0)
            grad_stream = tl.sum(grad * mixing[:, None], 0)
            tl.store(grad_streams_ptr + place, grad_stream.to(grad_streams_ptr.dtype.element_ty), here)
    tl.store(grad_post_ptr + token * N + j, grad_post.to(grad_post_ptr.dtype.element_ty))
    place = token * N * N + j[:, None] * N + j[None, :]
    tl.store(grad_mixing_ptr + place, grad_mixing.to(grad_mixing_ptr.dtype.element_ty))


_ARGUMENTS = "Tensor logits, int iterations, float temperature, float epsilon, float blend"


@torch.library.custom_op("rlvr_kernels::sinkhorn", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor")
def sinkhorn(logits: Tensor, iterations: int, temperature: float, epsilon: float, blend: float) -> Tensor:
    """Arguments as for `rlvr_kernels.sinkhorn`; n must be a power of two."""
    out = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
    _launch_sinkhorn(logits.contiguous(), None, out, iterations, temperature, epsilon, blend)
    return out


@torch.library.custom_op(
    "rlvr_kernels::sinkhorn_backward", mutates_args=(), schema=f"(Tensor grad, {_ARGUMENTS}) -> Tensor"
)
def _sinkhorn_gradient(grad: Tensor, logits: Tensor, *options: Any) -> Tensor:
    out = torch.empty_like(logits, memory_format=torch.contiguous_format)
    _launch_sinkhorn(logits.contiguous(), grad.contiguous(), out, *options)
    return out


def _launch_sinkhorn(
    logits: Tensor, grad: Tensor | None, out: Tensor, iterations: int, temperature: float, epsilon: float, blend: float
) -> None:
    n = _power_of_two(logits.shape[-1])
    tokens = logits.numel() // (n * n)
    _sinkhorn[(triton.cdiv(tokens, TOKENS),)](
        *(logits, grad, out, tokens, temperature, epsilon, blend),
        ROUNDS=max(2 * iterations - 1, 0),
        N=n,
        TOKENS=TOKENS,
    )


@torch.library.custom_op("rlvr_kernels::read_streams", mutates_args=())
def read_streams(streams: Tensor, pre: Tensor) -> Tensor:
    """Arguments as for `rlvr_kernels.read_streams`; n must be a power of two."""
    streams, pre = streams.contiguous(), pre.contiguous()
    n, width = _power_of_two(streams.shape[-2]), streams.shape[-1]
    out = streams.new_empty(*streams.shape[:-2], width)
    block = _block(width)
    _read[(streams.numel() // (n * width), triton.cdiv(width, block))](streams, pre, out, width, N=n, BLOCK=block)
    return out


@torch.library.custom_op("rlvr_kernels::read_streams_backward", mutates_args=())
def _read_gradients(grad: Tensor, streams: Tensor, pre: Tensor) -> tuple[Tensor, Tensor]:
    streams, pre = streams.contiguous(), pre.contiguous()
    n, width = streams.shape[-2:]
    grads = torch.empty_like(streams), torch.empty_like(pre)
    _read_backward[(streams.numel() // (n * width),)](
        streams, pre, grad.contiguous(), *grads, width, N=n, BLOCK=_block(width)
    )
    return grads


@torch.library.custom_op("rlvr_kernels::write_streams", mutates_args=())
def write_streams(streams: Tensor, branch: Tensor, post: Tensor, mixing: Tensor) -> Tensor:
    """Arguments as for `rlvr_kernels.write_streams`; n must be a power of two."""
    given = [tensor.contiguous() for tensor in (streams, branch, post, mixing)]
    n, width = _power_of_two(streams.shape[-2]), streams.shape[-1]
    out = torch.empty_like(given[0])
    block = _block(width)
    _write[(streams.numel() // (n * width), triton.cdiv(width, block))](*given, out, width, N=n, BLOCK=block)
    return out


@torch.library.custom_op("rlvr_kernels::write_streams_backward", mutates_args=())
def _write_gradients(
    grad: Tensor, streams: Tensor, branch: Tensor, post: Tensor, mixing: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given = [tensor.contiguous() for tensor in (streams, branch, post, mixing)]
    n, width = streams.shape[-2:]
    grad_streams, grad_branch, grad_post, grad_mixing = (torch.empty_like(tensor) for tensor in given)
    _write_backward[(streams.numel() // (n * width),)](
        *given,
        *(grad.contiguous(), grad_streams, grad_branch, grad_post, grad_mixing, width),
        N=n,
        BLOCK=_block(width),
    )
    return grad_streams, grad_branch, grad_post, grad_mixing


def _power_of_two(n: int) -> int:
    if n & (n - 1):
        raise ValueError(f"n={n} streams do not fit the Triton kernels: use a power of two, or backend='reference'.")
    return n


def _block(width: int) -> int:
    return min(int(triton.next_power_of_2(width)), BLOCK)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


@sinkhorn.register_fake
def _(logits: Tensor, *_: Any) -> Tensor:
    return logits.new_empty(logits.shape, dtype=torch.float32)


@_sinkhorn_gradient.register_fake
def _(grad: Tensor, logits: Tensor, *_: Any) -> Tensor:
    return _like(logits)


@read_streams.register_fake
def _(streams: Tensor, pre: Tensor) -> Tensor:
    return streams.new_empty(*streams.shape[:-2], streams.shape[-1])


@write_streams.register_fake
def _(streams: Tensor, branch: Tensor, post: Tensor, mixing: Tensor) -> Tensor:
    return _like(streams)


@_read_gradients.register_fake
def _(grad: Tensor, streams: Tensor, pre: Tensor) -> tuple[Tensor, Tensor]:
    return _like(streams), _like(pre)


@_write_gradients.register_fake
def _(grad: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
    return tuple(map(_like, given))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
    ctx.options = [value for value in inputs if not isinstance(value, Tensor)]


def _sinkhorn_differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _sinkhorn_gradient(grad, *ctx.saved_tensors, *ctx.options), None, None, None, None


sinkhorn.register_autograd(_sinkhorn_differentiate, setup_context=_keep)
read_streams.register_autograd(lambda ctx, grad: _read_gradients(grad, *ctx.saved_tensors), setup_context=_keep)
write_streams.register_autograd(lambda ctx, grad: _write_gradients(grad, *ctx.saved_tensors), setup_context=_keep)
