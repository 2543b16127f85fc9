from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn import functional

from rlvr_kernels import Mamba3State, Mamba3Weights, mamba3, mamba3_step
from tests.kernels.comparison import CHECKS, DEVICE, assert_kernel_matches

F64 = torch.float64
CUTS = (0, 5, 6, 20, 37)
DOCUMENTS = torch.repeat_interleave(torch.arange(4), torch.tensor([5, 1, 14, 17])).expand(2, -1)


def arguments(rank=1, length=37, rows=2, heads=4, groups=2, width=6, columns=8, pairs=3, dtype=F64):
    """The eight tensors of tokens and the weights; pairs < columns / 2, so that some columns stand still."""
    stream = torch.Generator().manual_seed(rank)

    def normal(*shape):
        return torch.randn(shape, dtype=dtype, generator=stream)

    x, z = normal(rows, length, heads, width), normal(rows, length, heads, width)
    b, c = normal(rows, length, rank, groups, columns), normal(rows, length, rank, groups, columns)
    dt, a = functional.softplus(normal(rows, length, heads) - 1), -functional.softplus(normal(rows, length, heads))
    tokens = [x, z, b, c, dt, a, normal(rows, length, heads).sigmoid(), normal(rows, length, pairs)]
    mixes = [normal(heads, rank, width) for _ in range(3)] if rank > 1 else []
    weights = Mamba3Weights(normal(heads, rank, columns), normal(heads, rank, columns), normal(heads), *mixes)
    return tokens, weights


def cut(tokens, start, end):
    return [value if value is None else value[:, start:end] for value in tokens]


def nothing_yet(tokens, weights):
    rows, _, heads, width = tokens[0].shape
    _, rank, columns = weights.b_bias.shape
    shapes = (heads, width, columns), (heads, tokens[7].shape[-1]), (rank, heads, columns), (heads, width)
    return Mamba3State(*(torch.zeros(rows, *shape, dtype=tokens[0].dtype) for shape in shapes))


def in_steps(tokens, weights):
    state = nothing_yet(tokens, weights)
    outputs = []
    for t in range(tokens[0].shape[1]):
        output, state = mamba3_step(*(value[:, t] for value in tokens), weights, state)
        outputs.append(output)
    return torch.stack(outputs, dim=1), state


def by_hand(tokens, weights, row, head):
    """The recurrence of one head of one sequence, number by number."""
    x, z, b, c, dt, a, trapezoid, angle = tokens
    group = head // (x.shape[2] // b.shape[3])
    rank, columns = b.shape[2], b.shape[4]
    hidden = torch.zeros(x.shape[3], columns, dtype=F64)
    theta = torch.zeros(angle.shape[2], dtype=F64)
    before = torch.zeros_like(hidden)
    outputs = []
    for t in range(x.shape[1]):
        step = dt[row, t, head]
        theta = theta + torch.pi * angle[row, t].tanh() * step
        turn = torch.eye(columns, dtype=F64)
        for i, value in enumerate(theta):
            turn[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = torch.tensor(
                [[value.cos(), -value.sin()], [value.sin(), value.cos()]]
            )
        mixed = [x[row, t, head] * (1 if weights.mix_x is None else weights.mix_x[head, r]) for r in range(rank)]
        keys = [turn @ (b[row, t, r, group] + weights.b_bias[head, r]) for r in range(rank)]
        queries = [turn @ (c[row, t, r, group] + weights.c_bias[head, r]) for r in range(rank)]
        now: Any = sum(torch.outer(value, key) for value, key in zip(mixed, keys, strict=True))
        decay, share = (a[row, t, head] * step).exp(), trapezoid[row, t, head]
        hidden = decay * hidden + (1 - share) * step * decay * before + share * step * now
        before = now
        output = torch.zeros(x.shape[3], dtype=F64)
        for r in range(rank):
            y = hidden @ queries[r] + weights.skip[head] * mixed[r]
            gate = z[row, t, head] * (1 if weights.mix_z is None else weights.mix_z[head, r])
            output += y * functional.silu(gate) * (1 if weights.mix_out is None else weights.mix_out[head, r])
        outputs.append(output)
    return torch.stack(outputs)


@pytest.mark.parametrize("rank", [1, 3])
def test_chunks_steps_and_a_loop_by_hand_agree(rank):
    tokens, weights = arguments(rank)
    output, state = mamba3(*tokens, weights, chunk_size=8)
    stepped, last = in_steps(tokens, weights)
    assert torch.allclose(output, stepped, atol=1e-12)
    for field, wanted in zip(state, last, strict=True):
        assert torch.allclose(field, wanted, atol=1e-12)
    assert torch.allclose(output[1, :, 2], by_hand(tokens, weights, 1, 2), atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 5, 37, 64])
