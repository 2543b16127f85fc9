"""What every chunk gives, once it is known with which state it begins."""

from __future__ import annotations

import triton
import triton.language as tl

from rlvr_kernels.mamba3.triton_parts import (
    angles,
    decays,
    half_of,
    inputs_of,
    mix_of,
    over_ranks,
    over_tokens,
    rows_of,
)


@triton.jit
def chunk_outputs(
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
    dt, own, lasting, elapsed, _, document = decays(
        dt_ptr + scalar, a_ptr + scalar, trapezoid_ptr + scalar, document_ptr, start, length, heads, ROWS, RANK
    )
    _, cos_a, sin_a, _, cos_b, sin_b = angles(
        angle_ptr + batch * length * pairs, thetas_ptr + chunk * HALF, dt, start, length, pairs, WIDE, TURN, ROWS, RANK,
        COUNT,
    )  # fmt: skip
    place = hiddens_ptr + chunk * P * N + (tl.arange(0, P)[:, None] * N + tl.arange(0, HALF)[None, :])
    b_ptr += group
    c_ptr += group
    b_bias_ptr += head * RANK * N
    c_bias_ptr += head * RANK * N
    keys = half_of(b_ptr, b_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    queries = half_of(c_ptr, c_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
    y = tl.dot(queries, tl.trans(tl.load(place).to(DOT)), input_precision="ieee")
    keys = half_of(
        b_ptr + HALF, b_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
    )
    queries = half_of(
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
    values = inputs_of(x_ptr + batch * x_batch + head * P, mix_x_ptr, start, length, x_token, P, ROWS, RANK)
    y = tl.dot((scores * weight).to(DOT), values.to(DOT), y * seen[:, None], input_precision="ieee")
    y += tl.load(skip_ptr + head).to(tl.float32) * values

    p = tl.arange(0, P)
    if z_ptr is None:
        line = start * RANK + row
        place = out_ptr + (batch * length * RANK + line[:, None]) * (heads * P) + head * P + p[None, :]
        tl.store(place, y.to(out_ptr.dtype.element_ty), (line < length * RANK)[:, None])
    else:
        gate = rows_of(z_ptr + batch * z_batch + head * P, start, length, z_token, P, ROWS, RANK)
        mix = head * RANK * P
        rank = tl.arange(0, RANK)[:, None] * P + p[None, :]
        z = gate
        if mix_z_ptr is not None:
            gate *= mix_of(mix_z_ptr + mix, P, P, ROWS, RANK)
        sigmoid = tl.sigmoid(gate)
        if grad_out_ptr is None:
            y *= gate * sigmoid
            if mix_out_ptr is not None:
                y *= mix_of(mix_out_ptr + mix, P, P, ROWS, RANK)
        else:
            grad_out_ptr += batch * length * heads * P + head * P
            grad = rows_of(grad_out_ptr, start, length, heads * P, P, ROWS, RANK)
            if mix_out_ptr is not None:
                grad_mix = over_tokens(grad * y * gate * sigmoid, ROWS, RANK, P)
                tl.store(grad_mix_out_ptr + chunk * RANK * P + rank, grad_mix)
                grad *= mix_of(mix_out_ptr + mix, P, P, ROWS, RANK)
            grad *= y * sigmoid * (1.0 + gate * (1.0 - sigmoid))
            if mix_z_ptr is not None:
                tl.store(grad_mix_z_ptr + chunk * RANK * P + rank, over_tokens(grad * z, ROWS, RANK, P))
                grad *= mix_of(mix_z_ptr + mix, P, P, ROWS, RANK)
            y = grad
        token = start + tl.arange(0, TOKENS)
        place = out_ptr + (batch * length + token[:, None]) * (heads * P) + head * P + p[None, :]
        tl.store(place, over_ranks(y, ROWS, RANK, P).to(out_ptr.dtype.element_ty), (token < length)[:, None])
