"""What the Mamba-3 kernels are made of: the rows of a chunk, and what is done to them in registers.

A chunk has `ROWS = chunk · RANK` rows; row i is rank `i % RANK` of token `i // RANK`, so that SISO and MIMO are the
same attention-like products. State columns are taken in two halves, and the second one is turned only if the rotation
reaches it (WIDE). Rows beyond the end of a sequence have zero weight. Where a chunk begins is counted in 64 bits, for a
long row of many heads and columns has more than 2^31 values.
"""

from __future__ import annotations

import triton
import triton.language as tl

PI = tl.constexpr(3.141592653589793)


@triton.jit
def cos_sin(angle, DTYPE: tl.constexpr):
    """Polynomials on [-π, π], right to 1e-6; the exact functions of the library are several times as long."""
    turn = angle - 2 * PI * tl.floor(angle / (2 * PI) + 0.5)
    u = turn * turn
    sin = 2.70882233e-06 - 2.06977372e-08 * u
    sin = 0.999999938 + u * (-0.166666211 + u * (0.00833279129 + u * (-0.000198176242 + u * sin)))
    cos = 2.42028298e-05 - 2.19724614e-07 * u
    cos = 0.99999921 + u * (-0.499994211 + u * (0.0416597752 + u * (-0.00138587814 + u * cos)))
    return cos.to(DTYPE), (turn * sin).to(DTYPE)


@triton.jit
def wrapped(angle):
    """The same direction in [0, 2π)."""
    return angle - 2 * PI * tl.floor(angle / (2 * PI))


