"""What every chunk's arguments get, once the states and their gradients at its edges are known.

Two kernels share the work, since one would need more registers than there are: the first takes the gradient of the
inputs and of what weighs them inside of the chunk, the second that of keys, queries and angles, and completes the rest.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rlvr_kernels.mamba3.triton_parts import (
    PI,
    angles,
    decays,
    edges,
    fading_between,
    half_of,
    mix_of,
    output_and_input_of,
    over_ranks,
    over_tokens,
    pair_torque,
    rotate,
    rows_of,
    tokens_of,
)


@triton.jit
def chunk_value_gradients(
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
    dt, own, lasting, elapsed, total, document = decays(
        dt_ptr + scalar, a_ptr + scalar, trapezoid_ptr + scalar, document_ptr, start, length, heads, ROWS, RANK
    )
    _, cos_a, sin_a, _, cos_b, sin_b = angles(
        angle_ptr + batch * length * pairs, thetas_ptr + chunk * HALF, dt, start, length, pairs, WIDE, TURN, ROWS, RANK,
        COUNT,
    )  # fmt: skip
    b_ptr += group
    c_ptr += group
    b_bias_ptr += head * RANK * N
    c_bias_ptr += head * RANK * N
    p = tl.arange(0, P)
    place = grad_hiddens_ptr + chunk * P * N + (p[:, None] * N + tl.arange(0, HALF)[None, :])
    keys = half_of(b_ptr, b_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    grad_values = tl.dot(keys, tl.trans(tl.load(place).to(DOT)), input_precision="ieee")
    queries = half_of(c_ptr, c_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
    keys = half_of(
        b_ptr + HALF, b_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    grad_values = tl.dot(keys, tl.trans(tl.load(place + HALF).to(DOT)), grad_values, input_precision="ieee")
    queries = half_of(
        c_ptr + HALF, c_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    scores = tl.dot(queries, tl.trans(keys), scores, input_precision="ieee")

    row = tl.arange(0, ROWS)
    _, lasts, _ = edges(elapsed, total, document, document_ptr, start, length, TOKENS)
    fading = fading_between(elapsed, document, document_ptr, ROWS, RANK)
    itself = row[:, None] // RANK == row[None, :] // RANK
    grad_y, values = output_and_input_of(
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
        unmixed = rows_of(x_ptr + batch * x_batch + head * P, start, length, x_token, P, ROWS, RANK)
        grad_mix = over_tokens(grad_values * unmixed, ROWS, RANK, P)
        tl.store(grad_mix_x_ptr + chunk * RANK * P + (tl.arange(0, RANK)[:, None] * P + p[None, :]), grad_mix)
        grad_values *= mix_of(mix_x_ptr + head * RANK * P, P, P, ROWS, RANK)
    token = start + tl.arange(0, TOKENS)
    place = (batch * length + token[:, None]) * (heads * P) + head * P + p[None, :]
    grad_x = over_ranks(grad_values, ROWS, RANK, P).to(grad_x_ptr.dtype.element_ty)
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
    row = tl.arange(0, ROWS)
    column = tl.arange(0, HALF)
    place = tl.cast(start, tl.int64) * RANK * stride + (row[:, None] * stride + column[None, :])
    inside = (start * RANK + row < length * RANK)[:, None]
    bias = tl.arange(0, RANK)[:, None] * (2 * HALF) + column[None, :]
    state = tl.arange(0, P)[:, None] * (2 * HALF) + column[None, :]

    hidden = tl.load(hidden_ptr + state)
    grad = tl.dot(grad_y, hidden.to(DOT), input_precision="ieee") * seen[:, None]
    grad_log_seen = tl.sum(grad * queries.to(tl.float32), 1)
    grad = tl.dot(grad_scores, keys, grad, input_precision="ieee")
    torque = pair_torque(grad, queries.to(tl.float32), ROWS, HALF)
    if TURNS:
        grad = rotate(grad, cos, -sin, ROWS, HALF)
    tl.store(grad_c_bias_ptr + bias, over_tokens(grad, ROWS, RANK, HALF))
    tl.store(grad_c_ptr + place, grad.to(grad_c_ptr.dtype.element_ty), inside)

    grad_hidden = tl.load(grad_hidden_ptr + state)
    through = tl.sum(hidden.to(tl.float32) * grad_hidden.to(tl.float32))
    grad = tl.dot(values, grad_hidden.to(DOT), input_precision="ieee")
    grad_kept = tl.sum(grad * keys.to(tl.float32), 1)
    grad = tl.dot(tl.trans(grad_scores), queries, grad * kept[:, None], input_precision="ieee")
    torque += pair_torque(grad, keys.to(tl.float32), ROWS, HALF)
    if TURNS:
        grad = rotate(grad, cos, -sin, ROWS, HALF)
    tl.store(grad_b_bias_ptr + bias, over_tokens(grad, ROWS, RANK, HALF))
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
    place = token[:, None].to(tl.int64) * (heads * pairs) + pair[None, :]
    tl.store(grad_turn_ptr + place, over_ranks(turn, ROWS, RANK, COUNT).to(grad_turn_ptr.dtype.element_ty), there)
    tl.store(grad_turned_ptr + pair, tl.sum(torque, 0), pair < pairs)


@triton.jit
def chunk_key_gradients(
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
    dt, own, lasting, elapsed, total, document = decays(
        dt_ptr + scalar, a_ptr + scalar, trapezoid_ptr + scalar, document_ptr, start, length, heads, ROWS, RANK
    )
    row = tl.arange(0, ROWS)
    seen, lasts, decay = edges(elapsed, total, document, document_ptr, start, length, TOKENS)
    kept = lasts * lasting
    grad_y, values = output_and_input_of(
        x_ptr, z_ptr, grad_out_ptr, mix_x_ptr, mix_z_ptr, mix_out_ptr, batch, head, start, length, x_batch, z_batch,
        heads, x_token, z_token, P, ROWS, RANK,
    )  # fmt: skip
    grad_y = grad_y.to(DOT)
    values = values.to(DOT)
    weight = fading_between(elapsed, document, document_ptr, ROWS, RANK) * lasting[None, :]
    weight = tl.where(row[:, None] // RANK == row[None, :] // RANK, own[None, :], weight)
    grad_scores = (tl.dot(grad_y, tl.trans(values), input_precision="ieee") * weight).to(DOT)

    b_ptr += group
    c_ptr += group
    b_bias_ptr += head * RANK * N
    c_bias_ptr += head * RANK * N
    per_head = batch * length * RANK * heads * N + head * N
    bias = chunk * RANK * N
    state = chunk * P * N
    _, cos_a, sin_a, _, cos_b, sin_b = angles(
        angle_ptr + batch * length * pairs, thetas_ptr + chunk * HALF, dt, start, length, pairs, WIDE, TURN, ROWS, RANK,
        COUNT,
    )  # fmt: skip
    keys = half_of(b_ptr, b_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    queries = half_of(c_ptr, c_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    seen_a, kept_a, through_a, torque = _half_gradients(
        grad_c_ptr + per_head, grad_b_ptr + per_head, grad_c_bias_ptr + bias, grad_b_bias_ptr + bias,
        hiddens_ptr + state, grad_hiddens_ptr + state, queries, keys, grad_scores, grad_y, values, seen, kept,
        cos_a, sin_a, start, length, heads * N, True, ROWS, RANK, HALF, P,
    )  # fmt: skip
    grad_turn_ptr += (batch * length * heads + head) * pairs
    grad_turned_ptr += chunk * pairs
    _store_turns(grad_turn_ptr, grad_turned_ptr, torque, start, length, heads, pairs, 0, ROWS, RANK, COUNT)
    keys = half_of(
        b_ptr + HALF, b_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    queries = half_of(
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
    tl.store(grad_log_decay_ptr + place, tokens_of(grad_log_decay, ROWS, RANK), here)
    tl.store(grad_weight_ptr + place, tokens_of(grad_own, ROWS, RANK), here)
    tl.store(grad_later_ptr + place, tokens_of(grad_lasting, ROWS, RANK), here)


@triton.jit
def angle_gradients(
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
