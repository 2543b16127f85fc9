from typing import Any

import pytest
import torch

from rlvr_kernels import read_streams, sinkhorn, write_streams
from tests.kernels.comparison import CHECKS, DEVICE, assert_kernel_matches


def test_columns_sum_to_one_after_any_number_of_iterations():
    logits = 3 * torch.randn(50, 4, 4, dtype=torch.float64)
    for iterations in (1, 5, 20):
        mixing = sinkhorn(logits, iterations=iterations, epsilon=0.0)
        assert torch.allclose(mixing.sum(-2), torch.ones(50, 4, dtype=torch.float64), atol=1e-14)


def test_rows_come_closer_to_one_with_every_iteration():
    logits = torch.randn(200, 4, 4, dtype=torch.float64)
    errors = [(sinkhorn(logits, iterations=n).sum(-1) - 1).abs().max() for n in (1, 5, 20)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 5e-3


def test_blend_zero_leaves_every_stream_alone():
    mixing = sinkhorn(torch.randn(3, 4, 4), blend=0.0)
    assert torch.equal(mixing, torch.eye(4).expand(3, 4, 4))


def test_what_all_streams_share_is_carried_on():
    common = torch.randn(6, 8, dtype=torch.float64)
    streams = common[:, None].expand(6, 4, 8)
    mixing = sinkhorn(torch.randn(6, 4, 4, dtype=torch.float64), epsilon=0.0)
    zero = torch.zeros_like(common)
    carried = write_streams(streams, zero, torch.ones(6, 4, dtype=torch.float64), mixing)
    assert torch.allclose(carried, streams, atol=1e-13)


def test_equal_streams_read_evenly_are_a_plain_residual():
    hidden = torch.randn(5, 8, dtype=torch.float64)
    streams = hidden[:, None].expand(5, 4, 8)
    even, one = torch.full((5, 4), 0.25, dtype=torch.float64), torch.ones(5, 4, dtype=torch.float64)
    branch = torch.tanh(read_streams(streams, even))
    mixing = sinkhorn(torch.randn(5, 4, 4, dtype=torch.float64), epsilon=0.0)
    after = write_streams(streams, branch, one, mixing)
    assert torch.allclose(after, (hidden + torch.tanh(hidden))[:, None].expand_as(after), atol=1e-13)


def test_the_references_are_the_sums_they_say():
    streams, branch = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    pre, mixing = torch.rand(3, 4, dtype=torch.float64), torch.rand(3, 4, 4, dtype=torch.float64)
    read: Any = sum(pre[:, i, None] * streams[:, i] for i in range(4))
    assert torch.allclose(read_streams(streams, pre), read, atol=1e-14)
    written = write_streams(streams, branch, pre, mixing)
    for j in range(4):
        wanted = pre[:, j, None] * branch + sum(mixing[:, i, j, None] * streams[:, i] for i in range(4))
        assert torch.allclose(written[:, j], wanted, atol=1e-14)


def test_the_references_have_the_right_gradients():
    double: dict[str, Any] = {"dtype": torch.float64, "requires_grad": True}
    logits, streams, branch = (torch.randn(shape, **double) for shape in ((2, 4, 4), (2, 4, 3), (2, 3)))
    pre, mixing = torch.rand(2, 4, **double), torch.rand(2, 4, 4, **double)
    assert torch.autograd.gradcheck(lambda logits: sinkhorn(logits, temperature=0.7, blend=0.8), (logits,))
    assert torch.autograd.gradcheck(read_streams, (streams, pre))
    assert torch.autograd.gradcheck(write_streams, (streams, branch, pre, mixing))


@pytest.mark.parametrize(("n", "iterations"), [(2, 1), (4, 0), (4, 5), (8, 3)])
def test_the_sinkhorn_kernel_equals_the_reference(n, iterations):
    torch.manual_seed(0)
    options = {"iterations": iterations, "temperature": 0.7, "blend": 0.8}
    assert_kernel_matches(
        lambda logits, backend: sinkhorn(logits, **options, backend=backend), (torch.randn(70, n, n),)
    )


@pytest.mark.parametrize("width", [5, 64, 1500])
def test_the_stream_kernels_equal_the_reference(width):
    torch.manual_seed(0)
    streams, branch = torch.randn(2, 3, 4, width), torch.randn(2, 3, width)
    gates, mixing = torch.rand(2, 3, 4), torch.rand(2, 3, 4, 4)
    assert_kernel_matches(read_streams, (streams, gates))
    assert_kernel_matches(write_streams, (streams, branch, gates, mixing))


def test_the_kernels_refuse_three_streams():
    with pytest.raises(ValueError, match="n=3 streams"):
        sinkhorn(torch.randn(1, 3, 3, device=DEVICE), backend="triton")


def test_the_compiler_sees_operations():
    from rlvr_kernels.sinkhorn import triton_kernel

    leaf: dict[str, Any] = {"device": DEVICE, "requires_grad": True}
    streams, pre, mixing = torch.randn(3, 4, 8, **leaf), torch.rand(3, 4, **leaf), torch.rand(3, 4, 4, **leaf)
    torch.library.opcheck(triton_kernel.sinkhorn, (mixing, 5, 1.0, 1e-6, 1.0), test_utils=CHECKS)
    torch.library.opcheck(triton_kernel.read_streams, (streams, pre), test_utils=CHECKS)
    torch.library.opcheck(
        triton_kernel.write_streams, (streams, torch.randn(3, 8, **leaf), pre, mixing), test_utils=CHECKS
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_the_kernels_equal_the_reference_on_a_gpu(dtype, tolerance):
    torch.manual_seed(0)
    streams, branch = torch.randn(1000, 4, 2048), torch.randn(1000, 2048)
    gates, mixing = torch.rand(1000, 4), torch.rand(1000, 4, 4)
    assert_kernel_matches(sinkhorn, (torch.randn(1000, 4, 4),), tolerance, dtype)
    assert_kernel_matches(read_streams, (streams, gates), tolerance, dtype)
    assert_kernel_matches(write_streams, (streams, branch, gates, mixing), tolerance, dtype)
