"""Attention: grouped heads, rotary positions and the norm after them, windows, caps, YaRN and layers without positions."""

import math

import pytest
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rlvr_model import HybridConfig, HybridModel
from rlvr_model.attention import Attention
from rlvr_model.layers import RotaryEmbedding

BATCH, LENGTH = 2, 12


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def config(**settings):
    shape = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    small = {"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64, "sliding_window": 4}
    return HybridConfig(**(shape | small | {"attn_implementation": "eager"} | settings))


def attention(layer=1, **settings):
    """A layer, a base model that makes contexts for it, and hidden states, in float64."""
    model = HybridModel(config(**settings)).double().eval()
    module = model.layers[layer].branches[0].mixer
    return module, model, torch.randn(BATCH, LENGTH, 32, dtype=torch.float64)


def attend(module, model, hidden_states, positions=None):
    context = model.context(hidden_states, None, positions, None, None)
    return module(hidden_states, context)


def test_grouped_heads_are_full_attention_with_repeated_keys_and_values():
    grouped, model, x = attention()
    full, wide, _ = attention(num_key_value_heads=4)
    full.load_state_dict(grouped.state_dict() | {
        name: grouped.state_dict()[name].view(2, 8, 32).repeat_interleave(2, dim=0).flatten(0, 1)
        for name in ("k_proj.weight", "v_proj.weight")
    })  # fmt: skip
    torch.testing.assert_close(attend(grouped, model, x), attend(full, wide, x), rtol=0, atol=1e-12)


def test_scores_depend_on_distances_only():
    module, model, x = attention()
    positions = torch.arange(LENGTH)[None]
    torch.testing.assert_close(
        attend(module, model, x, positions), attend(module, model, x, positions + 17), rtol=0, atol=1e-6
    )


def test_logits_stay_below_their_bound_whatever_the_input():
    module, model, x = attention(qk_norm_gain=1.2)
    queries, keys, _ = module.project(1000 * x, model.context(x, None, None, None, None))
    bound = 1.2**2 * math.sqrt(8)
    largest = (queries @ keys.repeat_interleave(2, dim=1).transpose(2, 3) * module.scaling).abs().max()
    assert 0.5 * bound < largest <= bound * (1 + 1e-6)


def test_a_short_window_is_full_attention_within_a_band():
    short, model, x = attention(layer=0, window_pattern="S")
    assert short.sliding_window == 4
    context = model.context(x, None, None, None, None)
    queries, keys, values = short.project(x, context)
    distance = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    band = ((distance >= 0) & (distance < 4)).expand(BATCH, 1, -1, -1)
    dense = short.attend(queries, keys, values, band, context)
    torch.testing.assert_close(attend(short, model, x), dense, rtol=0, atol=1e-12)


def test_what_left_the_window_changes_nothing():
    short, model, x = attention(layer=0, window_pattern="S")
    changed = x.clone()
    changed[:, 5] += 1
    moved = (attend(short, model, x) - attend(short, model, changed)).abs().amax(dim=(0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [5, 6, 7, 8]


def test_the_last_attention_layer_sees_everything():
    assert config(window_pattern="S", num_hidden_layers=3).short_layers == [0, 1]
    assert config(window_pattern="SSSL", block_pattern="AM", num_hidden_layers=6).short_layers == [0, 2]


@pytest.mark.parametrize("window_pattern", ["L", "S"])
def test_the_written_out_attention_is_that_of_torch(window_pattern):
    module, model, x = attention(layer=0, window_pattern=window_pattern)
    written_out = attend(module, model, x)
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(attend(module, model, x), written_out, rtol=0, atol=1e-12)


def test_a_cap_is_a_tanh_on_the_logits_before_the_mask():
    module, model, x = attention(attn_logit_softcapping=0.5, qk_norm=False)
    context = model.context(3 * x, None, None, None, None)
    queries, keys, values = module.project(3 * x, context)
    keys, values = (y.repeat_interleave(2, dim=1) for y in (keys, values))
    scores = 0.5 * torch.tanh(queries @ keys.transpose(2, 3) * module.scaling / 0.5)
    future = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ values
    expected = module.o_proj(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attend(module, model, 3 * x), expected, rtol=0, atol=1e-12)


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize("theta", [1e4, 5e5])
@pytest.mark.parametrize("beta_fast", [32.0, 8.0])
def test_yarn_turns_as_transformers_has_it(theta, beta_fast):
    settings = config(rope_parameters={**YARN, "rope_theta": theta, "beta_fast": beta_fast})
    expected, factor = ROPE_INIT_FUNCTIONS["yarn"](settings, None)
    rotary = RotaryEmbedding(settings)
    assert torch.equal(rotary.inv_freq, expected)
    assert rotary.attention_factor == factor == pytest.approx(0.1 * math.log(4.0) + 1)


def test_yarn_scales_the_logits_although_a_norm_follows_the_rotation():
    plain, stretched = attention()[0], attention(rope_parameters=dict(YARN))[0]
    assert stretched.scaling / plain.scaling == pytest.approx((0.1 * math.log(4.0) + 1) ** 2)


def test_yarn_by_a_factor_of_one_is_nothing():
    module, model, x = attention(rope_theta=1e4)
    same = HybridModel(config(rope_parameters={**YARN, "factor": 1.0})).double().eval()
    same.load_state_dict(model.state_dict())
    again = same.layers[1].branches[0].mixer
    torch.testing.assert_close(attend(again, same, x), attend(module, model, x), rtol=0, atol=1e-12)


def test_without_positions_a_query_knows_neither_where_it_is_nor_the_order_of_its_past():
    module, model, x = attention(nope_layers=[1])
    assert isinstance(module, Attention)
    out = attend(module, model, x)
    positions = torch.arange(LENGTH)[None].flip(1)
    context = model.context(x, torch.ones(BATCH, LENGTH), positions, None, None)
    torch.testing.assert_close(module(x, context), out, rtol=0, atol=1e-12)
    shuffled = torch.cat([x[:, :-1].flip(1), x[:, -1:]], dim=1)
    torch.testing.assert_close(attend(module, model, shuffled)[:, -1], out[:, -1], rtol=0, atol=1e-12)
