"""The Mamba-3 scan (arXiv 2603.15569), SISO and MIMO: over packed rows, and one step at a time.

It begins after the projections, norms and activations and ends before the output projection; what happens in between is
in `reference.py`. Rotation pairs are neighbours (2i, 2i+1) for both ranks.
"""

from __future__ import annotations

from torch import Tensor

from rlvr_kernels.backend import choose
from rlvr_kernels.mamba3 import reference
from rlvr_kernels.mamba3.reference import Mamba3State, Mamba3Weights

__all__ = ["Mamba3State", "Mamba3Weights", "mamba3", "mamba3_step"]


def mamba3(
    x: Tensor,
    z: Tensor | None,
    b: Tensor,
    c: Tensor,
    dt: Tensor,
    a: Tensor,
    trapezoid: Tensor,
    angle: Tensor,
    weights: Mamba3Weights,
    *,
    document_ids: Tensor | None = None,
    mask: Tensor | None = None,
    state: Mamba3State | None = None,
    chunk_size: int | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Mamba3State]:
    """The output (B, T, H, P) in the dtype of `x`, and the state after the last token.

    `x`, `z` `(B, T, H, P)`: inputs and gates before their SiLU; without `z` the result is the ungated (B, T, R, H, P).
    `b`, `c` `(B, T, R, G, N)`: normalised, without bias; G divides H. `dt > 0`, `a < 0` and `trapezoid` in (0, 1)
    `(B, T, H)`, after their activations. `angle (B, T, S)` with 2S <= N, before tanh; S may be 0.
    `document_ids (B, T)`, non-decreasing, restart the state at each document; a carried `state` belongs to the first.
    `mask (B, T)` bool is True at real tokens; padding must come first in its row, and its outputs mean nothing.
    `chunk_size` in tokens (None: 64 rows, that is 64 // R) changes speed, not the result.
    """
    _check(x, b, angle, weights)
    if mask is not None:
        x, dt = x * mask[..., None, None], dt * mask[..., None]
    size = chunk_size or max(64 // b.shape[2], 1)
    if choose(backend, x, b, c) == "reference":
        return reference.scan(x, z, b, c, dt, a, trapezoid, angle, weights, document_ids, state, size)
    from rlvr_kernels.mamba3 import triton_kernel

    return triton_kernel.scan(x, z, b, c, dt, a, trapezoid, angle, weights, document_ids, state, size)


def mamba3_step(
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
    *,
    backend: str | None = None,
) -> tuple[Tensor, Mamba3State]:
    """One token: the arguments and results of `mamba3` without their dimension T. The given state is left alone.

    The Triton kernel is for decoding and has no gradient.
    """
    _check(x, b, angle, weights)
    if choose(backend, x, b, c) == "reference":
        return reference.step(x, z, b, c, dt, a, trapezoid, angle, weights, state)
    from rlvr_kernels.mamba3 import triton_step

    return triton_step.step(x, z, b, c, dt, a, trapezoid, angle, weights, state)


def _check(x: Tensor, b: Tensor, angle: Tensor, weights: Mamba3Weights) -> None:
    heads, (rank, groups, columns) = x.shape[-2], b.shape[-3:]
    if heads % groups:
        raise ValueError(f"b has {groups} groups for {heads} heads: the groups must divide the heads.")
    if 2 * angle.shape[-1] > columns:
        raise ValueError(f"angle turns {angle.shape[-1]} pairs of {columns} state columns: at most half as many fit.")
    missing = [name for name in ("mix_x", "mix_z", "mix_out") if getattr(weights, name) is None]
    if missing and (rank > 1 or len(missing) < 3):
        others = ", or none of them" if rank == 1 else ""
        raise ValueError(f"weights lack {', '.join(missing)}: give all three mixes (H, {rank}, P){others}.")
    if not x.numel():
        raise ValueError(f"x has shape {tuple(x.shape)}: give at least one sequence and one token.")
