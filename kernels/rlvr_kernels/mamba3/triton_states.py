"""The states of a sequence at the edges of its chunks, and their gradients: what has to be done in order."""

from __future__ import annotations

import triton
import triton.language as tl

from rlvr_kernels.mamba3.triton_parts import (
    angles,
    cos_sin,
    decays,
    half_of,
    inputs_of,
    output_gradients_of,
    turns,
    wrapped,
)


@triton.jit
def walk_states(
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
        dt, _, lasting, elapsed, total, document = decays(
            dt_ptr, a_ptr, trapezoid_ptr, document_ptr, start, length, heads, ROWS, RANK
        )
        tl.store(hiddens_ptr + place, hidden_a.to(hiddens_ptr.dtype.element_ty))
        tl.store(hiddens_ptr + HALF + place, hidden_b.to(hiddens_ptr.dtype.element_ty))
        tl.store(thetas_ptr + pair, theta_a)
        tl.store(thetas_ptr + COUNT + pair, theta_b)
        hiddens_ptr += P * N
        thetas_ptr += HALF
        _, turn = turns(angle_ptr, dt, start, length, pairs, 0, ROWS, RANK, COUNT)
        cos_a, sin_a = cos_sin(theta_a[None, :] + tl.cumsum(turn, 0), TURN)
        theta_a = wrapped(theta_a + tl.sum(turn, 0))
        cos_b, sin_b = cos_a, sin_a
        if WIDE:
            _, turn = turns(angle_ptr, dt, start, length, pairs, COUNT, ROWS, RANK, COUNT)
            cos_b, sin_b = cos_sin(theta_b[None, :] + tl.cumsum(turn, 0), TURN)
            theta_b = wrapped(theta_b + tl.sum(turn, 0))
        kept = tl.exp(total - elapsed) * lasting
        decay = tl.exp(total)
        if document_ptr is not None:
            last_document = tl.load(document_ptr + tl.minimum(start + TOKENS, length) - 1)
            kept = tl.where(document == last_document, kept, 0.0)
            decay = tl.where(last_document == left_by, decay, 0.0)
            left_by = last_document
        values = inputs_of(x_ptr, mix_x_ptr, start, length, x_token, P, ROWS, RANK)
        entering = tl.trans((values * kept[:, None]).to(DOT))
        keys = half_of(b_ptr, b_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
        hidden_a = tl.dot(entering, keys, hidden_a * decay, input_precision="ieee")
        keys = half_of(
            b_ptr + HALF, b_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
        )
        hidden_b = tl.dot(entering, keys, hidden_b * decay, input_precision="ieee")

    tl.store(last_hidden_ptr + sequence * P * N + place, hidden_a)
    tl.store(last_hidden_ptr + sequence * P * N + HALF + place, hidden_b)
    tl.store(last_theta_ptr + sequence * pairs + pair, theta_a, pair < pairs)
    tl.store(last_theta_ptr + sequence * pairs + COUNT + pair, theta_b, COUNT + pair < pairs)


@triton.jit
def walk_state_gradients(
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
        dt, _, _, elapsed, total, document = decays(
            dt_ptr, a_ptr, trapezoid_ptr, document_ptr, start, length, heads, ROWS, RANK
        )
        chunk = sequence * chunks + index
        tl.store(grad_hiddens_ptr + chunk * P * N + place, grad_a.to(grad_hiddens_ptr.dtype.element_ty))
        tl.store(grad_hiddens_ptr + chunk * P * N + HALF + place, grad_b.to(grad_hiddens_ptr.dtype.element_ty))
        _, cos_a, sin_a, _, cos_b, sin_b = angles(
            angle_ptr, thetas_ptr + chunk * HALF, dt, start, length, pairs, WIDE, TURN, ROWS, RANK, COUNT
        )
        seen = tl.exp(elapsed)
        decay = tl.exp(total)
        if document_ptr is not None:
            left_by = tl.load(document_ptr + tl.maximum(start - 1, 0))
            seen = tl.where(document == left_by, seen, 0.0)
            last_document = tl.load(document_ptr + tl.minimum(start + TOKENS, length) - 1)
            decay = tl.where(last_document == left_by, decay, 0.0)
        grad_y = output_gradients_of(
            grad_out_ptr, z_ptr, mix_z_ptr, mix_out_ptr, start, length, heads, z_token, P, ROWS, RANK
        )
        leaving = tl.trans((grad_y * seen[:, None]).to(DOT))
        queries = half_of(c_ptr, c_bias_ptr, start, length, groups * N, cos_a, sin_a, True, ROWS, RANK, HALF, DOT)
        grad_a = tl.dot(leaving, queries, grad_a * decay, input_precision="ieee")
        queries = half_of(
            c_ptr + HALF, c_bias_ptr + HALF, start, length, groups * N, cos_b, sin_b, WIDE, ROWS, RANK, HALF, DOT
        )
        grad_b = tl.dot(leaving, queries, grad_b * decay, input_precision="ieee")

    tl.store(grad_first_hidden_ptr + sequence * P * N + place, grad_a)
    tl.store(grad_first_hidden_ptr + sequence * P * N + HALF + place, grad_b)
