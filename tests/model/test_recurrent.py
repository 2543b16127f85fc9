"""The recurrent tail against its equations written out for one head and one token at a time."""

import pytest
import torch
from torch.nn import functional

from rlvr_model import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.recurrent import RecurrentTail

LENGTH, WIDTH, HEADS, KEY, VALUE = 7, 10, 3, 4, 5


def layer():
    torch.manual_seed(0)
    config = HybridConfig(
        vocab_size=64, hidden_size=WIDTH, num_hidden_layers=2, block_pattern="AR", num_attention_heads=2,
        num_key_value_heads=1, recurrent_num_heads=HEADS, recurrent_key_dim=KEY, recurrent_value_dim=VALUE,
    )  # fmt: skip
    module = RecurrentTail(config, 1).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module


def context(mask=None, documents=None):
    positions = torch.arange(LENGTH)[None]
    return LayerContext(
        position_ids=positions, cos=torch.empty(0), sin=torch.empty(0), key_mask=mask, document_ids=documents
    )


def naive(module, x):
    """(T, d) for one document (T, d)."""
    state = torch.zeros(HEADS, KEY, VALUE, dtype=x.dtype)
    out = []
    for token in x:
        q, k, v, gate, decay = (module.in_proj.weight @ token).split(module.widths)
        forget = torch.exp(-module.A_log.exp() * functional.softplus(decay + module.dt_bias))
        reads = []
        for head in range(HEADS):
            key, query = k.view(HEADS, KEY)[head] / KEY**0.5, q.view(HEADS, KEY)[head] / KEY**0.5
            value = v.view(HEADS, VALUE)[head]
            written = torch.tanh(state[head] @ module.state_weight[head] + torch.outer(key, value))
            state[head] = forget[head] * state[head] + (1 - forget[head]) * written
            reads.append(query @ state[head] + module.D[head] * value)
        out.append(module.out_proj(module.norm(torch.cat(reads) * functional.silu(gate))))
    return torch.stack(out)


@torch.no_grad()
def test_it_is_its_equations():
    module, x = layer(), torch.randn(1, LENGTH, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(module(x, context())[0], naive(module, x[0]), rtol=0, atol=1e-12)


@torch.no_grad()
def test_padding_and_other_documents_leave_no_trace():
    module, x = layer(), torch.randn(1, LENGTH, WIDTH, dtype=torch.float64)
    alone = naive(module, x[0, 3:])
    mask = torch.arange(LENGTH)[None] >= 3
    torch.testing.assert_close(module(x, context(mask))[0, 3:], alone, rtol=0, atol=1e-12)
    documents = mask.long()
    torch.testing.assert_close(module(x, context(documents=documents))[0, 3:], alone, rtol=0, atol=1e-12)


def test_at_the_start_it_forgets_slowly_and_each_head_at_its_own_rate():
    module = layer()
    module.reset()
    kept = torch.exp(-functional.softplus(module.dt_bias))
    assert kept.tolist() == pytest.approx([0.999, 0.990, 0.905], abs=1e-3)
    assert torch.equal(module.state_weight[0].detach(), torch.eye(VALUE, dtype=torch.float64))
