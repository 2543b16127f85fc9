"""Experts: each lane and each kernel against a loop over experts."""

import pytest
import torch

from rlvr_kernels.moe import layout, moe
from rlvr_kernels.moe.lanes import LANES
from rlvr_kernels.moe.reference import expert_loop, swiglu

F64 = torch.float64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHECKS = ("test_schema", "test_faketensor", "test_autograd_registration")


def inputs(*, tokens=40, width=16, inner=24, experts=6, top_k=2, dtype=torch.float32, device="cpu", idle=True):
    """Expert 3 gets no token when `idle`; the others get unequal shares."""
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(tokens, width, generator=generator), torch.rand(tokens, top_k, generator=generator)
    gate_up = torch.randn(experts, 2 * inner, width, generator=generator) / width**0.5
    down = torch.randn(experts, width, inner, generator=generator) / inner**0.5
    liking = torch.rand(tokens, experts, generator=generator) + torch.linspace(0, 0.5, experts)
    if idle:
        liking[:, 3] = -1
    chosen = liking.topk(top_k, dim=1).indices
    x, gate_up, down, weights = (y.to(device, dtype).requires_grad_() for y in (x, gate_up, down, weights))
    return x, gate_up, down, chosen.to(device), weights


def results(function, x, gate_up, down, chosen, weights, dtype, **options):
    """The output and the gradients of everything that has one, computed in `dtype`."""
    leaves = [y.detach().to(dtype).requires_grad_() for y in (x, gate_up, down, weights)]
    out = function(*leaves[:3], chosen, leaves[3], **options)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return out, *torch.autograd.grad(out, leaves, upstream)


def check(given, expected, atol):
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=atol, atol=atol * other.abs().max().item())


def test_the_loop_is_the_sum_over_a_tokens_experts():
    x, gate_up, down, chosen, weights = inputs(tokens=5, dtype=F64)
    out = expert_loop(x, gate_up, down, chosen, weights)
    for n in range(5):
        parts = [w * (down[e] @ swiglu(gate_up[e] @ x[n])) for e, w in zip(chosen[n], weights[n], strict=True)]
        torch.testing.assert_close(out[n], sum(parts), rtol=0, atol=1e-12)


def test_gradients_of_the_loop_and_of_the_grouped_lane():
    x, gate_up, down, chosen, weights = inputs(tokens=3, width=2, inner=2, experts=4, dtype=F64)
    for function in (expert_loop, moe):
        assert torch.autograd.gradcheck(lambda *y, f=function: f(*y[:3], chosen, y[3]), (x, gate_up, down, weights))


@pytest.mark.parametrize("lane", LANES)
def test_no_token_gives_none(lane):
    x, gate_up, down, chosen, weights = inputs()
    assert moe(x[:0], gate_up, down, chosen[:0], weights[:0], lane=lane).shape == (0, 16)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has one operation for it")
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # dynamo's own look
def test_the_default_lane_compiles_in_float32():
    x = inputs(idle=False)
    compiled = torch.compile(lambda *y: moe(*y), backend="aot_eager")
    torch.testing.assert_close(compiled(*x), moe(*x))


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_is_the_loop(lane):
    x = inputs()
    check(results(moe, *x, torch.float32, lane=lane), results(expert_loop, *x, F64), 1e-5)


@pytest.mark.parametrize("lane", LANES)
def test_a_tokens_output_does_not_depend_on_the_others(lane):
    x, gate_up, down, chosen, weights = inputs(dtype=F64)
    few = moe(x[7:9], gate_up, down, chosen[7:9], weights[7:9], lane=lane)
    torch.testing.assert_close(few, moe(x, gate_up, down, chosen, weights, lane=lane)[7:9], rtol=0, atol=1e-12)


def test_renaming_the_experts_changes_nothing():
    x, gate_up, down, chosen, weights = inputs(dtype=F64)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    renamed = moe(x, gate_up[order], down[order], order.argsort()[chosen], weights)
    torch.testing.assert_close(renamed, moe(x, gate_up, down, chosen, weights), rtol=0, atol=1e-12)


@pytest.mark.parametrize("lane", LANES)
def test_every_copy_has_a_row_among_its_experts(lane):
    chosen = inputs()[3]
    plan = layout.lay_out(chosen, 6, lane)
    assert torch.equal(plan.slot_of_row[plan.row_of_slot], torch.arange(80).view(40, 2))
    assert int((plan.slot_of_row >= 0).sum()) == chosen.numel()
    assert torch.equal(torch.searchsorted(plan.ends, plan.row_of_slot.int(), right=True), chosen)


def test_what_does_not_fit_is_refused():
    x, gate_up, down, chosen, weights = inputs()
    with pytest.raises(ValueError, match="lane is 'dense'; choose one of grouped"):
        moe(x, gate_up, down, chosen, weights, lane="dense")
    with pytest.raises(ValueError, match="do not belong together"):
        moe(x[:, :8], gate_up, down, chosen, weights)
    with pytest.raises(ValueError, match="must both be"):
        moe(x, gate_up, down, chosen[:5], weights[:5])
    with pytest.raises(ValueError, match="not a multiple of 16 bytes"):
        moe(*inputs(width=6))


# --- kernels ---


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize("lane", LANES)
def test_kernels_are_the_loop(lane, monkeypatch):
    monkeypatch.setattr(layout, "TILE", 16)
    x = inputs(tokens=9, experts=4)
    check(results(moe, *x, torch.float32, lane=lane, backend="triton"), results(expert_loop, *x, F64), 1e-5)


def test_the_compiler_sees_operations(monkeypatch):
    from rlvr_kernels.moe import triton_kernel, triton_layout

    monkeypatch.setattr(layout, "TILE", 16)
    x, gate_up, down, chosen, weights = inputs(tokens=4, experts=4, device=DEVICE)
    places = triton_layout._lay_out(chosen, 4, "block_sparse")
    torch.library.opcheck(triton_layout._lay_out, (chosen, 4, "grouped"), test_utils=CHECKS)
    given = (x, gate_up, down, weights, *places, "block_sparse")
    torch.library.opcheck(triton_kernel._mixture, given, test_utils=CHECKS)


@pytest.mark.parametrize("lane", ["grouped", "block_sparse"])
@pytest.mark.parametrize(("tokens", "experts"), [(40, 6), (700, 8), (1, 4)])
def test_the_counting_sort_is_the_sort(lane, tokens, experts, monkeypatch):
    from rlvr_kernels.moe import triton_layout

    monkeypatch.setattr(triton_layout, "CELLS", 256)
    chosen = inputs(tokens=tokens, experts=experts, width=1, inner=1, device=DEVICE)[3]
    expected, given = (f(chosen, experts, lane) for f in (layout.lay_out, triton_layout.lay_out))
    for name in ("slot_of_row", "row_of_slot", "ends"):
        assert torch.equal(getattr(given, name).long(), getattr(expected, name).long())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 4e-2), (torch.float32, 1e-3)])
def test_kernels_are_the_loop_on_a_gpu(lane, dtype, atol):
    x = inputs(tokens=700, width=256, inner=160, experts=8, top_k=2, dtype=dtype, device="cuda")
    check(results(moe, *x, dtype, lane=lane), results(expert_loop, *x, F64), atol)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_without_a_break():
    x = inputs(tokens=256, width=64, inner=64, dtype=torch.bfloat16, device="cuda")
    compiled = torch.compile(moe, fullgraph=True)
    torch.testing.assert_close(compiled(*x), moe(*x), rtol=4e-2, atol=4e-2)
