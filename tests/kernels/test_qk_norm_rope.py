import pytest
import torch

from rlvr_kernels import qk_norm_rope
from tests.kernels.comparison import CHECKS, DEVICE, assert_kernel_matches


def tables(positions: torch.Tensor, pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines (B, T, pairs) of the usual frequencies."""
    angle = positions[..., None].double() * 10000 ** (-torch.arange(pairs, dtype=torch.float64) / max(pairs, 1))
    return angle.cos(), angle.sin()


def fused(q, k, cos, sin, backend):
    return qk_norm_rope(q, k, cos.detach(), sin.detach(), gain=1.2, backend=backend)


def inputs(rows=1, length=5, heads=4, kv_heads=2, width=16, pairs=8):
    torch.manual_seed(0)
    cos, sin = tables(torch.arange(length).expand(rows, length) + 3, pairs)
    return torch.randn(2, length, heads, width), torch.randn(2, length, kv_heads, width), cos.float(), sin.float()


def test_scores_depend_on_distance_alone():
    q, k = torch.randn(2, 1, 1, 8, dtype=torch.float64)
    q, k = q.expand(1, 6, 1, 8), k.expand(1, 6, 1, 8)
    q, k = qk_norm_rope(q, k, *tables(torch.arange(6)[None], 4))
    scores = (q[0, :, 0] @ k[0, :, 0].T).detach()
    for distance in range(6):
        assert scores.diagonal(-distance).std(correction=0) < 1e-13


def test_every_head_has_length_gain_times_root_of_its_width():
    q, k, cos, sin = inputs()
    for result in qk_norm_rope(q.double(), k.double(), cos.double(), sin.double(), gain=1.2, eps=0.0):
        assert torch.allclose(result.square().sum(-1).sqrt(), torch.tensor(1.2 * 16**0.5, dtype=torch.float64))


def test_a_factor_in_the_tables_would_be_lost_and_the_gain_is_not():
    q, k, cos, sin = (value.double() for value in inputs())
    plain, _ = qk_norm_rope(q, k, cos, sin, eps=0.0)
    in_tables, _ = qk_norm_rope(q, k, 1.5 * cos, 1.5 * sin, eps=0.0)
    in_gain, _ = qk_norm_rope(q, k, cos, sin, gain=1.5, eps=0.0)
    assert torch.allclose(in_tables, plain)
    assert torch.allclose(in_gain, 1.5 * plain)


def test_rotation_is_that_of_half_split_pairs():
    q, k, cos, sin = (value.double() for value in inputs(pairs=3))
    rotated, _ = qk_norm_rope(q, k, cos, sin)
    wanted = q.clone()
    for i in range(3):
        first, second, c, s = q[..., i], q[..., i + 3], cos[..., i, None], sin[..., i, None]
        wanted[..., i], wanted[..., i + 3] = first * c - second * s, first * s + second * c
    wanted = wanted / (wanted.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(rotated, wanted, atol=1e-14)


def test_the_reference_has_the_right_gradient():
    q, k, cos, sin = (value.double() for value in inputs(length=2, width=4, pairs=2))
    assert torch.autograd.gradcheck(
        lambda q, k: qk_norm_rope(q, k, cos, sin, gain=1.2), (q.requires_grad_(), k.requires_grad_())
    )


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"rows": 2, "length": 9},
        {"pairs": 3},
        {"width": 24, "pairs": 12, "heads": 3, "kv_heads": 1},
        {"pairs": 0},
    ],
    ids=["one table", "a table per row", "part of the width", "no power of two", "no rotation"],
)
def test_the_kernel_equals_the_reference(shape):
    q, k, cos, sin = inputs(**shape)
    assert_kernel_matches(lambda q, k, backend: fused(q, k, cos.to(q), sin.to(q), backend), (q, k))


def test_the_kernel_norms_what_was_rotated_whatever_the_length_of_the_tables():
    q, k, cos, sin = inputs()
    tables = (1.5 * cos, (0.7 * sin))
    assert_kernel_matches(lambda q, k, backend: fused(q, k, *(table.to(q) for table in tables), backend), (q, k))


def test_the_compiler_sees_one_operation():
    from rlvr_kernels.qk_norm_rope import triton_kernel

    q, _, cos, sin = (value.to(DEVICE) for value in inputs())
    torch.library.opcheck(triton_kernel.norm_rope, (q.requires_grad_(), cos, sin, 1.2, 1e-6), test_utils=CHECKS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_the_kernel_equals_the_reference_on_a_gpu(dtype, tolerance):
    q, k, cos, sin = inputs(length=1000, heads=16, kv_heads=4, width=128, pairs=64)
    operation = lambda q, k, backend: fused(q, k, cos.to(q.device), sin.to(q.device), backend)  # noqa: E731
    assert_kernel_matches(operation, (q, k), tolerance, dtype)
