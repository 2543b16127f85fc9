"""The Mamba-3 scan (arXiv 2603.15569) in plain PyTorch: over chunks for whole rows, one step for decoding.

Per head, with decay `α = exp(aΔ)` and keys and queries turned by an angle θ that grows with Δ, the state is

    h_t = α_t h_{t-1} + (1-λ_t) Δ_t α_t Σ_r x_{r,t-1} ⊗ B_{r,t-1} + λ_t Δ_t Σ_r x_{r,t} ⊗ B_{r,t}
    y_{r,t} = h_t C_{r,t} + D x_{r,t}

A token so enters twice, at its own step and at the next one; both weights are known at once, and a chunk becomes
attention with decaying weights inside of it plus what the state brings in. Rank R > 1 (MIMO) makes R rows of a token.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rlvr_kernels.autocast import in_given_precision
from rlvr_kernels.backend import widened


class Mamba3Weights(NamedTuple):
    """The parameters that act inside of the scan; H heads of P channels, rank R, N state columns."""

    b_bias: Tensor
    """(H, R, N), added to B after its norm."""
    c_bias: Tensor
    """(H, R, N), added to C after its norm."""
    skip: Tensor
    """(H,), the D of the skip connection."""
    mix_x: Tensor | None = None
    """(H, R, P), makes R inputs of one. None, as the other two, for rank 1."""
    mix_z: Tensor | None = None
    """(H, R, P), makes R gates of one."""
    mix_out: Tensor | None = None
    """(H, R, P), makes one output of R."""


class Mamba3State(NamedTuple):
    """All that the tokens seen so far leave behind; float32 (float64 for float64)."""

    hidden: Tensor
    """(B, H, P, N)."""
    theta: Tensor
    """(B, H, S), the angles of the pairs of columns (2i, 2i+1), i < S; in [0, 2π)."""
    last_b: Tensor
    """(B, R, H, N), the last token's B, biased and turned."""
    last_x: Tensor
    """(B, H, P), the last token's input."""


@in_given_precision
def scan(
    x: Tensor,
    z: Tensor | None,
    b: Tensor,
    c: Tensor,
    dt: Tensor,
    a: Tensor,
    trapezoid: Tensor,
    angle: Tensor,
    weights: Mamba3Weights,
    document_ids: Tensor | None,
    state: Mamba3State | None,
    chunk_size: int,
) -> tuple[Tensor, Mamba3State]:
    """Arguments as for `rlvr_kernels.mamba3`."""
    inputs_wide, dt, a, trapezoid = widened(x), widened(dt), widened(a), widened(trapezoid)
    theta = _turn(angle, dt).cumsum(1)
    if state is not None:
        theta = theta + state.theta[:, None]
    keys = _rotated(_per_head(b, weights.b_bias), theta)
    queries = _rotated(_per_head(c, weights.c_bias), theta)
    values = _ranked(inputs_wide, weights.mix_x)
    documents = x.new_zeros(x.shape[:2], dtype=torch.long) if document_ids is None else document_ids
    own, later = trapezoid * dt, (1 - trapezoid) * dt
    rows = _Rows(queries, keys, values, a * dt, own, own + _of_next_token(later, documents), documents)
    y, hidden = _over_chunks(rows, _entering(x, b, later, weights, state), chunk_size)
    y = y + weights.skip[:, None] * values
    left = Mamba3State(hidden, theta[:, -1].remainder(2 * math.pi), keys[:, -1], inputs_wide[:, -1])
    return (y if z is None else gate(y, z, weights)).to(x.dtype), left


@in_given_precision
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
    """The recurrence itself. Arguments as for `rlvr_kernels.mamba3_step`."""
    inputs, dt, a, trapezoid = widened(x), widened(dt), widened(a), widened(trapezoid)
    theta = (state.theta + _turn(angle, dt)).remainder(2 * math.pi)
    keys = _rotated(_per_head(b, weights.b_bias), theta)
    queries = _rotated(_per_head(c, weights.c_bias), theta)
    values = _ranked(inputs, weights.mix_x)
    before = torch.einsum("brhp,brhn->bhpn", _ranked(state.last_x, weights.mix_x), state.last_b)
    now = torch.einsum("brhp,brhn->bhpn", values, keys)
    hidden = torch.exp(a * dt)[..., None, None] * (state.hidden + ((1 - trapezoid) * dt)[..., None, None] * before)
    hidden = hidden + (trapezoid * dt)[..., None, None] * now
    y = torch.einsum("bhpn,brhn->brhp", hidden, queries) + weights.skip[:, None] * values
    return (y if z is None else gate(y, z, weights)).to(x.dtype), Mamba3State(hidden, theta, keys, inputs)


def gate(y: Tensor, z: Tensor, weights: Mamba3Weights) -> Tensor:
    """Σ_r y_r · SiLU(z · mix_z[r]) · mix_out[r]: `y (..., R, H, P)` and `z (..., H, P)` give (..., H, P)."""
    gated = y * functional.silu(_ranked(widened(z), weights.mix_z))
    return (gated if weights.mix_out is None else gated * weights.mix_out.transpose(0, 1)).sum(-3)