def test_the_chunk_size_changes_nothing(chunk):
    tokens, weights = arguments()
    assert torch.allclose(mamba3(*tokens, weights, chunk_size=chunk)[0], mamba3(*tokens, weights)[0], atol=1e-12)


def test_some_of_the_mixes_are_refused():
    tokens, weights = arguments()
    with pytest.raises(
        ValueError, match=r"weights lack mix_x, mix_z: give all three mixes \(H, 1, P\), or none of them"
    ):
        mamba3(*tokens, weights._replace(mix_out=torch.ones(4, 1, 6)))


def test_a_row_without_a_token_is_refused():
    tokens, weights = arguments()
    with pytest.raises(ValueError, match="give at least one sequence and one token"):
        mamba3(*cut(tokens, 0, 0), weights)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_carried_state_continues_the_row(rank):
    tokens, weights = arguments(rank)
    whole, last = mamba3(*tokens, weights, chunk_size=8)
    begun, state = mamba3(*cut(tokens, 0, 13), weights, chunk_size=8)
    ended, end = mamba3(*cut(tokens, 13, 37), weights, state=state, chunk_size=8)
    assert torch.allclose(torch.cat([begun, ended], dim=1), whole, atol=1e-12)
    assert all(torch.allclose(field, wanted, atol=1e-12) for field, wanted in zip(end, last, strict=True))


@pytest.mark.parametrize("rank", [1, 3])
def test_a_packed_document_comes_out_as_it_does_alone(rank):
    tokens, weights = arguments(rank)
    packed, state = mamba3(*tokens, weights, document_ids=DOCUMENTS, chunk_size=8)
    alone = [mamba3(*cut(tokens, start, end), weights) for start, end in pairwise(CUTS)]
    assert torch.allclose(packed, torch.cat([output for output, _ in alone], dim=1), atol=1e-12)
    assert not torch.allclose(packed, mamba3(*tokens, weights, chunk_size=8)[0], atol=1e-3)
    # the state's columns that turn differ by a rotation that later tokens share
    assert torch.allclose(state.hidden[..., 6:], alone[-1][1].hidden[..., 6:], atol=1e-12)


def test_padding_before_a_row_changes_nothing():
    tokens, weights = arguments()
    mask = torch.arange(37).expand(2, -1) >= 6
    padded, state = mamba3(*tokens, weights, mask=mask, chunk_size=8)
    bare, wanted = mamba3(*cut(tokens, 6, 37), weights, chunk_size=8)
    assert torch.allclose(padded[:, 6:], bare, atol=1e-12)
    assert all(torch.allclose(field, other, atol=1e-12) for field, other in zip(state, wanted, strict=True))


def test_no_output_depends_on_a_later_token():
    tokens, weights = arguments(3)
    changed = [value.clone() for value in tokens]
    for value in changed:
        value[:, 21:] *= 0.5
    before, after = mamba3(*tokens, weights, chunk_size=8)[0], mamba3(*changed, weights, chunk_size=8)[0]
    assert torch.equal(before[:, :21], after[:, :21])


def test_without_rotation_and_second_share_it_is_mamba_2():
    tokens, weights = arguments()
    x, z, b, c, dt, a, trapezoid, angle = tokens
    output, _ = mamba3(x, z, b, c, dt, a, torch.ones_like(trapezoid), torch.zeros_like(angle), weights, chunk_size=8)
    hidden = torch.zeros(2, 4, 6, 8, dtype=F64)
    for t in range(37):
        key, query = (v[:, t, 0].repeat_interleave(2, 1) + bias[:, 0] for v, bias in ((b, weights[0]), (c, weights[1])))
        fresh = (dt[:, t, :, None] * x[:, t])[..., None] * key[..., None, :]
        hidden = (a * dt)[:, t].exp()[..., None, None] * hidden + fresh
        y = (hidden @ query[..., None])[..., 0] + weights.skip[:, None] * x[:, t]
        assert torch.allclose(output[:, t], y * functional.silu(z[:, t]), atol=1e-12)


