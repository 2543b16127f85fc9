"""One step of the Mamba-3 recurrence on a GPU, in one launch: the state is read once and written once.

Decoding is bound by that traffic, 8·P·N bytes a head and token, so nothing else may touch memory. There is no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.mamba3.reference import Mamba3State, Mamba3Weights

PI = tl.constexpr(3.141592653589793)


@triton.jit
def _turned(ptr, bias_ptr, cos, sin, N: tl.constexpr):
    """One row of B or C (N,), biased, its pairs (2i, 2i+1) turned."""
    pair = 2 * tl.arange(0, N // 2)
    even = tl.load(ptr + pair).to(tl.float32) + tl.load(bias_ptr + pair).to(tl.float32)
    odd = tl.load(ptr + pair + 1).to(tl.float32) + tl.load(bias_ptr + pair + 1).to(tl.float32)
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (N,))


@triton.jit
def _mixed(v, mix_ptr, rank, P: tl.constexpr):
    """The values (P,) of one rank."""
    if mix_ptr is not None:
        v = v * tl.load(mix_ptr + rank * P + tl.arange(0, P)).to(tl.float32)
    return v


@triton.jit
def _step(
    x_ptr, z_ptr, b_ptr, c_ptr, dt_ptr, a_ptr, trapezoid_ptr, angle_ptr,
    b_bias_ptr, c_bias_ptr, skip_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr,
    hidden_ptr, theta_ptr, last_b_ptr, last_x_ptr, out_ptr, new_hidden_ptr, new_theta_ptr, new_b_ptr, new_x_ptr,
    heads: tl.constexpr, groups: tl.constexpr, pairs: tl.constexpr,
    P: tl.constexpr, N: tl.constexpr, RANK: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    program = batch * heads + head
    p = tl.arange(0, P)
    n = tl.arange(0, N)
    pair = tl.arange(0, N // 2)
    turns = pair < pairs
    dt = tl.load(dt_ptr + program)
    trapezoid = tl.load(trapezoid_ptr + program)
    angle = tl.load(angle_ptr + batch * pairs + pair, mask=turns, other=0.0).to(tl.float32)
    theta = tl.load(theta_ptr + program * pairs + pair, mask=turns, other=0.0)
    theta += (2.0 * tl.sigmoid(2.0 * angle) - 1.0) * (dt * PI)
    theta -= tl.floor(theta / (2 * PI)) * (2 * PI)
    tl.store(new_theta_ptr + program * pairs + pair, theta, turns)
    cos, sin = tl.cos(theta), tl.sin(theta)

    x = tl.load(x_ptr + program * P + p).to(tl.float32)
    last_x = tl.load(last_x_ptr + program * P + p)
    tl.store(new_x_ptr + program * P + p, x)
    if mix_x_ptr is not None:
        mix_x_ptr += head * RANK * P
    if mix_z_ptr is not None:
        mix_z_ptr += head * RANK * P
        mix_out_ptr += head * RANK * P
    b_bias_ptr += head * RANK * N
    c_bias_ptr += head * RANK * N
    b_ptr += (batch * RANK * groups + head // (heads // groups)) * N
    c_ptr += (batch * RANK * groups + head // (heads // groups)) * N

    place = program * P * N + p[:, None] * N + n[None, :]
    hidden = tl.load(hidden_ptr + place)
    decay = tl.exp(tl.load(a_ptr + program) * dt)
    hidden *= decay
    for rank in tl.static_range(RANK):
        row = ((batch * RANK + rank) * heads + head) * N + n
        before = _mixed(last_x, mix_x_ptr, rank, P) * ((1.0 - trapezoid) * dt * decay)
        hidden += before[:, None] * tl.load(last_b_ptr + row)[None, :]
        key = _turned(b_ptr + rank * groups * N, b_bias_ptr + rank * N, cos, sin, N)
        tl.store(new_b_ptr + row, key)
        hidden += (_mixed(x, mix_x_ptr, rank, P) * (trapezoid * dt))[:, None] * key[None, :]
    tl.store(new_hidden_ptr + place, hidden)

    skip = tl.load(skip_ptr + head).to(tl.float32)
    out = tl.zeros((P,), tl.float32)
    for rank in tl.static_range(RANK):
        query = _turned(c_ptr + rank * groups * N, c_bias_ptr + rank * N, cos, sin, N)
        y = tl.sum(hidden * query[None, :], 1) + skip * _mixed(x, mix_x_ptr, rank, P)
        if z_ptr is None:
            place = out_ptr + ((batch * RANK + rank) * heads + head) * P + p
            tl.store(place, y.to(out_ptr.dtype.element_ty))
        else:
            gate = _mixed(tl.load(z_ptr + program * P + p).to(tl.float32), mix_z_ptr, rank, P)
            out += _mixed(y * gate * tl.sigmoid(gate), mix_out_ptr, rank, P)
    if z_ptr is not None:
        tl.store(out_ptr + program * P + p, out.to(out_ptr.dtype.element_ty))


def step(
    x: Tensor,
    z: Tensor | None,
    b: Tensor,
    c: Tensor,
    dt: Tensor,
    a: Tensor,
    trapezoid: Tensor,
    angle: Tensor,
    weights: Mamba3Weights,
    state: Mamba3State,
) -> tuple[Tensor, Mamba3State]:
    """Arguments as for `rlvr_kernels.mamba3_step`; P and N must be powers of two."""
    for name, size in (("P", x.shape[2]), ("N", b.shape[3])):
        if size & (size - 1):
            raise ValueError(f"{name}={size} does not fit the Triton step: use a power of two.")
    out, *left = _step_once(
        x, z, b, c, dt.float(), a.float(), trapezoid.float(), angle, *weights, *(field.float() for field in state)
    )
    return out, Mamba3State(*left)


@torch.library.custom_op(
    "rlvr_kernels::mamba3_step",
    mutates_args=(),
    schema=(
        "(Tensor x, Tensor? z, Tensor b, Tensor c, Tensor dt, Tensor a, Tensor trapezoid, Tensor angle, Tensor b_bias, "
        "Tensor c_bias, Tensor skip, Tensor? mix_x, Tensor? mix_z, Tensor? mix_out, Tensor hidden, Tensor theta, "
        "Tensor last_b, Tensor last_x) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def _step_once(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    laid_out = [None if value is None else value.contiguous() for value in given]
    results: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = _empty_results(*laid_out)
    x, _, b, _, _, _, _, angle = given[:8]
    batch, heads, width = x.shape
    numbers = {"heads": heads, "groups": b.shape[2], "pairs": angle.shape[1]}
    _step[(heads, batch)](*laid_out, *results, **numbers, P=width, N=b.shape[3], RANK=b.shape[1])
    return results


@_step_once.register_fake
def _empty_results(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, z, b = given[:3]
    shape = x.shape if z is not None else (x.shape[0], b.shape[1], *x.shape[1:])
    hidden, theta, last_b, last_x = (value.new_empty(value.shape) for value in given[14:18])
    return x.new_empty(shape), hidden, theta, last_b, last_x