class _Rows(NamedTuple):
    """The tokens of all rows, prepared for the scan over chunks."""

    queries: Tensor
    """(B, T, R, H, N), turned."""
    keys: Tensor
    """(B, T, R, H, N), turned."""
    values: Tensor
    """(B, T, R, H, P)."""
    log_decay: Tensor
    """(B, T, H)."""
    own: Tensor
    """(B, T, H), the weight of a token at its own step."""
    lasting: Tensor
    """(B, T, H), its weight at all later steps."""
    documents: Tensor
    """(B, T)."""


def _over_chunks(rows: _Rows, hidden: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """y (B, T, R, H, P) and the state after the last token, from the state before the first."""
    outputs = []
    document = rows.documents[:, 0]
    for start in range(0, rows.values.shape[1], size):
        chunk = _Rows(*(field[:, start : start + size] for field in rows))
        y, hidden = _one_chunk(chunk, hidden, document)
        document = chunk.documents[:, -1]
        outputs.append(y)
    return torch.cat(outputs, dim=1), hidden


def _one_chunk(chunk: _Rows, hidden: Tensor, document: Tensor) -> tuple[Tensor, Tensor]:
    """`hidden` is what `document (B,)` left behind; a row of another document does not see it."""
    elapsed = chunk.log_decay.cumsum(1)  # (B, L, H)
    same = chunk.documents[:, :, None] == chunk.documents[:, None]  # (B, L, L)
    earlier = same.tril(-1)[..., None]
    decay = (elapsed[:, :, None] - elapsed[:, None]).masked_fill(~earlier, -torch.inf).exp()  # (B, L, L, H)
    weight = decay * chunk.lasting[:, None] + torch.diag_embed(chunk.own.transpose(1, 2)).permute(0, 2, 3, 1)
    scores = torch.einsum("btrhn,bsuhn->bhtrsu", chunk.queries, chunk.keys)
    inside = torch.einsum("bhtrsu,btsh,bsuhp->btrhp", scores, weight, chunk.values)
    seen = elapsed.exp() * (chunk.documents == document[:, None])[..., None]
    before = torch.einsum("btrhn,bhpn->btrhp", chunk.queries, hidden) * seen[:, :, None, :, None]
    kept = (elapsed[:, -1:] - elapsed).exp() * chunk.lasting * same[:, -1, :, None]
    entered = torch.einsum("bsuhp,bsh,bsuhn->bhpn", chunk.values, kept, chunk.keys)
    return inside + before, seen[:, -1, :, None, None] * hidden + entered


def _entering(x: Tensor, b: Tensor, later: Tensor, weights: Mamba3Weights, state: Mamba3State | None) -> Tensor:
    """(B, H, P, N): the state before the first token, to which the last token's second share is added already."""
    if state is None:
        return later.new_zeros(x.shape[0], *x.shape[2:], b.shape[-1])
    second = torch.einsum("brhp,brhn->bhpn", _ranked(state.last_x, weights.mix_x), state.last_b)
    return state.hidden + later[:, 0, :, None, None] * second


def _turn(angle: Tensor, dt: Tensor) -> Tensor:
    """(..., H, S): how far a token turns each head's pairs; `angle (..., S)` is shared by the heads."""
    return math.pi * torch.tanh(widened(angle))[..., None, :] * dt[..., None]


def _per_head(v: Tensor, bias: Tensor) -> Tensor:
    """(..., R, H, N) from (..., R, G, N): every group's heads get its copy, each with its bias (H, R, N)."""
    return widened(v).repeat_interleave(bias.shape[0] // v.shape[-2], dim=-2) + bias.transpose(0, 1)


def _ranked(v: Tensor, mix: Tensor | None) -> Tensor:
    """(..., R, H, P) from (..., H, P) and (H, R, P); one unchanged row without a mix."""
    return v[..., None, :, :] if mix is None else v[..., None, :, :] * mix.transpose(0, 1)


def _rotated(v: Tensor, theta: Tensor) -> Tensor:
    """`v (..., R, H, N)` with its pairs (2i, 2i+1), i < S, turned by `theta (..., H, S)`."""
    columns = 2 * theta.shape[-1]
    turned, still = v[..., :columns], v[..., columns:]
    even, odd = turned[..., 0::2], turned[..., 1::2]
    cos, sin = theta.cos().unsqueeze(-3), theta.sin().unsqueeze(-3)
    pairs = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return torch.cat([pairs.flatten(-2), still], dim=-1)


def _of_next_token(share: Tensor, documents: Tensor) -> Tensor:
    """`share (B, T, H)` of the token that follows, 0 where none of the same document does."""
    follows = functional.pad(documents[:, 1:] == documents[:, :-1], (0, 1))
    return functional.pad(share[:, 1:], (0, 0, 0, 1)) * follows[..., None]
