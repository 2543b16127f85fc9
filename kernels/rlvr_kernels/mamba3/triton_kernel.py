"""The Mamba-3 scan on a GPU, forwards and backwards.

`_walk_states` and `_walk_state_gradients` go along a sequence chunk by chunk, do the little that has to be done in
order, and leave each chunk the state that it begins with (or the gradient of the one that it ends with). Then all
chunks are independent: `_chunk_outputs` and the two kernels of gradients do the rest, one program per chunk and head.

A chunk has `ROWS = chunk · RANK` rows; row i is rank `i % RANK` of token `i // RANK`, so that SISO and MIMO are the same
attention-like products. State columns are taken in two halves, and the second one is turned only if the rotation
reaches it. Turned keys are made where they are used and never written. The backward pass keeps nothing but the inputs
and walks the states again. What B, C and the angles get from each head is written per head and summed after, in a fixed
order, so gradients do not change from run to run.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from rlvr_kernels.backend import interpreting
from rlvr_kernels.mamba3.reference import Mamba3State, Mamba3Weights, _entering, _per_head, _rotated

PI = tl.constexpr(3.141592653589793)


@triton.jit
def _cos_sin(angle, DTYPE: tl.constexpr):
    """Polynomials on [-π, π], right to 1e-6; the exact functions of the library are several times as long."""
    turn = angle - 2 * PI * tl.floor(angle / (2 * PI) + 0.5)
    u = turn * turn
    sin = 2.70882233e-06 - 2.06977372e-08 * u
    sin = 0.999999938 + u * (-0.166666211 + u * (0.00833279129 + u * (-0.000198176242 + u * sin)))
    cos = 2.42028298e-05 - 2.19724614e-07 * u
    cos = 0.99999921 + u * (-0.499994211 + u * (0.0416597752 + u * (-0.00138587814 + u * cos)))
    return cos.to(DTYPE), (turn * sin).to(DTYPE)


@triton.jit
def _wrapped(angle):
    """The same direction in [0, 2π)."""
    return angle - 2 * PI * tl.floor(angle / (2 * PI))


@triton.jit
def _rotate(v, cos, sin, ROWS: tl.constexpr, N: tl.constexpr):
    """Pairs (2i, 2i+1) of `v (ROWS, N)` turned by the angles (ROWS, N/2)."""
    even, odd = tl.split(tl.reshape(v, (ROWS, N // 2, 2)))
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (ROWS, N))


@triton.jit
def _pair_torque(grad, v, ROWS: tl.constexpr, N: tl.constexpr):
    """What turning the pairs of `v` further does to a loss with gradient `grad`: (ROWS, N/2)."""
    even, odd = tl.split(tl.reshape(v, (ROWS, N // 2, 2)))
    grad_even, grad_odd = tl.split(tl.reshape(grad, (ROWS, N // 2, 2)))
    return grad_odd * even - grad_even * odd


@triton.jit
def _over_ranks(v, ROWS: tl.constexpr, RANK: tl.constexpr, WIDTH: tl.constexpr):
    """(ROWS, WIDTH) -> (ROWS / RANK, WIDTH): the sum of each token's rows."""
    if RANK == 1:
        return v
    else:
        return tl.sum(tl.reshape(v, (ROWS // RANK, RANK, WIDTH)), axis=1)


@triton.jit
def _over_tokens(v, ROWS: tl.constexpr, RANK: tl.constexpr, WIDTH: tl.constexpr):
    """(ROWS, WIDTH) -> (RANK, WIDTH): the sum over tokens of each rank."""
    return tl.sum(tl.reshape(v, (ROWS // RANK, RANK, WIDTH)), axis=0)


@triton.jit
def _tokens_of(v, ROWS: tl.constexpr, RANK: tl.constexpr):
    """(ROWS,) -> (ROWS / RANK,): the sum of each token's rows."""
    if RANK == 1:
        return v
    else:
        return tl.sum(tl.reshape(v, (ROWS // RANK, RANK)), axis=1)


@triton.jit
def _decays(
    dt_ptr,
    a_ptr,
    trapezoid_ptr,
    document_ptr,
    start,
    length,
    heads: tl.constexpr,
    ROWS: tl.constexpr,
    RANK: tl.constexpr,
):
    """Of a chunk's rows: Δ, own and lasting weights, log decay since the chunk began, and documents; (ROWS,) each."""
    row = tl.arange(0, ROWS)
    token = start + row // RANK
    live = token < length
    dt = tl.load(dt_ptr + token * heads, mask=live, other=0.0)
    a = tl.load(a_ptr + token * heads, mask=live, other=0.0)
    trapezoid = tl.load(trapezoid_ptr + token * heads, mask=live, other=0.0)
    follows = token + 1 < length
    next_dt = tl.load(dt_ptr + (token + 1) * heads, mask=follows, other=0.0)
    next_trapezoid = tl.load(trapezoid_ptr + (token + 1) * heads, mask=follows, other=0.0)
    later = (1.0 - next_trapezoid) * next_dt
    document = tl.zeros((ROWS,), tl.int32)
    if document_ptr is not None:
        document = tl.load(document_ptr + tl.minimum(token, length - 1))
        later = tl.where(document == tl.load(document_ptr + tl.minimum(token + 1, length - 1)), later, 0.0)
    own = trapezoid * dt
    log_decay = tl.where(row % RANK == 0, a * dt, 0.0)
    return dt, own, own + later, tl.cumsum(log_decay, 0), tl.sum(log_decay, 0), document


@triton.jit
def _turns(
    angle_ptr,
    dt,
    start,
    length,
    pairs: tl.constexpr,
    first: tl.constexpr,
    ROWS: tl.constexpr,
    RANK: tl.constexpr,
    COUNT: tl.constexpr,
):
    """tanh(angle) of COUNT pairs from `first` on, and by how much each row turns them; (ROWS, COUNT) each."""
    row = tl.arange(0, ROWS)
    token = start + row // RANK
    pair = first + tl.arange(0, COUNT)
    there = (token < length)[:, None] & (pair < pairs)[None, :]
    angle = tl.load(angle_ptr + (token[:, None] * pairs + pair[None, :]), mask=there, other=0.0).to(tl.float32)
    squashed = 2.0 * tl.sigmoid(2.0 * angle) - 1.0
    return squashed, tl.where((row % RANK == 0)[:, None], PI * squashed * dt[:, None], 0.0)


@triton.jit
def _half_of(
    ptr, bias_ptr, start, length, stride: tl.constexpr, cos, sin, TURNS: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr,
    HALF: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """HALF columns of B or C (ROWS, HALF), biased and, if it TURNS, turned."""
    v = _ranked_rows_of(ptr, start, length, stride, HALF, ROWS, RANK) + _mix_of(bias_ptr, HALF, 2 * HALF, ROWS, RANK)
    if TURNS:
        v = _rotate(v, cos, sin, ROWS, HALF)
    return v.to(DOT)


@triton.jit
def _rows_of(ptr, start, length, stride: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr):
    """(ROWS, WIDTH) float32: each token's WIDTH values, the same for all its ranks; zero beyond the row's end."""
    token = start + tl.arange(0, ROWS) // RANK
    where = token[:, None] * stride + tl.arange(0, WIDTH)[None, :]
    return tl.load(ptr + where, mask=(token < length)[:, None], other=0.0).to(tl.float32)


@triton.jit
def _ranked_rows_of(
    ptr, start, length, stride: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr
):
    """(ROWS, WIDTH) float32 from values that differ by rank: rows `stride` apart, RANK of them a token."""
    row = start * RANK + tl.arange(0, ROWS)
    where = row[:, None] * stride + tl.arange(0, WIDTH)[None, :]
    return tl.load(ptr + where, mask=(row < length * RANK)[:, None], other=0.0).to(tl.float32)


@triton.jit
def _mix_of(ptr, WIDTH: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr):
    """(ROWS, WIDTH) float32 of a head's parameter, whose ranks lie STRIDE apart; one row of it if all are the same."""
    if RANK == 1:
        return tl.load(ptr + tl.arange(0, WIDTH)).to(tl.float32)[None, :]
    else:
        rank = tl.arange(0, ROWS) % RANK
        return tl.load(ptr + rank[:, None] * STRIDE + tl.arange(0, WIDTH)[None, :]).to(tl.float32)


@triton.jit
def _angles(
    angle_ptr, theta_ptr, dt, start, length, pairs: tl.constexpr, WIDE: tl.constexpr, TURN: tl.constexpr,
    ROWS: tl.constexpr, RANK: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """For both halves, of a chunk that begins at the angles `theta_ptr`: tanh(angle), cosines, sines."""
    pair = tl.arange(0, COUNT)
    squashed_a, turn = _turns(angle_ptr, dt, start, length, pairs, 0, ROWS, RANK, COUNT)
    cos_a, sin_a = _cos_sin(tl.load(theta_ptr + pair)[None, :] + tl.cumsum(turn, 0), TURN)
    squashed_b, cos_b, sin_b = squashed_a, cos_a, sin_a
    if WIDE:
        squashed_b, turn = _turns(angle_ptr, dt, start, length, pairs, COUNT, ROWS, RANK, COUNT)
        cos_b, sin_b = _cos_sin(tl.load(theta_ptr + COUNT + pair)[None, :] + tl.cumsum(turn, 0), TURN)
    return squashed_a, cos_a, sin_a, squashed_b, cos_b, sin_b


@triton.jit
def _inputs_of(
    x_ptr, mix_ptr, start, length, x_token: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr
):
    """The inputs of all ranks (ROWS, P)."""
    values = _rows_of(x_ptr, start, length, x_token, P, ROWS, RANK)
    if mix_ptr is not None:
        values *= _mix_of(mix_ptr, P, P, ROWS, RANK)
    return values


@triton.jit
def _output_gradients_of(
    grad_out_ptr, z_ptr, mix_z_ptr, mix_out_ptr, start, length, heads: tl.constexpr, z_token: tl.constexpr,
    P: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr,
):  # fmt: skip
    """What y of all ranks gets (ROWS, P), through the gate if there is one."""
    if z_ptr is None:
        return _ranked_rows_of(grad_out_ptr, start, length, heads * P, P, ROWS, RANK)
    else:
        grad = _rows_of(grad_out_ptr, start, length, heads * P, P, ROWS, RANK)
        gate = _rows_of(z_ptr, start, length, z_token, P, ROWS, RANK)
        if mix_z_ptr is not None:
            gate *= _mix_of(mix_z_ptr, P, P, ROWS, RANK)
            grad *= _mix_of(mix_out_ptr, P, P, ROWS, RANK)
        return grad * gate * tl.sigmoid(gate)


@triton.jit
def _walk_states(
    x_ptr, b_ptr, dt_ptr, a_ptr, trapezoid_ptr, angle_ptr, b_bias_ptr, mix_x_ptr, document_ptr, hidden_ptr, theta_ptr,
    hiddens_ptr, thetas_ptr, last_hidden_ptr, last_theta_ptr,
    length, x_batch, heads: tl.constexpr, groups: tl.constexpr, pairs: tl.constexpr, x_token: tl.constexpr,
    P: tl.constexpr, N: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Writes the state and the angles before each chunk and after the last."""
    head = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    sequence = batch * heads + head
    TOKENS: tl.constexpr = ROWS // RANK
    TURN: tl.constexpr = tl.float16 if DOT != tl.float32 else tl.float32
    HALF: tl.constexpr = N // 2
    COUNT: tl.constexpr = N // 4
    x_ptr += batch * x_batch + head * P
    b_ptr += batch * length * RANK * groups * N + head // (heads // groups) * N
    dt_ptr += batch * length * heads + head
    a_ptr += batch * length * heads + head
    trapezoid_ptr += batch * length * heads + head
    angle_ptr += batch * length * pairs
    b_bias_ptr += head * RANK * N
    if mix_x_ptr is not None:
        mix_x_ptr += head * RANK * P
    left_by = 0
    if document_ptr is not None:
        document_ptr += batch * length
        left_by = tl.load(document_ptr)

    pair = tl.arange(0, COUNT)
    place = tl.arange(0, P)[:, None] * N + tl.arange(0, HALF)[None, :]
    hidden_a = tl.load(hidden_ptr + sequence * P * N + place)
    hidden_b = tl.load(hidden_ptr + sequence * P * N + HALF + place)
    theta_a = tl.load(theta_ptr + sequence * pairs + pair, mask=pair < pairs, other=0.0)
    theta_b = tl.load(theta_ptr + sequence * pairs + COUNT + pair, mask=COUNT + pair < pairs, other=0.0)
    hiddens_ptr += sequence * tl.cdiv(length, TOKENS) * P * N
    thetas_ptr += sequence * tl.cdiv(length, TOKENS) * HALF

    for start in range(0, length, TOKENS):
        dt, _, lasting, elapsed, total, document = _decays(
            dt_ptr, a_ptr, trapezoid_ptr, document_ptr, start, length, heads, ROWS, RANK
        )
        tl.store(hiddens_ptr + place, hidden_a.to(hiddens_ptr.dtype.element_ty))
        tl.store(hiddens_ptr + HALF + place, hidden_b.to(hiddens_ptr.dtype.element_ty))
        tl.store(thetas_ptr + pair, theta_a)
        tl.store(thetas_ptr + COUNT + pair, theta_b)
        hiddens_ptr += P * N
        thetas_ptr += HALF
        _, turn = _turns(angle_ptr, dt, start, length, pairs, 0, ROWS, RANK, COUNT)
        cos_a, sin_a = _cos_sin(theta_a[None, :] + tl.cumsum(turn, 0), TURN)
        theta_a = _wrapped(theta_a + tl.sum(turn, 0))
        cos_b, sin_b = cos_a, sin_a
        if WIDE:
            _, turn = _turns(angle_ptr, dt, start, length, pairs, COUNT, ROWS, RANK, COUNT)
            cos_b, sin_b = _cos_sin(theta_b[None, :] + tl.cumsum(turn, 0), TURN)
            theta_b = _wrapped(theta_b + tl.sum(turn, 0))
        kept = tl.exp(total - elapsed) * lasting
        decay = tl.exp(total)
        if document_ptr is not None:
            last_document = tl.load(document_ptr + tl.minimum(start + TOKENS, length) - 1)
            kept = tl.where(document == last_document, kept, 0.0)
            decay = tl.where(last_document == left_by, decay, 0.0)
            left_by = last_document
        values = _inputs_of(x_ptr, mix_x_ptr, start, length, x_token, P, ROWS, RANK)
        entering = tl.trans((values * kept[:, None]).to(DOT))
        keys = _half_of(b_ptr, b_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
        hidden_a = tl.dot(entering, keys, hidden_a * decay, input_precision="ieee")
        keys = _half_of(
            b_ptr + HALF, b_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
        )
        hidden_b = tl.dot(entering, keys, hidden_b * decay, input_precision="ieee")

    tl.store(last_hidden_ptr + sequence * P * N + place, hidden_a)
    tl.store(last_hidden_ptr + sequence * P * N + HALF + place, hidden_b)
    tl.store(last_theta_ptr + sequence * pairs + pair, theta_a, pair < pairs)
    tl.store(last_theta_ptr + sequence * pairs + COUNT + pair, theta_b, COUNT + pair < pairs)


@triton.jit
def _chunk_outputs(
    x_ptr, z_ptr, b_ptr, c_ptr, dt_ptr, a_ptr, trapezoid_ptr, angle_ptr,
    b_bias_ptr, c_bias_ptr, skip_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, document_ptr, hiddens_ptr, thetas_ptr,
    out_ptr, grad_out_ptr, grad_mix_z_ptr, grad_mix_out_ptr,
    length, x_batch, z_batch, heads: tl.constexpr, groups: tl.constexpr, pairs: tl.constexpr, x_token: tl.constexpr,
    z_token: tl.constexpr, P: tl.constexpr, N: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, DOT: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Writes a chunk's output or, given the gradient of the output, what z and its mixes get."""
    head = tl.program_id(0)
    index = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    TOKENS: tl.constexpr = ROWS // RANK
    TURN: tl.constexpr = tl.float16 if DOT != tl.float32 else tl.float32
    HALF: tl.constexpr = N // 2
    COUNT: tl.constexpr = N // 4
    start = index * TOKENS
    chunk = (batch * heads + head) * tl.num_programs(1) + index
    scalar = batch * length * heads + head
    group = batch * length * RANK * groups * N + head // (heads // groups) * N
    if document_ptr is not None:
        document_ptr += batch * length
    dt, own, lasting, elapsed, _, document = _decays(
        dt_ptr + scalar, a_ptr + scalar, trapezoid_ptr + scalar, document_ptr, start, length, heads, ROWS, RANK
    )
    _, cos_a, sin_a, _, cos_b, sin_b = _angles(
        angle_ptr + batch * length * pairs, thetas_ptr + chunk * HALF, dt, start, length, pairs, WIDE, TURN, ROWS, RANK,
        COUNT,
    )  # fmt: skip
    place = hiddens_ptr + chunk * P * N + (tl.arange(0, P)[:, None] * N + tl.arange(0, HALF)[None, :])
    b_ptr += group
    c_ptr += group
    b_bias_ptr += head * RANK * N
    c_bias_ptr += head * RANK * N
    keys = _half_of(b_ptr, b_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    queries = _half_of(c_ptr, c_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
    y = tl.dot(queries, tl.trans(tl.load(place).to(DOT)), input_precision="ieee")
    keys = _half_of(
        b_ptr + HALF, b_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    queries = _half_of(
        c_ptr + HALF, c_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    scores = tl.dot(queries, tl.trans(keys), scores, input_precision="ieee")
    y = tl.dot(queries, tl.trans(tl.load(place + HALF).to(DOT)), y, input_precision="ieee")

    row = tl.arange(0, ROWS)
    seen = tl.exp(elapsed)
    before = row[:, None] // RANK > row[None, :] // RANK
    if document_ptr is not None:
        seen = tl.where(document == tl.load(document_ptr + tl.maximum(start - 1, 0)), seen, 0.0)
        before = before & (document[:, None] == document[None, :])
    weight = tl.exp(tl.where(before, elapsed[:, None] - elapsed[None, :], -float("inf"))) * lasting[None, :]
    weight = tl.where(row[:, None] // RANK == row[None, :] // RANK, own[None, :], weight)
    if mix_x_ptr is not None:
        mix_x_ptr += head * RANK * P
    values = _inputs_of(x_ptr + batch * x_batch + head * P, mix_x_ptr, start, length, x_token, P, ROWS, RANK)
    y = tl.dot((scores * weight).to(DOT), values.to(DOT), y * seen[:, None], input_precision="ieee")
    y += tl.load(skip_ptr + head).to(tl.float32) * values

    p = tl.arange(0, P)
    if z_ptr is None:
        line = start * RANK + row
        out_ptr += batch * length * RANK * heads * P + head * P
        place = out_ptr + (line[:, None] * (heads * P) + p[None, :])
        tl.store(place, y.to(out_ptr.dtype.element_ty), (line < length * RANK)[:, None])
    else:
        gate = _rows_of(z_ptr + batch * z_batch + head * P, start, length, z_token, P, ROWS, RANK)
        mix = head * RANK * P
        rank = tl.arange(0, RANK)[:, None] * P + p[None, :]
        z = gate
        if mix_z_ptr is not None:
            gate *= _mix_of(mix_z_ptr + mix, P, P, ROWS, RANK)
        sigmoid = tl.sigmoid(gate)
        if grad_out_ptr is None:
            y *= gate * sigmoid
            if mix_out_ptr is not None:
                y *= _mix_of(mix_out_ptr + mix, P, P, ROWS, RANK)
        else:
            grad_out_ptr += batch * length * heads * P + head * P
            grad = _rows_of(grad_out_ptr, start, length, heads * P, P, ROWS, RANK)
            if mix_out_ptr is not None:
                grad_mix = _over_tokens(grad * y * gate * sigmoid, ROWS, RANK, P)
                tl.store(grad_mix_out_ptr + chunk * RANK * P + rank, grad_mix)
                grad *= _mix_of(mix_out_ptr + mix, P, P, ROWS, RANK)
            grad *= y * sigmoid * (1.0 + gate * (1.0 - sigmoid))
            if mix_z_ptr is not None:
                tl.store(grad_mix_z_ptr + chunk * RANK * P + rank, _over_tokens(grad * z, ROWS, RANK, P))
                grad *= _mix_of(mix_z_ptr + mix, P, P, ROWS, RANK)
            y = grad
        token = start + tl.arange(0, TOKENS)
        out_ptr += batch * length * heads * P + head * P
        place = out_ptr + (token[:, None] * (heads * P) + p[None, :])
        tl.store(place, _over_ranks(y, ROWS, RANK, P).to(out_ptr.dtype.element_ty), (token < length)[:, None])


@triton.jit
def _walk_state_gradients(
    z_ptr, c_ptr, dt_ptr, a_ptr, trapezoid_ptr, angle_ptr, c_bias_ptr, mix_z_ptr, mix_out_ptr, document_ptr,
    thetas_ptr, grad_out_ptr, grad_hidden_ptr, grad_hiddens_ptr, grad_first_hidden_ptr,
    length, z_batch, heads: tl.constexpr, groups: tl.constexpr, pairs: tl.constexpr, z_token: tl.constexpr,
    P: tl.constexpr, N: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Writes the gradient of the state after each chunk and before the first."""
    head = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    sequence = batch * heads + head
    TOKENS: tl.constexpr = ROWS // RANK
    TURN: tl.constexpr = tl.float16 if DOT != tl.float32 else tl.float32
    HALF: tl.constexpr = N // 2
    COUNT: tl.constexpr = N // 4
    chunks = tl.cdiv(length, TOKENS)
    c_ptr += batch * length * RANK * groups * N + head // (heads // groups) * N
    dt_ptr += batch * length * heads + head
    a_ptr += batch * length * heads + head
    trapezoid_ptr += batch * length * heads + head
    angle_ptr += batch * length * pairs
    c_bias_ptr += head * RANK * N
    if mix_z_ptr is not None:
        mix_z_ptr += head * RANK * P
        mix_out_ptr += head * RANK * P
    if document_ptr is not None:
        document_ptr += batch * length
    if z_ptr is not None:
        z_ptr += batch * z_batch + head * P
        grad_out_ptr += batch * length * heads * P + head * P
    else:
        grad_out_ptr += batch * length * RANK * heads * P + head * P

    place = tl.arange(0, P)[:, None] * N + tl.arange(0, HALF)[None, :]
    grad_a = tl.load(grad_hidden_ptr + sequence * P * N + place)
    grad_b = tl.load(grad_hidden_ptr + sequence * P * N + HALF + place)
    for step in range(chunks):
        index = chunks - 1 - step
        start = index * TOKENS
        dt, _, _, elapsed, total, document = _decays(
            dt_ptr, a_ptr, trapezoid_ptr, document_ptr, start, length, heads, ROWS, RANK
        )
        chunk = sequence * chunks + index
        tl.store(grad_hiddens_ptr + chunk * P * N + place, grad_a.to(grad_hiddens_ptr.dtype.element_ty))
        tl.store(grad_hiddens_ptr + chunk * P * N + HALF + place, grad_b.to(grad_hiddens_ptr.dtype.element_ty))
        _, cos_a, sin_a, _, cos_b, sin_b = _angles(
            angle_ptr, thetas_ptr + chunk * HALF, dt, start, length, pairs, WIDE, TURN, ROWS, RANK, COUNT
        )
        seen = tl.exp(elapsed)
        decay = tl.exp(total)
        if document_ptr is not None:
            left_by = tl.load(document_ptr + tl.maximum(start - 1, 0))
            seen = tl.where(document == left_by, seen, 0.0)
            last_document = tl.load(document_ptr + tl.minimum(start + TOKENS, length) - 1)
            decay = tl.where(last_document == left_by, decay, 0.0)
        grad_y = _output_gradients_of(
            grad_out_ptr, z_ptr, mix_z_ptr, mix_out_ptr, start, length, heads, z_token, P, ROWS, RANK
        )
        leaving = tl.trans((grad_y * seen[:, None]).to(DOT))
        queries = _half_of(c_ptr, c_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
        grad_a = tl.dot(leaving, queries, grad_a * decay, input_precision="ieee")
        queries = _half_of(
            c_ptr + HALF, c_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
        )
        grad_b = tl.dot(leaving, queries, grad_b * decay, input_precision="ieee")

    tl.store(grad_first_hidden_ptr + sequence * P * N + place, grad_a)
    tl.store(grad_first_hidden_ptr + sequence * P * N + HALF + place, grad_b)


@triton.jit
def _half_gradients(
    grad_c_ptr, grad_b_ptr, grad_c_bias_ptr, grad_b_bias_ptr, hidden_ptr, grad_hidden_ptr, queries, keys, grad_scores,
    grad_y, values, seen, kept, cos, sin, start, length, stride: tl.constexpr, TURNS: tl.constexpr, ROWS: tl.constexpr,
    RANK: tl.constexpr, HALF: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Writes what HALF columns of this head's C and B and their biases get.

    Gives the gradients of log(seen) and of kept (ROWS,), the sum of state times its gradient, and the torque on pairs.
    """
    DOT: tl.constexpr = queries.dtype
    row = start * RANK + tl.arange(0, ROWS)
    column = tl.arange(0, HALF)
    place = row[:, None] * stride + column[None, :]
    inside = (row < length * RANK)[:, None]
    bias = tl.arange(0, RANK)[:, None] * (2 * HALF) + column[None, :]
    state = tl.arange(0, P)[:, None] * (2 * HALF) + column[None, :]

    hidden = tl.load(hidden_ptr + state)
    grad = tl.dot(grad_y, hidden.to(DOT), input_precision="ieee") * seen[:, None]
    grad_log_seen = tl.sum(grad * queries.to(tl.float32), 1)
    grad = tl.dot(grad_scores, keys, grad, input_precision="ieee")
    torque = _pair_torque(grad, queries.to(tl.float32), ROWS, HALF)
    if TURNS:
        grad = _rotate(grad, cos, -sin, ROWS, HALF)
    tl.store(grad_c_bias_ptr + bias, _over_tokens(grad, ROWS, RANK, HALF))
    tl.store(grad_c_ptr + place, grad.to(grad_c_ptr.dtype.element_ty), inside)

    grad_hidden = tl.load(grad_hidden_ptr + state)
    through = tl.sum(hidden.to(tl.float32) * grad_hidden.to(tl.float32))
    grad = tl.dot(values, grad_hidden.to(DOT), input_precision="ieee")
    grad_kept = tl.sum(grad * keys.to(tl.float32), 1)
    grad = tl.dot(tl.trans(grad_scores), queries, grad * kept[:, None], input_precision="ieee")
    torque += _pair_torque(grad, keys.to(tl.float32), ROWS, HALF)
    if TURNS:
        grad = _rotate(grad, cos, -sin, ROWS, HALF)
    tl.store(grad_b_bias_ptr + bias, _over_tokens(grad, ROWS, RANK, HALF))
    tl.store(grad_b_ptr + place, grad.to(grad_b_ptr.dtype.element_ty), inside)
    return grad_log_seen, grad_kept, through, torque


@triton.jit
def _store_turns(
    grad_turn_ptr, grad_turned_ptr, torque, start, length, heads: tl.constexpr, pairs: tl.constexpr,
    first: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """Writes what turning COUNT pairs at each token and at the chunk as a whole does, to the end of the chunk."""
    first_rank = (tl.arange(0, ROWS) % RANK == 0)[:, None]
    turn = tl.where(first_rank, tl.cumsum(torque, 0, reverse=True), 0.0)
    token = start + tl.arange(0, ROWS // RANK)
    pair = first + tl.arange(0, COUNT)
    there = (token < length)[:, None] & (pair < pairs)[None, :]
    place = token[:, None] * (heads * pairs) + pair[None, :]
    tl.store(grad_turn_ptr + place, _over_ranks(turn, ROWS, RANK, COUNT).to(grad_turn_ptr.dtype.element_ty), there)
    tl.store(grad_turned_ptr + pair, tl.sum(torque, 0), pair < pairs)


@triton.jit
def _output_and_input_of(
    x_ptr, z_ptr, grad_out_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, batch, head, start, length, x_batch, z_batch,
    heads: tl.constexpr, x_token: tl.constexpr, z_token: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr,
    RANK: tl.constexpr,
):  # fmt: skip
    """What y gets, and the inputs; (ROWS, P) each."""
    if z_ptr is not None:
        z_ptr += batch * z_batch + head * P
        grad_out_ptr += batch * length * heads * P + head * P
    else:
        grad_out_ptr += batch * length * RANK * heads * P + head * P
    if mix_x_ptr is not None:
        mix_x_ptr += head * RANK * P
    if mix_z_ptr is not None:
        mix_z_ptr += head * RANK * P
        mix_out_ptr += head * RANK * P
    grad_y = _output_gradients_of(
        grad_out_ptr, z_ptr, mix_z_ptr, mix_out_ptr, start, length, heads, z_token, P, ROWS, RANK
    )
    x_ptr += batch * x_batch + head * P
    return grad_y, _inputs_of(x_ptr, mix_x_ptr, start, length, x_token, P, ROWS, RANK)


@triton.jit
def _fading(elapsed, document, document_ptr, ROWS: tl.constexpr, RANK: tl.constexpr):
    """exp(elapsed_i - elapsed_j) where row j lies before row i, in the same document; else 0."""
    token = tl.arange(0, ROWS) // RANK
    before = token[:, None] > token[None, :]
    if document_ptr is not None:
        before = before & (document[:, None] == document[None, :])
    return tl.exp(tl.where(before, elapsed[:, None] - elapsed[None, :], -float("inf")))


@triton.jit
def _edges(elapsed, total, document, document_ptr, start, length, TOKENS: tl.constexpr):
    """How much a row sees of the state before the chunk, how much of it lasts till its end, and the decay between."""
    seen = tl.exp(elapsed)
    lasts = tl.exp(total - elapsed)
    decay = tl.exp(total)
    if document_ptr is not None:
        left_by = tl.load(document_ptr + tl.maximum(start - 1, 0))
        last_document = tl.load(document_ptr + tl.minimum(start + TOKENS, length) - 1)
        seen = tl.where(document == left_by, seen, 0.0)
        lasts = tl.where(document == last_document, lasts, 0.0)
        decay = tl.where(last_document == left_by, decay, 0.0)
    return seen, lasts, decay


@triton.jit
def _chunk_value_gradients(
    x_ptr, z_ptr, b_ptr, c_ptr, dt_ptr, a_ptr, trapezoid_ptr, angle_ptr,
    b_bias_ptr, c_bias_ptr, skip_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, document_ptr,
    thetas_ptr, grad_out_ptr, grad_hiddens_ptr,
    grad_x_ptr, grad_own_ptr, grad_lasting_ptr, grad_elapsed_ptr, grad_skip_ptr, grad_mix_x_ptr,
    length, x_batch, z_batch, heads: tl.constexpr, groups: tl.constexpr, pairs: tl.constexpr, x_token: tl.constexpr,
    z_token: tl.constexpr, P: tl.constexpr, N: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, DOT: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Writes what a chunk's inputs get, and its weights and decays through the products inside of the chunk."""
    head = tl.program_id(0)
    index = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    TOKENS: tl.constexpr = ROWS // RANK
    TURN: tl.constexpr = tl.float16 if DOT != tl.float32 else tl.float32
    HALF: tl.constexpr = N // 2
    COUNT: tl.constexpr = N // 4
    start = index * TOKENS
    chunk = (batch * heads + head) * tl.num_programs(1) + index
    scalar = batch * length * heads + head
    group = batch * length * RANK * groups * N + head // (heads // groups) * N
    if document_ptr is not None:
        document_ptr += batch * length
    dt, own, lasting, elapsed, total, document = _decays(
        dt_ptr + scalar, a_ptr + scalar, trapezoid_ptr + scalar, document_ptr, start, length, heads, ROWS, RANK
    )
    _, cos_a, sin_a, _, cos_b, sin_b = _angles(
        angle_ptr + batch * length * pairs, thetas_ptr + chunk * HALF, dt, start, length, pairs, WIDE, TURN, ROWS, RANK,
        COUNT,
    )  # fmt: skip
    b_ptr += group
    c_ptr += group
    b_bias_ptr += head * RANK * N
    c_bias_ptr += head * RANK * N
    p = tl.arange(0, P)
    place = grad_hiddens_ptr + chunk * P * N + (p[:, None] * N + tl.arange(0, HALF)[None, :])
    keys = _half_of(b_ptr, b_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    grad_values = tl.dot(keys, tl.trans(tl.load(place).to(DOT)), input_precision="ieee")
    queries = _half_of(c_ptr, c_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
    keys = _half_of(
        b_ptr + HALF, b_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    grad_values = tl.dot(keys, tl.trans(tl.load(place + HALF).to(DOT)), grad_values, input_precision="ieee")
    queries = _half_of(
        c_ptr + HALF, c_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    scores = tl.dot(queries, tl.trans(keys), scores, input_precision="ieee")

    row = tl.arange(0, ROWS)
    _, lasts, _ = _edges(elapsed, total, document, document_ptr, start, length, TOKENS)
    fading = _fading(elapsed, document, document_ptr, ROWS, RANK)
    itself = row[:, None] // RANK == row[None, :] // RANK
    grad_y, values = _output_and_input_of(
        x_ptr, z_ptr, grad_out_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, batch, head, start, length, x_batch, z_batch,
        heads, x_token, z_token, P, ROWS, RANK,
    )  # fmt: skip
    weighted = (scores * tl.where(itself, own[None, :], fading * lasting[None, :])).to(DOT)
    grad_values *= (lasts * lasting)[:, None]
    grad_values = tl.dot(tl.trans(weighted), grad_y.to(DOT), grad_values, input_precision="ieee")
    grad_values += tl.load(skip_ptr + head).to(tl.float32) * grad_y
    tl.store(grad_skip_ptr + chunk, tl.sum(grad_y * values))

    grad_weight = scores * tl.dot(grad_y.to(DOT), tl.trans(values.to(DOT)), input_precision="ieee")
    grad_own = tl.sum(tl.where(itself, grad_weight, 0.0), 0)
    faded = grad_weight * fading
    grad_lasting = tl.sum(faded, 0)
    grad_elapsed = tl.sum(faded * lasting[None, :], 1) - grad_lasting * lasting
    line = start * RANK + row
    place = (batch * length * RANK + line) * heads + head
    tl.store(grad_own_ptr + place, grad_own, line < length * RANK)
    tl.store(grad_lasting_ptr + place, grad_lasting, line < length * RANK)
    tl.store(grad_elapsed_ptr + place, grad_elapsed, line < length * RANK)

    if mix_x_ptr is not None:
        unmixed = _rows_of(x_ptr + batch * x_batch + head * P, start, length, x_token, P, ROWS, RANK)
        grad_mix = _over_tokens(grad_values * unmixed, ROWS, RANK, P)
        tl.store(grad_mix_x_ptr + chunk * RANK * P + (tl.arange(0, RANK)[:, None] * P + p[None, :]), grad_mix)
        grad_values *= _mix_of(mix_x_ptr + head * RANK * P, P, P, ROWS, RANK)
    token = start + tl.arange(0, TOKENS)
    place = batch * length * heads * P + head * P + (token[:, None] * (heads * P) + p[None, :])
    grad_x = _over_ranks(grad_values, ROWS, RANK, P).to(grad_x_ptr.dtype.element_ty)
    tl.store(grad_x_ptr + place, grad_x, (token < length)[:, None])


@triton.jit
def _half_gradients(
    grad_c_ptr, grad_b_ptr, grad_c_bias_ptr, grad_b_bias_ptr, hidden_ptr, grad_hidden_ptr, queries, keys, grad_scores,
    grad_y, values, seen, kept, cos, sin, start, length, stride: tl.constexpr, TURNS: tl.constexpr, ROWS: tl.constexpr,
    RANK: tl.constexpr, HALF: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Writes what HALF columns of this head's C and B and their biases get.

    Gives the gradients of log(seen) and of kept (ROWS,), the sum of state times its gradient, and the torque on pairs.
    """
    DOT: tl.constexpr = queries.dtype
    row = start * RANK + tl.arange(0, ROWS)
    column = tl.arange(0, HALF)
    place = row[:, None] * stride + column[None, :]
    inside = (row < length * RANK)[:, None]
    bias = tl.arange(0, RANK)[:, None] * (2 * HALF) + column[None, :]
    state = tl.arange(0, P)[:, None] * (2 * HALF) + column[None, :]

    hidden = tl.load(hidden_ptr + state)
    grad = tl.dot(grad_y, hidden.to(DOT), input_precision="ieee") * seen[:, None]
    grad_log_seen = tl.sum(grad * queries.to(tl.float32), 1)
    grad = tl.dot(grad_scores, keys, grad, input_precision="ieee")
    torque = _pair_torque(grad, queries.to(tl.float32), ROWS, HALF)
    if TURNS:
        grad = _rotate(grad, cos, -sin, ROWS, HALF)
    tl.store(grad_c_bias_ptr + bias, _over_tokens(grad, ROWS, RANK, HALF))
    tl.store(grad_c_ptr + place, grad.to(grad_c_ptr.dtype.element_ty), inside)

    grad_hidden = tl.load(grad_hidden_ptr + state)
    through = tl.sum(hidden.to(tl.float32) * grad_hidden.to(tl.float32))
    grad = tl.dot(values, grad_hidden.to(DOT), input_precision="ieee")
    grad_kept = tl.sum(grad * keys.to(tl.float32), 1)
    grad = tl.dot(tl.trans(grad_scores), queries, grad * kept[:, None], input_precision="ieee")
    torque += _pair_torque(grad, keys.to(tl.float32), ROWS, HALF)
    if TURNS:
        grad = _rotate(grad, cos, -sin, ROWS, HALF)
    tl.store(grad_b_bias_ptr + bias, _over_tokens(grad, ROWS, RANK, HALF))
    tl.store(grad_b_ptr + place, grad.to(grad_b_ptr.dtype.element_ty), inside)
    return grad_log_seen, grad_kept, through, torque


@triton.jit
def _store_turns(
    grad_turn_ptr, grad_turned_ptr, torque, start, length, heads: tl.constexpr, pairs: tl.constexpr,
    first: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """Writes what turning COUNT pairs at each token and at the chunk as a whole does, to the end of the chunk."""
    first_rank = (tl.arange(0, ROWS) % RANK == 0)[:, None]
    turn = tl.where(first_rank, tl.cumsum(torque, 0, reverse=True), 0.0)
    token = start + tl.arange(0, ROWS // RANK)
    pair = first + tl.arange(0, COUNT)
    there = (token < length)[:, None] & (pair < pairs)[None, :]
    place = token[:, None] * (heads * pairs) + pair[None, :]
    tl.store(grad_turn_ptr + place, _over_ranks(turn, ROWS, RANK, COUNT).to(grad_turn_ptr.dtype.element_ty), there)
    tl.store(grad_turned_ptr + pair, tl.sum(torque, 0), pair < pairs)


@triton.jit
def _chunk_key_gradients(
    x_ptr, z_ptr, b_ptr, c_ptr, dt_ptr, a_ptr, trapezoid_ptr, angle_ptr,
    b_bias_ptr, c_bias_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, document_ptr,
    hiddens_ptr, thetas_ptr, grad_out_ptr, grad_hiddens_ptr, grad_own_ptr, grad_lasting_ptr, grad_elapsed_ptr,
    grad_b_ptr, grad_c_ptr, grad_log_decay_ptr, grad_weight_ptr, grad_later_ptr, grad_turn_ptr, grad_turned_ptr,
    grad_b_bias_ptr, grad_c_bias_ptr,
    length, x_batch, z_batch, heads: tl.constexpr, groups: tl.constexpr, pairs: tl.constexpr, x_token: tl.constexpr,
    z_token: tl.constexpr, P: tl.constexpr, N: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, DOT: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Writes what a chunk's B, C and angles get, and completes what its weights and decays get."""
    head = tl.program_id(0)
    index = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    TOKENS: tl.constexpr = ROWS // RANK
    TURN: tl.constexpr = tl.float16 if DOT != tl.float32 else tl.float32
    HALF: tl.constexpr = N // 2
    COUNT: tl.constexpr = N // 4
    start = index * TOKENS
    chunk = (batch * heads + head) * tl.num_programs(1) + index
    scalar = batch * length * heads + head
    group = batch * length * RANK * groups * N + head // (heads // groups) * N
    if document_ptr is not None:
        document_ptr += batch * length
    dt, own, lasting, elapsed, total, document = _decays(
        dt_ptr + scalar, a_ptr + scalar, trapezoid_ptr + scalar, document_ptr, start, length, heads, ROWS, RANK
    )
    row = tl.arange(0, ROWS)
    seen, lasts, decay = _edges(elapsed, total, document, document_ptr, start, length, TOKENS)
    kept = lasts * lasting
    grad_y, values = _output_and_input_of(
        x_ptr, z_ptr, grad_out_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, batch, head, start, length, x_batch, z_batch,
        heads, x_token, z_token, P, ROWS, RANK,
    )  # fmt: skip
    grad_y = grad_y.to(DOT)
    values = values.to(DOT)
    weight = _fading(elapsed, document, document_ptr, ROWS, RANK) * lasting[None, :]
    weight = tl.where(row[:, None] // RANK == row[None, :] // RANK, own[None, :], weight)
    grad_scores = (tl.dot(grad_y, tl.trans(values), input_precision="ieee") * weight).to(DOT)

    b_ptr += group
    c_ptr += group
    b_bias_ptr += head * RANK * N
    c_bias_ptr += head * RANK * N
    per_head = batch * length * RANK * heads * N + head * N
    bias = chunk * RANK * N
    state = chunk * P * N
    _, cos_a, sin_a, _, cos_b, sin_b = _angles(
        angle_ptr + batch * length * pairs, thetas_ptr + chunk * HALF, dt, start, length, pairs, WIDE, TURN, ROWS, RANK,
        COUNT,
    )  # fmt: skip
    keys = _half_of(b_ptr, b_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    queries = _half_of(c_ptr, c_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    seen_a, kept_a, through_a, torque = _half_gradients(
        grad_c_ptr + per_head, grad_b_ptr + per_head, grad_c_bias_ptr + bias, grad_b_bias_ptr + bias,
        hiddens_ptr + state, grad_hiddens_ptr + state, queries, keys, grad_scores, grad_y, values, seen, kept,
        cos_a, sin_a, start, length, heads * N, True, ROWS, RANK, HALF, P,
    )  # fmt: skip
    grad_turn_ptr += (batch * length * heads + head) * pairs
    grad_turned_ptr += chunk * pairs
    _store_turns(grad_turn_ptr, grad_turned_ptr, torque, start, length, heads, pairs, 0, ROWS, RANK, COUNT)
    keys = _half_of(
        b_ptr + HALF, b_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    queries = _half_of(
        c_ptr + HALF, c_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    seen_b, kept_b, through_b, torque = _half_gradients(
        grad_c_ptr + per_head + HALF, grad_b_ptr + per_head + HALF, grad_c_bias_ptr + bias + HALF,
        grad_b_bias_ptr + bias + HALF, hiddens_ptr + state + HALF, grad_hiddens_ptr + state + HALF, queries, keys,
        grad_scores, grad_y, values, seen, kept, cos_b, sin_b, start, length, heads * N, WIDE, ROWS, RANK, HALF, P,
    )  # fmt: skip
    if WIDE:
        _store_turns(grad_turn_ptr, grad_turned_ptr, torque, start, length, heads, pairs, COUNT, ROWS, RANK, COUNT)

    line = start * RANK + row
    inside = line < length * RANK
    place = (batch * length * RANK + line) * heads + head
    grad_kept = kept_a + kept_b
    grad_lasting = tl.load(grad_lasting_ptr + place, mask=inside, other=0.0) + grad_kept * lasts
    grad_own = tl.load(grad_own_ptr + place, mask=inside, other=0.0) + grad_lasting
    grad_elapsed = tl.load(grad_elapsed_ptr + place, mask=inside, other=0.0) + seen_a + seen_b - grad_kept * kept
    grad_total = tl.sum(grad_kept * kept) + decay * (through_a + through_b)
    grad_log_decay = tl.where(row % RANK == 0, tl.cumsum(grad_elapsed, 0, reverse=True) + grad_total, 0.0)
    token = start + tl.arange(0, TOKENS)
    here = token < length
    place = scalar + token * heads
    tl.store(grad_log_decay_ptr + place, _tokens_of(grad_log_decay, ROWS, RANK), here)
    tl.store(grad_weight_ptr + place, _tokens_of(grad_own, ROWS, RANK), here)
    tl.store(grad_later_ptr + place, _tokens_of(grad_lasting, ROWS, RANK), here)


@triton.jit
def _angle_gradients(
    grad_turn_ptr, grad_after_ptr, angle_ptr, dt_ptr, grad_angle_ptr, grad_dt_ptr, length, chunks, chunk_size,
    heads: tl.constexpr, pairs: tl.constexpr, PAIRS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Sums over heads what turns do, to the end of their chunk and in all later ones: the gradient of `angle` and Δ."""
    batch = tl.program_id(1).to(tl.int64)
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    here = token < length
    pair = tl.arange(0, PAIRS)
    there = here[:, None] & (pair < pairs)[None, :]
    place = (batch * length + token[:, None]) * pairs + pair[None, :]
    squashed = 2.0 * tl.sigmoid(2.0 * tl.load(angle_ptr + place, mask=there, other=0.0).to(tl.float32)) - 1.0
    grad_angle = tl.zeros((TOKENS, PAIRS), tl.float32)
    for head in range(heads):
        scalar = (batch * length + token) * heads + head
        after = ((batch * heads + head) * chunks + token[:, None] // chunk_size) * pairs + pair[None, :]
        turn = tl.load(grad_turn_ptr + scalar[:, None] * pairs + pair[None, :], mask=there, other=0.0).to(tl.float32)
        turn += tl.load(grad_after_ptr + after, mask=there, other=0.0)
        grad_angle += turn * tl.load(dt_ptr + scalar, mask=here, other=0.0)[:, None]
        tl.store(grad_dt_ptr + scalar, tl.sum(turn * squashed, 1) * PI, here)
    grad_angle *= PI * (1.0 - squashed * squashed)
    tl.store(grad_angle_ptr + place, grad_angle.to(grad_angle_ptr.dtype.element_ty), there)


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
    """Arguments as for `rlvr_kernels.mamba3`; P, N, the rank and the rows of a chunk must be powers of two."""
    rank, columns = b.shape[2], b.shape[4]
    for name, size, least in (("P", x.shape[3], 16), ("N", columns, 32), ("chunk_size * R", chunk_size * rank, 16)):
        if size < least or size & (size - 1):
            raise ValueError(f"{name}={size} does not fit the Triton scan: use a power of two >= {least}.")
    if z is None:
        weights = weights._replace(mix_z=None, mix_out=None)
    dt, a, trapezoid = dt.float(), a.float(), trapezoid.float()
    hidden = _entering(x, b, (1 - trapezoid) * dt, weights, state)
    theta = hidden.new_zeros(*hidden.shape[:2], angle.shape[-1]) if state is None else state.theta
    documents = None if document_ids is None else document_ids.to(torch.int32)
    out, last_hidden, last_theta = _scan(
        x, z, b, c, dt, a, trapezoid, angle, *weights, documents, hidden, theta, chunk_size
    )
    last_b = _rotated(_per_head(b[:, -1], weights.b_bias), last_theta)
    return out, Mamba3State(last_hidden, last_theta, last_b, x[:, -1].float())


class _Inputs(NamedTuple):
    """The arguments of the two custom operations, in the order of `_ARGUMENTS`."""

    x: Tensor
    z: Tensor | None
    b: Tensor
    c: Tensor
    dt: Tensor
    a: Tensor
    trapezoid: Tensor
    angle: Tensor
    b_bias: Tensor
    c_bias: Tensor
    skip: Tensor
    mix_x: Tensor | None
    mix_z: Tensor | None
    mix_out: Tensor | None
    document: Tensor | None
    hidden: Tensor
    theta: Tensor
    chunk_size: int

    def laid_out(self) -> _Inputs:
        """With the strides that the kernels take for granted: only tokens of x and z may lie apart."""
        tensors = {name: value.contiguous() for name, value in self._asdict().items() if isinstance(value, Tensor)}
        spaced = {name: value for name, value in (("x", self.x), ("z", self.z)) if value is not None and _whole(value)}
        return self._replace(**(tensors | spaced))

    def out_shape(self) -> tuple[int, ...]:
        batch, length, heads, width = self.x.shape
        return (batch, length, heads, width) if self.z is not None else (batch, length, self.b.shape[2], heads, width)

    def numbers(self, kernel: Any) -> dict[str, Any]:
        """Those arguments of a kernel that are no tensors."""
        spaced = self.x if self.z is None else self.z
        rank, groups, columns = self.b.shape[2:]
        values = {
            "length": self.x.shape[1],
            "x_batch": self.x.stride(0),
            "z_batch": spaced.stride(0),
            "heads": self.x.shape[2],
            "groups": groups,
            "pairs": self.angle.shape[2],
            "x_token": self.x.stride(1),
            "z_token": spaced.stride(1),
            "P": self.x.shape[3],
            "N": columns,
            "RANK": rank,
            "ROWS": rank * self.chunk_size,
            "DOT": _DOTS[self.kept_dtype()],
            "WIDE": 4 * self.angle.shape[2] > columns,
        }
        return {name: value for name, value in values.items() if name in kernel.arg_names}

    def tensors(self, kernel: Any) -> dict[str, Tensor | None]:
        """Those arguments of a kernel that were given to the operation."""
        pointers = {f"{name}_ptr": value for name, value in self._asdict().items()}
        return {name: value for name, value in pointers.items() if name in kernel.arg_names}

    def launch(self, kernel: Any, grid: tuple[int, ...], **results: Tensor | None) -> None:
        """Runs a kernel whose remaining pointers are `results`."""
        pointers = {f"{name}_ptr": value for name, value in results.items()}
        kernel[grid](**self.tensors(kernel) | pointers, **self.numbers(kernel), **_LAUNCH[kernel.fn.__name__])

    def chunks(self) -> int:
        return -(-self.x.shape[1] // self.chunk_size)

    def walk_states(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The states and angles before each chunk, and those after the last."""
        batch, _, heads, width = self.x.shape
        columns = self.b.shape[4]
        hiddens = self.hidden.new_empty(batch, heads, self.chunks(), width, columns, dtype=self.kept_dtype())
        thetas = self.hidden.new_empty(batch, heads, self.chunks(), columns // 2)
        last_hidden, last_theta = torch.empty_like(self.hidden), torch.empty_like(self.theta)
        results = {"hiddens": hiddens, "thetas": thetas, "last_hidden": last_hidden, "last_theta": last_theta}
        self.launch(_walk_states, (heads, batch), **results)
        return hiddens, thetas, last_hidden, last_theta

    def kept_dtype(self) -> torch.dtype:
        """In which products are taken, states before chunks and gradients per head are kept."""
        return torch.float32 if interpreting() else self.x.dtype


def _whole(x: Tensor) -> bool:
    """The (H, P) values of a token lie together."""
    return x.stride(3) == 1 and x.stride(2) == x.shape[3]


_LAUNCH = {
    "_walk_states": {"num_warps": 4, "num_stages": 2},
    "_chunk_outputs": {"num_warps": 4, "num_stages": 1},
    "_walk_state_gradients": {"num_warps": 4, "num_stages": 2},
    "_chunk_value_gradients": {"num_warps": 4, "num_stages": 1},
    "_chunk_key_gradients": {"num_warps": 4, "num_stages": 1},
}
_DOTS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_ARGUMENTS = (
    "Tensor x, Tensor? z, Tensor b, Tensor c, Tensor dt, Tensor a, Tensor trapezoid, Tensor angle, Tensor b_bias, "
    "Tensor c_bias, Tensor skip, Tensor? mix_x, Tensor? mix_z, Tensor? mix_out, Tensor? document, Tensor hidden, "
    "Tensor theta, int chunk_size"
)


@torch.library.custom_op("rlvr_kernels::mamba3", mutates_args=(), schema=f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
def _scan(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs = _Inputs(*arguments).laid_out()
    batch, _, heads, _ = inputs.x.shape
    hiddens, thetas, last_hidden, last_theta = inputs.walk_states()
    out = inputs.x.new_empty(inputs.out_shape())
    places = {"out": out, "hiddens": hiddens, "thetas": thetas}
    backwards = dict.fromkeys(("grad_out", "grad_mix_z", "grad_mix_out"))
    inputs.launch(_chunk_outputs, (heads, inputs.chunks(), batch), **places, **backwards)
    return out, last_hidden, last_theta


@_scan.register_fake
def _results(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs = _Inputs(*arguments)
    return (
        inputs.x.new_empty(inputs.out_shape()),
        torch.empty_like(inputs.hidden, memory_format=torch.contiguous_format),
        torch.empty_like(inputs.theta, memory_format=torch.contiguous_format),
    )


@torch.library.custom_op(
    "rlvr_kernels::mamba3_backward",
    mutates_args=(),
    schema=f"(Tensor grad_out, Tensor grad_hidden, Tensor grad_theta, {_ARGUMENTS}) -> Tensor[]",
)
def _scan_backward(grad_out: Tensor, grad_hidden: Tensor, grad_theta: Tensor, *arguments: Any) -> list[Tensor]:
    """The gradient of each tensor that was given but `document`, in order."""
    inputs = _Inputs(*arguments).laid_out()
    grad_out, grad_hidden, grad_theta = grad_out.contiguous(), grad_hidden.contiguous(), grad_theta.contiguous()
    batch, length, heads, width = inputs.x.shape
    rank, groups, columns = inputs.b.shape[2:]
    chunks, pairs = inputs.chunks(), inputs.angle.shape[2]
    wide = partial(torch.empty, dtype=torch.float32, device=inputs.x.device)
    kept = partial(torch.empty, dtype=inputs.kept_dtype(), device=inputs.x.device)
    mixes = [None if mix is None else wide(batch, heads, chunks, rank, width) for mix in inputs[11:14]]
    grad_mix_x, grad_mix_z, grad_mix_out = mixes
    hiddens, thetas, _, _ = inputs.walk_states()
    before = {"hiddens": hiddens, "thetas": thetas, "grad_out": grad_out}
    grad_z = None if inputs.z is None else torch.empty(inputs.out_shape(), dtype=inputs.z.dtype, device=inputs.x.device)
    if grad_z is not None:
        places = {"out": grad_z, "grad_mix_z": grad_mix_z, "grad_mix_out": grad_mix_out}
        inputs.launch(_chunk_outputs, (heads, chunks, batch), **before, **places)
    grad_hiddens, grad_first_hidden = torch.empty_like(hiddens), torch.empty_like(grad_hidden)
    places = {"thetas": thetas, "grad_out": grad_out, "grad_hidden": grad_hidden, "grad_hiddens": grad_hiddens}
    inputs.launch(_walk_state_gradients, (heads, batch), **places, grad_first_hidden=grad_first_hidden)

    grad_x = torch.empty(inputs.x.shape, dtype=inputs.x.dtype, device=inputs.x.device)
    grad_b, grad_c = kept(batch, length, rank, heads, columns), kept(batch, length, rank, heads, columns)
    grad_log_decay, grad_weight, grad_later, grad_dt = (wide(batch, length, heads) for _ in range(4))
    rows = {name: wide(batch, length, rank, heads) for name in ("grad_own", "grad_lasting", "grad_elapsed")}
    grad_turn, grad_turned = kept(batch, length, heads, pairs), wide(batch, heads, chunks, pairs)
    grad_b_bias, grad_c_bias = (wide(batch, heads, chunks, rank, columns) for _ in range(2))
    grad_skip = wide(batch, heads, chunks)
    grid = (heads, chunks, batch)
    places = {"thetas": thetas, "grad_out": grad_out, "grad_hiddens": grad_hiddens} | rows
    values = {"grad_x": grad_x, "grad_skip": grad_skip, "grad_mix_x": grad_mix_x}
    inputs.launch(_chunk_value_gradients, grid, **places, **values)
    keys = {"grad_b": grad_b, "grad_c": grad_c, "grad_b_bias": grad_b_bias, "grad_c_bias": grad_c_bias}
    keys |= {"grad_log_decay": grad_log_decay, "grad_weight": grad_weight, "grad_later": grad_later}
    keys |= {"grad_turn": grad_turn, "grad_turned": grad_turned}
    inputs.launch(_chunk_key_gradients, grid, **places, **keys, hiddens=hiddens)

    to_end = torch.cat([grad_turned, grad_theta[:, :, None]], dim=2).flip(2).cumsum(2).flip(2)
    grad_angle = torch.empty_like(inputs.angle)
    after = to_end[:, :, 1:].contiguous()
    _launch_angles(inputs, grad_turn, after, grad_angle, grad_dt)
    arrived = _of_previous_token(grad_later, inputs.document)
    grads = [
        grad_x,
        grad_z,
        grad_b.unflatten(3, (groups, -1)).sum(4),
        grad_c.unflatten(3, (groups, -1)).sum(4),
        grad_dt + inputs.a * grad_log_decay + inputs.trapezoid * grad_weight + (1 - inputs.trapezoid) * arrived,
        inputs.dt * grad_log_decay,
        inputs.dt * (grad_weight - arrived),
        grad_angle,
        grad_b_bias.sum((0, 2)),
        grad_c_bias.sum((0, 2)),
        grad_skip.sum((0, 2)),
        *(None if mix is None else mix.sum((0, 2)) for mix in mixes),
        None,
        grad_first_hidden,
        to_end[:, :, 0],
    ]
    return [grad.to(given.dtype) for grad, given in zip(grads, inputs[:17], strict=True) if grad is not None]


def _launch_angles(inputs: _Inputs, grad_turn: Tensor, after: Tensor, grad_angle: Tensor, grad_dt: Tensor) -> None:
    batch, length, heads, _ = inputs.x.shape
    pairs = inputs.angle.shape[2]
    tokens = 16
    _angle_gradients[(triton.cdiv(length, tokens), batch)](
        *(grad_turn, after, inputs.angle, inputs.dt, grad_angle, grad_dt),
        *(length, inputs.chunks(), inputs.chunk_size),
        heads=heads,
        pairs=pairs,
        PAIRS=max(triton.next_power_of_2(pairs), 1),
        TOKENS=tokens,
    )


@_scan_backward.register_fake
def _gradients(grad_out: Tensor, grad_hidden: Tensor, grad_theta: Tensor, *arguments: Any) -> list[Tensor]:
    given = [value for value in (*arguments[:14], *arguments[15:17]) if value is not None]
    return [torch.empty_like(value, memory_format=torch.contiguous_format) for value in given]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.chunk_size = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    found = iter(_scan_backward(*grads, *tensors, ctx.chunk_size))
    return *(None if value is None or place == 14 else next(found) for place, value in enumerate(tensors)), None


_scan.register_autograd(_differentiate, setup_context=_remember)


def _of_previous_token(share: Tensor, documents: Tensor | None) -> Tensor:
    """`share (B, T, H)` of the token before, 0 where none of the same document is."""
    if documents is not None:
        share = share * functional.pad(documents[:, 1:] == documents[:, :-1], (0, 1))[..., None]
    return functional.pad(share[:, :-1], (0, 0, 1, 0))
