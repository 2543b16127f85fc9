"""The Mamba-3 scan on a GPU: one program per sequence and head, which walks the chunks with the state in registers.

A chunk has `ROWS = chunk · RANK` rows; row i is rank `i % RANK` of token `i // RANK`, so that SISO and MIMO are the same
attention-like products. Angles, decays and rotated keys are made where they are used and never written to memory. The
backward pass keeps nothing but the inputs: it walks forwards once more, for the state before each chunk and, with a
gate, for y; then backwards. What B and C get from each head is written per head and summed after, in a fixed order, so
gradients do not change from run to run.
"""

from __future__ import annotations

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
def _cos_sin(angle):
    """Polynomials on [-π, π], right to 1e-6; the hardware's exact ones are ten times as long."""
    turn = angle - 2 * PI * tl.floor(angle / (2 * PI) + 0.5)
    u = turn * turn
    sin = 2.70882233e-06 - 2.06977372e-08 * u
    sin = 0.999999938 + u * (-0.166666211 + u * (0.00833279129 + u * (-0.000198176242 + u * sin)))
    cos = 2.42028298e-05 - 2.19724614e-07 * u
    cos = 0.99999921 + u * (-0.499994211 + u * (0.0416597752 + u * (-0.00138587814 + u * cos)))
    return cos, turn * sin


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
    return tl.sum(tl.reshape(v, (ROWS // RANK, RANK)), axis=1)


@triton.jit
def _decays(dt_ptr, a_ptr, trapezoid_ptr, document_ptr, start, length, heads, ROWS: tl.constexpr, RANK: tl.constexpr):
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
def _turns(angle_ptr, dt, start, length, pairs, ROWS: tl.constexpr, RANK: tl.constexpr, N: tl.constexpr):
    """tanh(angle), and by how much each row turns its pairs; (ROWS, N/2) each. Pairs from `pairs` on stand still."""
    row = tl.arange(0, ROWS)
    token = start + row // RANK
    pair = tl.arange(0, N // 2)
    there = (token < length)[:, None] & (pair < pairs)[None, :]
    angle = tl.load(angle_ptr + token[:, None] * pairs + pair[None, :], mask=there, other=0.0).to(tl.float32)
    squashed = 2.0 * tl.sigmoid(2.0 * angle) - 1.0
    return squashed, tl.where((row % RANK == 0)[:, None], PI * squashed * dt[:, None], 0.0)


@triton.jit
def _rows_of(ptr, start, length, stride, WIDTH: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr):
    """(ROWS, WIDTH) float32: each token's WIDTH values, the same for all its ranks; zero beyond the row's end."""
    token = start + tl.arange(0, ROWS) // RANK
    where = ptr + token[:, None] * stride + tl.arange(0, WIDTH)[None, :]
    return tl.load(where, mask=(token < length)[:, None], other=0.0).to(tl.float32)


@triton.jit
def _ranked_rows_of(ptr, start, length, stride, WIDTH: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr):
    """(ROWS, WIDTH) float32 from values that differ by rank: rows `stride` apart, RANK of them a token."""
    row = start * RANK + tl.arange(0, ROWS)
    where = ptr + row[:, None] * stride + tl.arange(0, WIDTH)[None, :]
    return tl.load(where, mask=(row < length * RANK)[:, None], other=0.0).to(tl.float32)


@triton.jit
def _mix_of(ptr, WIDTH: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr):
    """(ROWS, WIDTH) float32 of a head's (RANK, WIDTH) parameter."""
    rank = tl.arange(0, ROWS) % RANK
    return tl.load(ptr + rank[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]).to(tl.float32)


@triton.jit
def _forward(
    x_ptr, z_ptr, b_ptr, c_ptr, dt_ptr, a_ptr, trapezoid_ptr, angle_ptr,
    b_bias_ptr, c_bias_ptr, skip_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, document_ptr, hidden_ptr, theta_ptr,
    out_ptr, last_hidden_ptr, last_theta_ptr,
    hiddens_ptr, thetas_ptr, grad_out_ptr, grad_mix_z_ptr, grad_mix_out_ptr,
    length, heads, groups, pairs, x_batch, x_token, z_batch, z_token,
    P: tl.constexpr, N: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, DOT: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Writes the output and the last state; as the first half of BACKWARD, the gradient of z and each chunk's state."""
    program = tl.program_id(0)
    batch = (program // heads).to(tl.int64)
    head = program % heads
    TOKENS: tl.constexpr = ROWS // RANK
    x_ptr += batch * x_batch + head * P
    b_ptr += batch * length * RANK * groups * N + head // (heads // groups) * N
    c_ptr += batch * length * RANK * groups * N + head // (heads // groups) * N
    dt_ptr += batch * length * heads + head
    a_ptr += batch * length * heads + head
    trapezoid_ptr += batch * length * heads + head
    angle_ptr += batch * length * pairs
    if document_ptr is not None:
        document_ptr += batch * length
    GATED: tl.constexpr = z_ptr is not None
    if GATED:
        z_ptr += batch * z_batch + head * P

    n = tl.arange(0, N)
    p = tl.arange(0, P)
    pair = tl.arange(0, N // 2)
    row = tl.arange(0, ROWS)
    rank = tl.arange(0, RANK)
    earlier = row[:, None] // RANK > row[None, :] // RANK
    itself = row[:, None] // RANK == row[None, :] // RANK
    skip = tl.load(skip_ptr + head).to(tl.float32)
    b_bias = _mix_of(b_bias_ptr + head * RANK * N, N, ROWS, RANK)
    c_bias = _mix_of(c_bias_ptr + head * RANK * N, N, ROWS, RANK)
    hidden = tl.load(hidden_ptr + program.to(tl.int64) * P * N + p[:, None] * N + n[None, :])
    theta = tl.load(theta_ptr + program * pairs + pair, mask=pair < pairs, other=0.0)
    grad_mix_z = tl.zeros((RANK, P), tl.float32)
    grad_mix_out = tl.zeros((RANK, P), tl.float32)
    left_by = 0
    if document_ptr is not None:
        left_by = tl.load(document_ptr)

    for start in range(0, length, TOKENS):
        dt, own, lasting, elapsed, total, document = _decays(
            dt_ptr, a_ptr, trapezoid_ptr, document_ptr, start, length, heads, ROWS, RANK
        )
        _, turn = _turns(angle_ptr, dt, start, length, pairs, ROWS, RANK, N)
        if BACKWARD:
            chunk = program.to(tl.int64) * tl.cdiv(length, TOKENS) + start // TOKENS
            tl.store(hiddens_ptr + chunk * P * N + p[:, None] * N + n[None, :], hidden.to(hiddens_ptr.dtype.element_ty))
            tl.store(thetas_ptr + chunk * (N // 2) + pair, theta)
        cos, sin = _cos_sin(theta[None, :] + tl.cumsum(turn, 0))
        theta += tl.sum(turn, 0)
        theta -= 2 * PI * tl.floor(theta / (2 * PI))

        keys = _rotate(_ranked_rows_of(b_ptr, start, length, groups * N, N, ROWS, RANK) + b_bias, cos, sin, ROWS, N)
        keys = keys.to(DOT)
        values = _rows_of(x_ptr, start, length, x_token, P, ROWS, RANK)
        if mix_x_ptr is not None:
            values *= _mix_of(mix_x_ptr + head * RANK * P, P, ROWS, RANK)
        last_document = left_by
        if document_ptr is not None:
            last_document = tl.load(document_ptr + tl.minimum(start + TOKENS, length) - 1)

        if GATED or not BACKWARD:
            queries = _rotate(
                _ranked_rows_of(c_ptr, start, length, groups * N, N, ROWS, RANK) + c_bias, cos, sin, ROWS, N
            )
            queries = queries.to(DOT)
            seen = tl.exp(elapsed)
            before = earlier
            if document_ptr is not None:
                seen = tl.where(document == left_by, seen, 0.0)
                before = earlier & (document[:, None] == document[None, :])
            weight = tl.exp(tl.where(before, elapsed[:, None] - elapsed[None, :], -float("inf"))) * lasting[None, :]
            weight = tl.where(itself, own[None, :], weight)
            scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * weight
            y = tl.dot(queries, tl.trans(hidden.to(DOT)), input_precision="ieee") * seen[:, None]
            y = tl.dot(scores.to(DOT), values.to(DOT), y, input_precision="ieee") + skip * values
            if GATED:
                gate = _rows_of(z_ptr, start, length, z_token, P, ROWS, RANK)
                if mix_z_ptr is not None:
                    mix_z = _mix_of(mix_z_ptr + head * RANK * P, P, ROWS, RANK)
                    mix_out = _mix_of(mix_out_ptr + head * RANK * P, P, ROWS, RANK)
                    z = gate
                    gate *= mix_z
                sigmoid = tl.sigmoid(gate)
                if BACKWARD:
                    grad = _rows_of(
                        grad_out_ptr + batch * length * heads * P + head * P, start, length, heads * P, P, ROWS, RANK
                    )
                    if mix_out_ptr is not None:
                        grad_mix_out += _over_tokens(grad * y * gate * sigmoid, ROWS, RANK, P)
                        grad *= mix_out
                    grad *= y * sigmoid * (1.0 + gate * (1.0 - sigmoid))
                    if mix_z_ptr is not None:
                        grad_mix_z += _over_tokens(grad * z, ROWS, RANK, P)
                        grad *= mix_z
                    y = grad
                else:
                    y *= gate * sigmoid
                    if mix_out_ptr is not None:
                        y *= mix_out
                token = start + tl.arange(0, TOKENS)
                place = out_ptr + batch * length * heads * P + token[:, None] * heads * P + head * P + p[None, :]
                tl.store(place, _over_ranks(y, ROWS, RANK, P).to(out_ptr.dtype.element_ty), (token < length)[:, None])
            else:
                line = start * RANK + row
                place = out_ptr + batch * length * RANK * heads * P + line[:, None] * heads * P + head * P + p[None, :]
                tl.store(place, y.to(out_ptr.dtype.element_ty), (line < length * RANK)[:, None])

        kept = tl.exp(total - elapsed) * lasting
        decay = tl.exp(total)
        if document_ptr is not None:
            kept = tl.where(document == last_document, kept, 0.0)
            decay = tl.where(last_document == left_by, decay, 0.0)
        hidden = tl.dot(tl.trans((values * kept[:, None]).to(DOT)), keys, hidden * decay, input_precision="ieee")
        left_by = last_document

    if BACKWARD:
        if mix_z_ptr is not None:
            place = program * RANK * P + rank[:, None] * P + p[None, :]
            tl.store(grad_mix_z_ptr + place, grad_mix_z)
            tl.store(grad_mix_out_ptr + place, grad_mix_out)
    else:
        tl.store(last_hidden_ptr + program.to(tl.int64) * P * N + p[:, None] * N + n[None, :], hidden)
        tl.store(last_theta_ptr + program * pairs + pair, theta, pair < pairs)


@triton.jit
def _backward(
    x_ptr, z_ptr, b_ptr, c_ptr, dt_ptr, a_ptr, trapezoid_ptr, angle_ptr,
    b_bias_ptr, c_bias_ptr, skip_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, document_ptr,
    hiddens_ptr, thetas_ptr, grad_out_ptr, grad_hidden_ptr, grad_theta_ptr,
    grad_x_ptr, grad_b_ptr, grad_c_ptr, grad_dt_ptr, grad_a_ptr, grad_own_ptr, grad_later_ptr, grad_angle_ptr,
    grad_b_bias_ptr, grad_c_bias_ptr, grad_skip_ptr, grad_mix_x_ptr, grad_first_hidden_ptr, grad_first_theta_ptr,
    length, heads, groups, pairs, x_batch, x_token, z_batch, z_token,
    P: tl.constexpr, N: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Walks the chunks backwards with the gradient of the state in registers."""
    program = tl.program_id(0)
    batch = (program // heads).to(tl.int64)
    head = program % heads
    TOKENS: tl.constexpr = ROWS // RANK
    x_ptr += batch * x_batch + head * P
    b_ptr += batch * length * RANK * groups * N + head // (heads // groups) * N
    c_ptr += batch * length * RANK * groups * N + head // (heads // groups) * N
    scalar = batch * length * heads + head
    dt_ptr += scalar
    a_ptr += scalar
    trapezoid_ptr += scalar
    angle_ptr += batch * length * pairs
    if document_ptr is not None:
        document_ptr += batch * length
    if z_ptr is not None:
        z_ptr += batch * z_batch + head * P
        grad_out_ptr += batch * length * heads * P + head * P
    else:
        grad_out_ptr += batch * length * RANK * heads * P + head * P

    n = tl.arange(0, N)
    p = tl.arange(0, P)
    pair = tl.arange(0, N // 2)
    row = tl.arange(0, ROWS)
    rank = tl.arange(0, RANK)
    earlier = row[:, None] // RANK > row[None, :] // RANK
    itself = row[:, None] // RANK == row[None, :] // RANK
    skip = tl.load(skip_ptr + head).to(tl.float32)
    b_bias = _mix_of(b_bias_ptr + head * RANK * N, N, ROWS, RANK)
    c_bias = _mix_of(c_bias_ptr + head * RANK * N, N, ROWS, RANK)
    state = program.to(tl.int64) * P * N + p[:, None] * N + n[None, :]
    grad_hidden = tl.load(grad_hidden_ptr + state)
    grad_theta = tl.load(grad_theta_ptr + program * pairs + pair, mask=pair < pairs, other=0.0)
    grad_b_bias = tl.zeros((RANK, N), tl.float32)
    grad_c_bias = tl.zeros((RANK, N), tl.float32)
    grad_mix_x = tl.zeros((RANK, P), tl.float32)
    grad_skip = 0.0
    chunks = tl.cdiv(length, TOKENS)

    for step in range(0, chunks):
        index = chunks - 1 - step
        start = index * TOKENS
        dt, own, lasting, elapsed, total, document = _decays(
            dt_ptr, a_ptr, trapezoid_ptr, document_ptr, start, length, heads, ROWS, RANK
        )
        squashed, turn = _turns(angle_ptr, dt, start, length, pairs, ROWS, RANK, N)
        chunk = program.to(tl.int64) * chunks + index
        theta = tl.load(thetas_ptr + chunk * (N // 2) + pair)
        hidden = tl.load(hiddens_ptr + chunk * P * N + p[:, None] * N + n[None, :]).to(DOT)
        cos, sin = _cos_sin(theta[None, :] + tl.cumsum(turn, 0))
        keys = _rotate(_ranked_rows_of(b_ptr, start, length, groups * N, N, ROWS, RANK) + b_bias, cos, sin, ROWS, N)
        keys = keys.to(DOT)
        queries = _rotate(_ranked_rows_of(c_ptr, start, length, groups * N, N, ROWS, RANK) + c_bias, cos, sin, ROWS, N)
        queries = queries.to(DOT)
        inputs = _rows_of(x_ptr, start, length, x_token, P, ROWS, RANK)
        values = inputs
        if mix_x_ptr is not None:
            values = inputs * _mix_of(mix_x_ptr + head * RANK * P, P, ROWS, RANK)
        if z_ptr is None:
            grad_y = _ranked_rows_of(grad_out_ptr, start, length, heads * P, P, ROWS, RANK)
        else:
            grad_y = _rows_of(grad_out_ptr, start, length, heads * P, P, ROWS, RANK)
            gate = _rows_of(z_ptr, start, length, z_token, P, ROWS, RANK)
            if mix_z_ptr is not None:
                gate *= _mix_of(mix_z_ptr + head * RANK * P, P, ROWS, RANK)
                grad_y *= _mix_of(mix_out_ptr + head * RANK * P, P, ROWS, RANK)
            grad_y *= gate * tl.sigmoid(gate)
        grad_skip += tl.sum(grad_y * values)

        seen = tl.exp(elapsed)
        lasts = tl.exp(total - elapsed)
        decay = tl.exp(total)
        before = earlier
        if document_ptr is not None:
            left_by = tl.load(document_ptr + tl.maximum(start - 1, 0))
            last_document = tl.load(document_ptr + tl.minimum(start + TOKENS, length) - 1)
            seen = tl.where(document == left_by, seen, 0.0)
            lasts = tl.where(document == last_document, lasts, 0.0)
            decay = tl.where(last_document == left_by, decay, 0.0)
            before = earlier & (document[:, None] == document[None, :])
        kept = lasts * lasting
        fading = tl.exp(tl.where(before, elapsed[:, None] - elapsed[None, :], -float("inf")))
        weight = tl.where(itself, own[None, :], fading * lasting[None, :])

        dot_values = values.to(DOT)
        dot_grad_y = grad_y.to(DOT)
        dot_grad_hidden = grad_hidden.to(DOT)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
        grad_weighted = tl.dot(dot_grad_y, tl.trans(dot_values), input_precision="ieee")
        grad_weight = scores * grad_weighted
        weighted = (scores * weight).to(DOT)
        grad_scores = (grad_weighted * weight).to(DOT)

        grad_values = tl.dot(keys, tl.trans(dot_grad_hidden), input_precision="ieee") * kept[:, None]
        grad_values = tl.dot(tl.trans(weighted), dot_grad_y, grad_values, input_precision="ieee") + skip * grad_y
        if mix_x_ptr is not None:
            grad_mix_x += _over_tokens(grad_values * inputs, ROWS, RANK, P)
            grad_values *= _mix_of(mix_x_ptr + head * RANK * P, P, ROWS, RANK)
        token = start + tl.arange(0, TOKENS)
        here = token < length
        place = batch * length * heads * P + token[:, None] * heads * P + head * P + p[None, :]
        grad_x = _over_ranks(grad_values, ROWS, RANK, P).to(grad_x_ptr.dtype.element_ty)
        tl.store(grad_x_ptr + place, grad_x, here[:, None])

        line = start * RANK + row
        per_head = (batch * length * RANK + line[:, None]) * heads * N + head * N + n[None, :]
        inside = (line < length * RANK)[:, None]

        grad_queries = tl.dot(dot_grad_y, hidden, input_precision="ieee") * seen[:, None]
        grad_elapsed = tl.sum(grad_queries * queries.to(tl.float32), 1)
        grad_queries = tl.dot(grad_scores, keys, grad_queries, input_precision="ieee")
        torque = _pair_torque(grad_queries, queries.to(tl.float32), ROWS, N)
        grad_queries = _rotate(grad_queries, cos, -sin, ROWS, N)
        grad_c_bias += _over_tokens(grad_queries, ROWS, RANK, N)
        tl.store(grad_c_ptr + per_head, grad_queries.to(grad_c_ptr.dtype.element_ty), inside)

        grad_keys = tl.dot(dot_values, dot_grad_hidden, input_precision="ieee")
        grad_kept = tl.sum(grad_keys * keys.to(tl.float32), 1)
        grad_keys = tl.dot(tl.trans(grad_scores), queries, grad_keys * kept[:, None], input_precision="ieee")
        torque += _pair_torque(grad_keys, keys.to(tl.float32), ROWS, N)
        grad_keys = _rotate(grad_keys, cos, -sin, ROWS, N)
        grad_b_bias += _over_tokens(grad_keys, ROWS, RANK, N)
        tl.store(grad_b_ptr + per_head, grad_keys.to(grad_b_ptr.dtype.element_ty), inside)

        faded = grad_weight * fading
        grad_own = tl.sum(tl.where(itself, grad_weight, 0.0), 0)
        grad_lasting = tl.sum(faded, 0) + grad_kept * lasts
        grad_elapsed += tl.sum(faded * lasting[None, :], 1) - tl.sum(faded, 0) * lasting - grad_kept * kept
        grad_total = tl.sum(grad_kept * kept) + decay * tl.sum(hidden.to(tl.float32) * grad_hidden)
        grad_log_decay = tl.where(row % RANK == 0, tl.cumsum(grad_elapsed, 0, reverse=True) + grad_total, 0.0)
        grad_turn = tl.cumsum(torque, 0, reverse=True) + grad_theta[None, :]
        grad_turn = tl.where((row % RANK == 0)[:, None], grad_turn, 0.0)
        grad_theta += tl.sum(torque, 0)

        a = tl.load(a_ptr + (start + row // RANK) * heads, mask=start + row // RANK < length, other=0.0)
        grad_dt = a * grad_log_decay + PI * tl.sum(grad_turn * squashed, 1)
        grad_angle = grad_turn * (PI * (1.0 - squashed * squashed) * dt[:, None])
        scalars = scalar + token * heads
        tl.store(grad_dt_ptr + scalars, _tokens_of(grad_dt, ROWS, RANK), here)
        tl.store(grad_a_ptr + scalars, _tokens_of(grad_log_decay * dt, ROWS, RANK), here)
        tl.store(grad_own_ptr + scalars, _tokens_of(grad_own + grad_lasting, ROWS, RANK), here)
        tl.store(grad_later_ptr + scalars, _tokens_of(grad_lasting, ROWS, RANK), here)
        place = ((batch * length + token[:, None]) * heads + head) * pairs + pair[None, :]
        grad_angle = _over_ranks(grad_angle, ROWS, RANK, N // 2).to(grad_angle_ptr.dtype.element_ty)
        tl.store(grad_angle_ptr + place, grad_angle, here[:, None] & (pair < pairs)[None, :])

        update = tl.trans((grad_y * seen[:, None]).to(DOT))
        grad_hidden = tl.dot(update, queries, grad_hidden * decay, input_precision="ieee")

    tl.store(grad_first_hidden_ptr + state, grad_hidden)
    tl.store(grad_first_theta_ptr + program * pairs + pair, grad_theta, pair < pairs)
    tl.store(grad_skip_ptr + program, grad_skip)
    bias = program * RANK * N + rank[:, None] * N + n[None, :]
    tl.store(grad_b_bias_ptr + bias, grad_b_bias)
    tl.store(grad_c_bias_ptr + bias, grad_c_bias)
    if mix_x_ptr is not None:
        tl.store(grad_mix_x_ptr + program * RANK * P + rank[:, None] * P + p[None, :], grad_mix_x)


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
    documents: Tensor | None
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

    def sizes(self) -> dict[str, int]:
        """The arguments of both kernels that are numbers."""
        spaced = self.x if self.z is None else self.z
        return {
            "length": self.x.shape[1],
            "heads": self.x.shape[2],
            "groups": self.b.shape[3],
            "pairs": self.angle.shape[2],
            "x_batch": self.x.stride(0),
            "x_token": self.x.stride(1),
            "z_batch": spaced.stride(0),
            "z_token": spaced.stride(1),
            "P": self.x.shape[3],
            "N": self.b.shape[4],
            "RANK": self.b.shape[2],
            "ROWS": self.b.shape[2] * self.chunk_size,
            "DOT": _DOTS[self.kept_dtype()],
        }

    def kept_dtype(self) -> torch.dtype:
        """In which products are taken, states before chunks and gradients per head are kept."""
        return torch.float32 if interpreting() else self.x.dtype


def _whole(x: Tensor) -> bool:
    """The (H, P) values of a token lie together."""
    return x.stride(3) == 1 and x.stride(2) == x.shape[3]


_DOTS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_ARGUMENTS = (
    "Tensor x, Tensor? z, Tensor b, Tensor c, Tensor dt, Tensor a, Tensor trapezoid, Tensor angle, Tensor b_bias, "
    "Tensor c_bias, Tensor skip, Tensor? mix_x, Tensor? mix_z, Tensor? mix_out, Tensor? documents, Tensor hidden, "
    "Tensor theta, int chunk_size"
)


@torch.library.custom_op("rlvr_kernels::mamba3", mutates_args=(), schema=f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
def _scan(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs = _Inputs(*arguments).laid_out()
    out, hidden, theta = _results(*inputs)
    nothing = dict.fromkeys(("hiddens", "thetas", "grad_out", "grad_mix_z", "grad_mix_out"))
    _walk_forward(inputs, BACKWARD=False, out=out, last_hidden=hidden, last_theta=theta, **nothing)
    return out, hidden, theta


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
    """The gradient of each tensor that was given but `documents`, in order."""
    inputs = _Inputs(*arguments).laid_out()
    grad_out, grad_hidden, grad_theta = grad_out.contiguous(), grad_hidden.contiguous(), grad_theta.contiguous()
    batch, length, heads, width = inputs.x.shape
    rank, groups, columns = inputs.b.shape[2:]
    wide = {"dtype": torch.float32, "device": inputs.x.device}
    kept = {"dtype": inputs.kept_dtype(), "device": inputs.x.device}
    chunks = triton.cdiv(length, inputs.chunk_size)
    mixes = [None if mix is None else torch.empty(batch, heads, rank, width, **wide) for mix in inputs[11:14]]
    grad_mix_x, grad_mix_z, grad_mix_out = mixes
    grad_z = None if inputs.z is None else torch.empty(inputs.out_shape(), dtype=inputs.z.dtype, device=inputs.x.device)
    hiddens = torch.empty(batch, heads, chunks, width, columns, **kept)
    thetas = torch.empty(batch, heads, chunks, columns // 2, **wide)
    _walk_forward(
        inputs,
        BACKWARD=True,
        out=grad_z,
        last_hidden=None,
        last_theta=None,
        hiddens=hiddens,
        thetas=thetas,
        grad_out=grad_out,
        grad_mix_z=grad_mix_z,
        grad_mix_out=grad_mix_out,
    )
    grad_x = torch.empty(inputs.x.shape, dtype=inputs.x.dtype, device=inputs.x.device)
    grad_b, grad_c = (torch.empty(batch, length, rank, heads, columns, **kept) for _ in range(2))
    grad_dt, grad_a, grad_own, grad_later = (torch.empty(inputs.dt.shape, **wide) for _ in range(4))
    grad_angle = torch.empty(batch, length, heads, inputs.angle.shape[2], **kept)
    grad_b_bias, grad_c_bias = (torch.empty(batch, heads, rank, columns, **wide) for _ in range(2))
    grad_skip = torch.empty(batch, heads, **wide)
    grad_first_hidden, grad_first_theta = torch.empty_like(grad_hidden), torch.empty_like(grad_theta)
    _backward[(batch * heads,)](
        *inputs[:15],
        *(hiddens, thetas, grad_out, grad_hidden, grad_theta),
        *(grad_x, grad_b, grad_c, grad_dt, grad_a, grad_own, grad_later, grad_angle),
        *(grad_b_bias, grad_c_bias, grad_skip, grad_mix_x, grad_first_hidden, grad_first_theta),
        **inputs.sizes(),
    )
    arrived = _of_previous_token(grad_later, inputs.documents)
    grads = [
        grad_x,
        grad_z,
        grad_b.unflatten(3, (groups, -1)).sum(4),
        grad_c.unflatten(3, (groups, -1)).sum(4),
        grad_dt + inputs.trapezoid * grad_own + (1 - inputs.trapezoid) * arrived,
        grad_a,
        inputs.dt * (grad_own - arrived),
        grad_angle.sum(2),
        grad_b_bias.sum(0),
        grad_c_bias.sum(0),
        grad_skip.sum(0),
        *(None if mix is None else mix.sum(0) for mix in mixes),
        None,
        grad_first_hidden,
        grad_first_theta,
    ]
    return [grad.to(given.dtype) for grad, given in zip(grads, inputs[:17], strict=True) if grad is not None]


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


def _walk_forward(inputs: _Inputs, *, BACKWARD: bool, **places: Tensor | None) -> None:
    batch, _, heads, _ = inputs.x.shape
    results = {f"{name}_ptr": place for name, place in places.items()}
    _forward[(batch * heads,)](*inputs[:17], **results, **inputs.sizes(), BACKWARD=BACKWARD)


def _of_previous_token(share: Tensor, documents: Tensor | None) -> Tensor:
    """`share (B, T, H)` of the token before, 0 where none of the same document is."""
    if documents is not None:
        share = share * functional.pad(documents[:, 1:] == documents[:, :-1], (0, 1))[..., None]
    return functional.pad(share[:, :-1], (0, 0, 1, 0))