def test_ungated_ranks_come_out_apart():
    tokens, weights = arguments(3)
    gated, _ = mamba3(*tokens, weights)
    bare, _ = mamba3(tokens[0], None, *tokens[2:], weights)
    assert bare.shape == (2, 37, 3, 4, 6)
    gate = functional.silu(tokens[1][:, :, None] * weights.mix_z.transpose(0, 1)) * weights.mix_out.transpose(0, 1)
    assert torch.allclose((bare * gate).sum(2), gated, atol=1e-12)


def test_the_reference_has_the_right_gradients():
    tokens, weights = arguments(2, length=5, rows=1, heads=2, groups=1, width=2, columns=4, pairs=1)
    state = mamba3(*tokens, weights)[1]
    leaves = [value.detach().clone().requires_grad_() for value in (*tokens, *weights, *state)]
    documents = torch.tensor([[0, 0, 0, 1, 1]])

    def operation(*leaves):
        options = {"document_ids": documents, "state": Mamba3State(*leaves[14:]), "chunk_size": 2}
        output, last = mamba3(*leaves[:8], Mamba3Weights(*leaves[8:14]), **options)
        return output, last.hidden, last.last_b

    assert torch.autograd.gradcheck(operation, leaves, fast_mode=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"groups": 3}, "3 groups for 4 heads"), ({"pairs": 5}, "5 pairs of 8")],
)
def test_what_does_not_fit_is_refused(change, message):
    tokens, weights = arguments(**change)
    with pytest.raises(ValueError, match=message):
        mamba3(*tokens, weights)


def test_a_rank_without_mixes_is_refused():
    tokens, weights = arguments(2)
    with pytest.raises(ValueError, match="mix_x"):
        mamba3(*tokens, weights._replace(mix_x=None))


# -- kernels ----------------------------------------------------------------------------------------------------------

KERNEL_CASES = {
    "siso, gated, two groups": {"heads": 2, "groups": 2},
    "siso, ungated, packed, carried, all columns turn": {"gate": False, "documents": True, "state": True, "pairs": 16},
    "mimo, gated, packed, carried": {"rank": 4, "documents": True, "state": True, "chunk": 32},
    "mimo, ungated": {"rank": 2, "gate": False, "pairs": 12},
}


