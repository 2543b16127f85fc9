"""Inputs that are pieces of larger tensors, transposed or broadcast: kernels give what contiguous copies give."""

import pytest
import torch

from rlvr_kernels import engram, rms_norm
from rlvr_kernels.block_sparse_attention import block_sparse_attention
from tests.kernels.comparison import outputs_and_gradients

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")


def split(batch, heads, length, width):
    """Queries, keys and values as one projection gives them."""
    together = torch.randn(batch, length, 3 * heads * width)
    return [part.unflatten(2, (-1, width)).transpose(1, 2) for part in together.chunk(3, dim=2)]


def sliced(batch, heads, length, width):
    """Pieces of a cache with room for more."""
    return [torch.randn(batch, heads, 3 * length, width)[:, :, :length] for _ in range(3)]


def broadcast(batch, heads, length, width):
    """One key and value head that stands for all."""
    rows = [torch.randn(batch, 1, length, width).expand(-1, heads, -1, -1) for _ in range(2)]
    return [torch.randn(batch, heads, length, width), *rows]


@pytest.mark.parametrize("layout", [split, sliced, broadcast])
def test_attention_takes_queries_keys_and_values_as_they_lie(layout):
    torch.manual_seed(0)
    given = layout(2, 2, 20, 16)
    blocks = torch.tensor([[0, 1], [2, 0]])[None, None].expand(2, 2, -1, -1)

    def attend(*tensors):
        return block_sparse_attention(*tensors, blocks, block_size=8, backend="triton")

    leaves = [tensor.detach().requires_grad_() for tensor in given]
    out = attend(*leaves)
    upstream = torch.randn(out.shape)
    found = torch.autograd.grad(out, leaves, upstream)
    copies = [tensor.contiguous().requires_grad_() for tensor in given]
    expected = attend(*copies)
    torch.testing.assert_close(out, expected)
    for gradient, wanted in zip(found, torch.autograd.grad(expected, copies, upstream), strict=True):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("weight", [torch.full((1,), 2.0).expand(16), torch.randn(32)[::2], torch.randn(16, 3)[:, 1]])
def test_a_norm_takes_any_weight(weight):
    x = torch.randn(5, 16)
    found = outputs_and_gradients(lambda x: rms_norm(x, weight, backend="triton"), [x])
    expected = outputs_and_gradients(lambda x: rms_norm(x, weight, backend="reference"), [x])
    torch.testing.assert_close(found, expected)


def test_a_memory_takes_any_multipliers_and_integers():
    ids, table = torch.randint(0, 100, (2, 9)), torch.randn(30, 4)
    multipliers, sizes = torch.tensor([2**40 + 1, 0, 2**41 + 1, 0])[::2], torch.tensor([[11], [19]])[:1]

    def read(ids, backend):
        return engram(ids, table, multipliers, sizes, orders=(2,), pad_id=100, backend=backend)

    expected = read(ids, "reference")
    assert all(torch.equal(read(given, "triton"), expected) for given in (ids, ids.int()))
    assert torch.equal(read(ids.int(), "reference"), expected)
