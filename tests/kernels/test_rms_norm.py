import pytest
import torch

from rlvr_kernels import rms_norm
from tests.kernels.comparison import CHECKS, DEVICE, assert_kernel_matches


def normed(x, weight, backend):
    return rms_norm(x, weight, 1e-6, backend=backend)


def test_a_row_has_mean_square_one():
    y = rms_norm(torch.randn(3, 5, 48, dtype=torch.float64) * 7, eps=0.0)
    assert torch.allclose(y.square().mean(-1), torch.ones(3, 5, dtype=torch.float64), atol=1e-14)


def test_the_reference_equals_torch():
    x, weight = torch.randn(4, 24, dtype=torch.float64), torch.randn(24, dtype=torch.float64)
    assert torch.allclose(rms_norm(x, weight), torch.nn.functional.rms_norm(x, (24,), weight, 1e-6), atol=1e-14)


def test_the_reference_has_the_right_gradient():
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rms_norm, (x, weight))


def test_statistics_are_float32_in_bfloat16():
    x = torch.randn(2, 512).bfloat16()
    assert rms_norm(x).dtype == torch.bfloat16
    assert torch.equal(rms_norm(x), rms_norm(x.float()).bfloat16())


@pytest.mark.parametrize("width", [5, 64, 100])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_kernel_equals_the_reference(width, weighted):
    torch.manual_seed(0)
    assert_kernel_matches(normed, (torch.randn(2, 37, width), torch.randn(width) if weighted else None))


def test_more_rows_than_one_tile_share_the_gradient_of_the_weight():
    torch.manual_seed(0)
    assert_kernel_matches(normed, (torch.randn(3 * 64 + 5, 64), torch.randn(64)))


def test_the_compiler_sees_one_operation():
    x = torch.randn(4, 64, device=DEVICE, requires_grad=True)
    from rlvr_kernels.rms_norm import triton_kernel

    torch.library.opcheck(triton_kernel.rms_norm, (x, torch.randn(64, device=DEVICE), 1e-6), test_utils=CHECKS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("width", [64, 128, 1024, 2048, 5000])
def test_the_kernel_equals_the_reference_on_a_gpu(width, dtype, tolerance):
    torch.manual_seed(0)
    assert_kernel_matches(normed, (torch.randn(2, 1000, width), torch.randn(width)), tolerance, dtype)