def check_kernel(
    rank=1, gate=True, documents=False, state=False, tolerance=1e-5, dtype=torch.float32, chunk=16, **shape
):
    small = {"rows": 1, "length": 20, "heads": 1, "groups": 1, "width": 16, "columns": 32, "pairs": 5}
    shape = small | {"dtype": torch.float32} | shape
    tokens, weights = arguments(rank, **shape)
    carried = mamba3(*(value.flip(1) for value in tokens), weights)[1] if state else ()
    if not gate:
        tokens[1], weights = None, weights._replace(mix_z=None, mix_out=None) if rank == 1 else weights
    length = tokens[0].shape[1]
    ids = (torch.arange(length) * 7 // length).expand(shape["rows"], -1).to(DEVICE) if documents else None

    def operation(*leaves, backend):
        given = Mamba3Weights(*leaves[8:14])
        last = Mamba3State(*leaves[14:]) if state else None
        options = {"document_ids": ids, "state": last, "chunk_size": chunk // rank, "backend": backend}
        output, left = mamba3(*leaves[:8], given, **options)
        if not gate and rank > 1:  # so that the unused mixes have a gradient
            output = output + 0 * (given.mix_z.sum() + given.mix_out.sum())
        return output, *left

    assert_kernel_matches(operation, (*tokens, *weights, *carried), tolerance, dtype)


@pytest.mark.parametrize("case", KERNEL_CASES.values(), ids=KERNEL_CASES)
def test_the_kernels_equal_the_reference(case):
    check_kernel(**case)


def test_the_kernels_take_inputs_whose_tokens_lie_apart():
    tokens, weights = arguments(rows=1, length=20, heads=2, groups=1, width=16, columns=32, dtype=torch.float32)
    tokens, weights = (
        [value.to(DEVICE) for value in tokens],
        Mamba3Weights(*(value.to(DEVICE) for value in weights[:3])),
    )
    together = torch.cat([tokens[0].flatten(2), tokens[1].flatten(2)], dim=-1)
    x, z = (part.unflatten(2, (2, 16)) for part in together.chunk(2, dim=-1))
    assert not x.is_contiguous()
    apart, _ = mamba3(x, z, *tokens[2:], weights, chunk_size=16, backend="triton")
    assert torch.equal(apart, mamba3(*tokens, weights, chunk_size=16, backend="triton")[0])


@pytest.mark.parametrize(("change", "message"), [({"width": 12}, "P=12"), ({"columns": 16}, "N=16")])
def test_the_kernels_refuse_what_does_not_fit(change, message):
    tokens, weights = arguments(**{"width": 16, "columns": 32, "dtype": torch.float32} | change)
    moved = [value.to(DEVICE) for value in tokens]
    with pytest.raises(ValueError, match=message):
        mamba3(*moved, Mamba3Weights(*(value.to(DEVICE) for value in weights[:3])), backend="triton")


def test_the_compiler_sees_one_operation():
    from rlvr_kernels.mamba3 import triton_kernel

    tokens, weights = arguments(rows=1, length=3, heads=1, groups=1, width=16, columns=32, dtype=torch.float32)
    hidden, theta = torch.zeros(1, 1, 16, 32), torch.zeros(1, 1, 3)
    given = [value.to(DEVICE).requires_grad_() for value in (*tokens, *weights[:3], hidden, theta)]
    whole = (*given[:11], None, None, None, None, *given[11:], 16)
    torch.library.opcheck(triton_kernel._scan, whole, test_utils=CHECKS)


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
REAL = {"chunk": 64, "rows": 2, "length": 500, "heads": 4, "width": 64, "columns": 128, "pairs": 32}


@pytest.mark.gpu
@gpu
def test_the_gated_kernels_equal_the_reference_in_bfloat16():
    check_kernel(tolerance=3e-2, dtype=torch.bfloat16, **REAL)


@pytest.mark.gpu
@gpu
def test_the_packed_mimo_kernels_equal_the_reference_in_bfloat16():
    check_kernel(rank=4, documents=True, state=True, tolerance=3e-2, dtype=torch.bfloat16, **REAL)


@pytest.mark.gpu
@gpu
def test_the_kernels_equal_the_reference_in_float32():
    check_kernel(documents=True, state=True, tolerance=1e-4, length=300, heads=4, width=32, columns=64, pairs=16)


@pytest.mark.parametrize(("rank", "gate"), [(1, True), (4, True), (2, False)])
def test_the_step_kernel_equals_the_reference(rank, gate):
    tokens, weights = arguments(rank, width=16, columns=32, pairs=5, dtype=torch.float32)
    tokens = [value.to(DEVICE) for value in tokens]
    weights = Mamba3Weights(*(None if value is None else value.to(DEVICE) for value in weights))
    state = mamba3(*tokens, weights, backend="reference")[1]
    token = [value[:, 3] for value in tokens]
    if not gate:
        token[1] = None
    expected, wanted = mamba3_step(*token, weights, state, backend="reference")
    found, left = mamba3_step(*token, weights, state, backend="triton")
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert all(torch.allclose(field, other, atol=1e-4) for field, other in zip(left, wanted, strict=True))


@pytest.mark.gpu
@gpu
def test_a_compiled_function_has_no_graph_break():
    tokens, weights = arguments(rows=2, length=100, heads=2, groups=1, width=64, columns=128, dtype=torch.float32)
    leaves = [value.to(DEVICE).requires_grad_() for value in (*tokens, *weights[:3])]

    def loss(*leaves):
        return mamba3(*leaves[:8], Mamba3Weights(*leaves[8:]))[0].square().mean()

    expected = torch.autograd.grad(loss(*leaves), leaves)
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*leaves), leaves)
    for value, wanted in zip(found, expected, strict=True):
        assert torch.allclose(value, wanted, atol=1e-5 + 1e-3 * wanted.abs().max())
