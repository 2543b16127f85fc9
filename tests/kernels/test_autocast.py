"""Autocast narrows the products of layers, and not those whose sums are float32 for a reason."""

import pytest
import torch

from rlvr_kernels import Mamba3State, Mamba3Weights, mamba3, mamba3_step, write_streams
from rlvr_kernels.block_sparse_attention import select_blocks
from rlvr_kernels.indexer import reference as indexer


def scan(x):
    rows, length, heads, width, columns = 2, 9, 2, 16, 32
    token = x.new_full((rows, length, heads), 0.3)
    b = x.new_ones(rows, length, 1, 1, columns) * x[:, :, :1, :1, None]
    weights = Mamba3Weights(x.new_ones(heads, 1, columns), x.new_ones(heads, 1, columns), x.new_ones(heads))
    zeros = [x.new_zeros(rows, *shape) for shape in ((heads, width, columns), (heads, 4), (1, heads, columns))]
    state = Mamba3State(*zeros, x[:, 0])
    whole = mamba3(x, None, b, b, token, -token, token, x.new_ones(rows, length, 4), weights, state=state)
    tokens = (b[:, 0], b[:, 0], token[:, 0], -token[:, 0], token[:, 0], x.new_ones(rows, 4))
    return whole, mamba3_step(x[:, 0], None, *tokens, weights, state)


OPERATIONS = {
    "scan and step": scan,
    "write_streams": lambda x: write_streams(x, x[..., 0, :], x[..., 0], x[..., :2, :2]),
    "indexer": lambda x: indexer.scores(x, x[:, :, 0], x[..., 0]),
    "blocks": lambda x: select_blocks(x.transpose(1, 2), x.transpose(1, 2), top_n=4, block_size=2),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_sums_are_float32_under_autocast(name):
    torch.manual_seed(0)
    x = torch.randn(2, 200 if name == "blocks" else 9, 2, 16)
    expected = OPERATIONS[name](x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(OPERATIONS[name](x), expected, rtol=0, atol=0)


def test_what_a_layer_stores_in_bfloat16_may_be_mixed_in_bfloat16():
    streams, mixing = torch.randn(3, 4, 8).bfloat16(), torch.rand(3, 4, 4).bfloat16()
    out = write_streams(streams, streams[:, 0], torch.zeros(3, 4), mixing)
    torch.testing.assert_close(out, (mixing.float().mT @ streams.float()).bfloat16())