@triton.jit
def rotate(v, cos, sin, ROWS: tl.constexpr, N: tl.constexpr):
    """Pairs (2i, 2i+1) of `v (ROWS, N)` turned by the angles (ROWS, N/2)."""
    even, odd = tl.split(tl.reshape(v, (ROWS, N // 2, 2)))
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (ROWS, N))


@triton.jit
def pair_torque(grad, v, ROWS: tl.constexpr, N: tl.constexpr):
    """What turning the pairs of `v` further does to a loss with gradient `grad`: (ROWS, N/2)."""
    even, odd = tl.split(tl.reshape(v, (ROWS, N // 2, 2)))
    grad_even, grad_odd = tl.split(tl.reshape(grad, (ROWS, N // 2, 2)))
    return grad_odd * even - grad_even * odd


@triton.jit
def over_ranks(v, ROWS: tl.constexpr, RANK: tl.constexpr, WIDTH: tl.constexpr):
    """(ROWS, WIDTH) -> (ROWS / RANK, WIDTH): the sum of each token's rows."""
    if RANK == 1:
        return v
    else:
        return tl.sum(tl.reshape(v, (ROWS // RANK, RANK, WIDTH)), axis=1)


@triton.jit
def over_tokens(v, ROWS: tl.constexpr, RANK: tl.constexpr, WIDTH: tl.constexpr):
    """(ROWS, WIDTH) -> (RANK, WIDTH): the sum over tokens of each rank."""
    return tl.sum(tl.reshape(v, (ROWS // RANK, RANK, WIDTH)), axis=0)


@triton.jit
def tokens_of(v, ROWS: tl.constexpr, RANK: tl.constexpr):
    """(ROWS,) -> (ROWS / RANK,): the sum of each token's rows."""
    if RANK == 1:
        return v
    else:
        return tl.sum(tl.reshape(v, (ROWS // RANK, RANK)), axis=1)


@triton.jit
def decays(
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
def turns(
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
def half_of(
    ptr, bias_ptr, start, length, stride: tl.constexpr, cos, sin, TURNS: tl.constexpr, ROWS: tl.constexpr,
    RANK: tl.constexpr, HALF: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """HALF columns of B or C (ROWS, HALF) with their bias added and, where TURNS is set, rotated."""
    v = ranked_rows_of(ptr, start, length, stride, HALF, ROWS, RANK) + mix_of(bias_ptr, HALF, 2 * HALF, ROWS, RANK)
    if TURNS:
        v = rotate(v, cos, sin, ROWS, HALF)
    return v.to(DOT)


@triton.jit
def rows_of(ptr, start, length, stride: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr):
    """(ROWS, WIDTH) float32: each token's WIDTH values, the same for all its ranks; zero beyond the row's end."""
    row = tl.arange(0, ROWS) // RANK
    ptr += tl.cast(start, tl.int64) * stride
    where = row[:, None] * stride + tl.arange(0, WIDTH)[None, :]
    return tl.load(ptr + where, mask=(start + row < length)[:, None], other=0.0).to(tl.float32)


@triton.jit
def ranked_rows_of(
    ptr, start, length, stride: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr
):
    """(ROWS, WIDTH) float32 from values that differ by rank: rows `stride` apart, RANK of them a token."""
    row = tl.arange(0, ROWS)
    ptr += tl.cast(start, tl.int64) * RANK * stride
    where = row[:, None] * stride + tl.arange(0, WIDTH)[None, :]
    return tl.load(ptr + where, mask=(start * RANK + row < length * RANK)[:, None], other=0.0).to(tl.float32)


@triton.jit
def mix_of(ptr, WIDTH: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr):
    """(ROWS, WIDTH) float32 of a head's parameter, whose ranks lie STRIDE apart; one row of it if all are the same."""
    if RANK == 1:
        return tl.load(ptr + tl.arange(0, WIDTH)).to(tl.float32)[None, :]
    else:
        rank = tl.arange(0, ROWS) % RANK
        return tl.load(ptr + rank[:, None] * STRIDE + tl.arange(0, WIDTH)[None, :]).to(tl.float32)


@triton.jit
def angles(
    angle_ptr, theta_ptr, dt, start, length, pairs: tl.constexpr, WIDE: tl.constexpr, TURN: tl.constexpr,
    ROWS: tl.constexpr, RANK: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """For both halves, of a chunk that begins at the angles `theta_ptr`: tanh(angle), cosines, sines."""
    pair = tl.arange(0, COUNT)
    squashed_a, turn = turns(angle_ptr, dt, start, length, pairs, 0, ROWS, RANK, COUNT)
    cos_a, sin_a = cos_sin(tl.load(theta_ptr + pair)[None, :] + tl.cumsum(turn, 0), TURN)
    squashed_b, cos_b, sin_b = squashed_a, cos_a, sin_a
    if WIDE:
        squashed_b, turn = turns(angle_ptr, dt, start, length, pairs, COUNT, ROWS, RANK, COUNT)
        cos_b, sin_b = cos_sin(tl.load(theta_ptr + COUNT + pair)[None, :] + tl.cumsum(turn, 0), TURN)
    return squashed_a, cos_a, sin_a, squashed_b, cos_b, sin_b


@triton.jit
def inputs_of(
    x_ptr, mix_ptr, start, length, x_token: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr
):
    """The inputs of all ranks (ROWS, P)."""
    values = rows_of(x_ptr, start, length, x_token, P, ROWS, RANK)
    if mix_ptr is not None:
        values *= mix_of(mix_ptr, P, P, ROWS, RANK)
    return values


@triton.jit
def output_gradients_of(
    grad_out_ptr, z_ptr, mix_z_ptr, mix_out_ptr, start, length, heads: tl.constexpr, z_token: tl.constexpr,
    P: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr,
):  # fmt: skip
    """The gradient of y for all ranks (ROWS, P), taken through the gate where there is one."""
    if z_ptr is None:
        return ranked_rows_of(grad_out_ptr, start, length, heads * P, P, ROWS, RANK)
    else:
        grad = rows_of(grad_out_ptr, start, length, heads * P, P, ROWS, RANK)
        gate = rows_of(z_ptr, start, length, z_token, P, ROWS, RANK)
        if mix_z_ptr is not None:
            gate *= mix_of(mix_z_ptr, P, P, ROWS, RANK)
            grad *= mix_of(mix_out_ptr, P, P, ROWS, RANK)
        return grad * gate * tl.sigmoid(gate)


@triton.jit
def output_and_input_of(
    x_ptr, z_ptr, grad_out_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, batch, head, start, length, x_batch, z_batch,
    heads: tl.constexpr, x_token: tl.constexpr, z_token: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr,
    RANK: tl.constexpr,
):  # fmt: skip
    """The gradient of y, and the inputs; (ROWS, P) each."""
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
    grad_y = output_gradients_of(
        grad_out_ptr, z_ptr, mix_z_ptr, mix_out_ptr, start, length, heads, z_token, P, ROWS, RANK
    )
    x_ptr += batch * x_batch + head * P
    return grad_y, inputs_of(x_ptr, mix_x_ptr, start, length, x_token, P, ROWS, RANK)


@triton.jit
def fading_between(elapsed, document, document_ptr, ROWS: tl.constexpr, RANK: tl.constexpr):
    """exp(elapsed_i - elapsed_j) where row j lies before row i, in the same document; else 0."""
    token = tl.arange(0, ROWS) // RANK
    before = token[:, None] > token[None, :]
    if document_ptr is not None:
        before = before & (document[:, None] == document[None, :])
    return tl.exp(tl.where(before, elapsed[:, None] - elapsed[None, :], -float("inf")))


@triton.jit
def edges(elapsed, total, document, document_ptr, start, length, TOKENS: tl.constexpr):
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
