"""Sparse attention against a loop over queries; what its two losses reach; its two training stages."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import DynamicCache

from rlvr_model import sparse_attention
from rlvr_model.attention import Attention
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.dsa_training import DSATrainingStageManager, apply_dsa_stage1_freeze, apply_dsa_stage2_unfreeze
from rlvr_model.layers import rotary_frequencies, rotary_table, rotate
from rlvr_model.sparse_attention import SPARSE_ATTENTION, TokenSparseAttention

WIDTH, BATCH, LENGTH, LAYER, WINDOW = 16, 2, 21, 0, 3
TOKEN, BLOCK = {"dsa_variant": "token"}, {"dsa_variant": "block"}
both = pytest.mark.parametrize("settings", [TOKEN, BLOCK], ids=["token", "block"])


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def config(**settings):
    sizes = {
        "dsa_start_layer": LAYER, "dsa_local_window": WINDOW, "dsa_indexer_heads": 3, "dsa_indexer_dim": 6,
        "dsa_indexer_rope_dim": 4, "dsa_block_size": 4, "dsa_top_n": 3, "qk_norm_gain": 1.2,
    }  # fmt: skip
    made = HybridConfig(
        hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        vocab_size=8, dsa_enabled=True, **(sizes | settings),
    )  # fmt: skip
    made._attn_implementation = "eager"
    return made


def attention(**settings):
    made = config(**settings)
    return SPARSE_ATTENTION[made.dsa_variant](made, LAYER)


def context(module, batch=BATCH, length=LENGTH, *, past=0, positions=None, **fields):
    if positions is None:
        positions = torch.arange(past, past + length).expand(batch, -1)
    cos, sin = rotary_table(positions, rotary_frequencies(module.config)[0], torch.float64)
    return LayerContext(position_ids=positions, cos=cos, sin=sin, past_length=past, **fields)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def chosen_tokens(module, row):
    """For each token of one document (T, d) the tokens it keeps, by sorting scores and places."""
    settings, indexer = module.config, module.indexer
    heads, width, turned = settings.dsa_indexer_heads, settings.dsa_indexer_dim, settings.dsa_indexer_rope_dim
    frequencies = 1 / settings.rope_theta ** (torch.arange(0, turned, 2) / turned)
    tables = rotary_table(torch.arange(len(row))[None], frequencies, torch.float64)
    q = indexer.q_proj(row).view(1, len(row), heads, width)
    k = functional.layer_norm(indexer.k_proj(row), (width,), indexer.k_norm.weight, indexer.k_norm.bias)[None, :, None]
    q, k = (torch.cat([rotate(x[..., :turned], *tables), x[..., turned:]], dim=-1) for x in (q, k))
    scores = torch.einsum("th,ths->ts", indexer.w_proj(row), torch.einsum("thd,sd->ths", q[0], k[0, :, 0]).relu())
    kept, order = [], scores.detach()
    for t in range(len(row)):
        number = min(t + 1, max(WINDOW, math.ceil(settings.dsa_top_k_ratio * (t + 1))))
        recent = list(range(max(0, t + 1 - WINDOW), t + 1))
        rest = sorted(range(recent[0]), key=lambda s: (order[t, s].item(), s), reverse=True)
        kept.append(sorted(recent + rest[: number - len(recent)]))
    return kept, scores * (heads * width) ** -0.5


def chosen_blocks(module, row):
    """The same for blocks: forced ones, then the best shares of attention to mean keys, summed over a group's heads."""
    settings = module.config
    q, k, _ = module.project(row[None], context(module, 1, len(row)))
    size = settings.dsa_block_size
    kept: list[Any] = []
    for t in range(len(row)):
        own = t // size
        forced = set(range(max(0, t + 1 - WINDOW) // size, own + 1))
        kept.append([])
        for head in range(settings.num_key_value_heads):
            shares = torch.zeros(own)
            if own:
                means = torch.stack([k[0, head, b * size : (b + 1) * size].mean(0) for b in range(own)])
                for member in (2 * head, 2 * head + 1):
                    shares += (means @ q[0, member, t] * module.scaling).softmax(0)
            rest = sorted(set(range(own)) - forced, key=lambda b: (shares[b].item(), b), reverse=True)
            blocks = list(forced) + rest[: settings.dsa_top_n - len(forced)]
            kept[-1].append([s for s in range(t + 1) if s // size in blocks])
    return kept


def naive(module, row):
    """The layer on one document (T, d), each query over the keys it keeps."""
    q, k, v = module.project(row[None], context(module, 1, len(row)))
    if isinstance(module, TokenSparseAttention):
        kept = [[tokens] * 2 for tokens in chosen_tokens(module, row)[0]]
    else:
        kept = chosen_blocks(module, row)
    mixed = torch.empty(len(row), 4, 8)
    for t, of_head in enumerate(kept):
        for head in range(4):
            places = of_head[head // 2]
            weights = (k[0, head // 2, places] @ q[0, head, t] * module.scaling).softmax(0)
            mixed[t, head] = weights @ v[0, head // 2, places]
    return module.o_proj(mixed.flatten(1))


@torch.no_grad()
def cached(module, x, cuts, mask=None, positions=None):
    cache, parts = DynamicCache(config=module.config), []
    for start, end in pairwise(cuts):
        keys = None if mask is None else mask[:, :end]
        places = None if positions is None else positions[:, start:end]
        fields = {"past": start, "positions": places, "past_key_values": cache, "key_mask": keys}
        parts.append(module(x[:, start:end], context(module, length=end - start, **fields)))
    return torch.cat(parts, dim=1)


@torch.no_grad()
@both
def test_the_layer_is_the_loop_in_one_pass_and_cached(settings):
    module, x = attention(**settings), torch.randn(BATCH, LENGTH, WIDTH)
    expected = torch.stack([naive(module, row) for row in x])
    close(module(x, context(module)), expected)
    assert (module(x, context(module, dsa_stage="warmup")) - expected).abs().max() > 1e-3
    for cuts in (range(LENGTH + 1), [0, 5, 6, LENGTH]):
        close(cached(module, x, list(cuts)), expected)


@torch.no_grad()
@both
def test_packing_and_padding_change_no_choice(settings):
    module, x, pads = attention(**settings), torch.randn(BATCH, LENGTH, WIDTH), [6, 0]
    mask = torch.arange(LENGTH) >= torch.tensor(pads)[:, None]
    places = (mask.cumsum(1) - 1).clamp(min=0)
    whole = module(x, context(module, key_mask=mask, positions=places))
    in_parts = cached(module, x, [0, 2, 9, *range(10, LENGTH + 1)], mask, places)
    for row, pad in enumerate(pads):
        for y in (whole, in_parts):
            close(y[row, pad:], naive(module, x[row, pad:]))
    lengths = torch.tensor([2, 13, 6])
    documents = torch.arange(3).repeat_interleave(lengths)[None]
    places = torch.cat([torch.arange(int(n)) for n in lengths])[None]
    y = module(x[:1], context(module, document_ids=documents, positions=places))
    for start, end in ((0, 2), (2, 15), (15, LENGTH)):
        close(y[0, start:end], naive(module, x[0, start:end]))


@torch.no_grad()
def test_of_equal_scores_the_later_token_is_kept():
    module, x = attention(), torch.randn(1, LENGTH, WIDTH)
    module.indexer.w_proj.weight.zero_()
    seen = module.selected(module.indexer(x, context(module, 1)), None)
    kept = [(row.nonzero().flatten()).tolist() for row in seen[0]]
    numbers = [min(t + 1, max(WINDOW, math.ceil((t + 1) / 2))) for t in range(LENGTH)]
    assert kept == [list(range(t + 1 - number, t + 1)) for t, number in enumerate(numbers)]


@torch.no_grad()
@pytest.mark.parametrize(
    "settings", [TOKEN | {"dsa_top_k_ratio": 1.0}, TOKEN | {"dsa_top_k": 99}, BLOCK | {"dsa_top_n": 99}]
)
def test_keeping_everything_is_dense_attention_and_so_is_the_warm_up(settings):
    module, x = attention(**settings), torch.randn(BATCH, LENGTH, WIDTH)
    dense = Attention(module.config, LAYER)
    dense.load_state_dict(module.state_dict(), strict=False)
    expected = dense(x, context(module, masks={"full": None}))
    close(module(x, context(module)), expected)
    close(module(x, context(module, dsa_stage="warmup")), expected)


@torch.no_grad()
@both
@pytest.mark.parametrize("training", [True, False])
def test_the_future_is_not_seen(settings, training):
    module, x = attention(**settings).train(training), torch.randn(1, LENGTH, WIDTH)
    other = torch.cat([x[:, :10], torch.randn(1, LENGTH - 10, WIDTH)], dim=1)
    close(module(x, context(module, 1))[:, :10], module(other, context(module, 1))[:, :10])


@pytest.mark.parametrize("stage", ["warmup", "sparse"])
def test_each_loss_reaches_its_own_parameters_alone(stage):
    module, x = attention(), torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    seen = context(module, dsa_stage=stage)
    module(x, seen).square().sum().backward()
    assert x.grad.any()
    indexer = [name for name, _ in module.named_parameters() if name.startswith("indexer.")]
    assert {name for name, p in module.named_parameters() if p.grad is None} == set(indexer)
    x.grad = None
    module.zero_grad()
    seen.losses["dsa_kl"][0].backward()
    assert x.grad is None
    assert {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()} == set(indexer)


@pytest.mark.parametrize("stage", ["warmup", "sparse"])
@pytest.mark.parametrize("settings", [{}, {"attn_logit_softcapping": 2.0}])
def test_the_indexers_loss_is_the_divergence_from_the_attention_it_predicts(stage, settings, monkeypatch):
    monkeypatch.setattr(sparse_attention, "QUERY_CHUNK", 8)
    module, x = attention(dsa_kl_weight=0.5, **settings), torch.randn(BATCH, LENGTH, WIDTH)
    pads, expected = [4, 0], []
    mask = torch.arange(LENGTH) >= torch.tensor(pads)[:, None]
    for row, pad in zip(x, pads, strict=True):
        row = row[pad:]
        q, k, _ = module.project(row[None], context(module, 1, len(row)))
        kept, scores = chosen_tokens(module, row)
        for t in range(len(row)):
            places = list(range(t + 1)) if stage == "warmup" else kept[t]
            logits = torch.stack([k[0, head // 2, places] @ q[0, head, t] * module.scaling for head in range(4)])
            if settings:
                logits = 2.0 * torch.tanh(logits / 2.0)
            target = logits.softmax(-1).mean(0)
            expected.append((target * (target.log() - scores[t, places].log_softmax(0))).sum())
    loss = 0.5 * torch.stack(expected).mean()
    parameters = list(module.indexer.parameters())
    places = (mask.cumsum(1) - 1).clamp(min=0)
    seen = context(module, key_mask=mask, positions=places, dsa_stage=stage)
    module(x, seen)
    close(seen.losses["dsa_kl"][0], loss)
    wanted = torch.autograd.grad(loss, parameters)
    for got, want in zip(torch.autograd.grad(seen.losses["dsa_kl"][0], parameters), wanted, strict=True):
        close(got, want)


def test_no_loss_where_the_indexer_does_not_learn():
    module, x = attention(), torch.randn(BATCH, LENGTH, WIDTH)
    seen = context(module)
    module.eval()(x, seen)
    module.train().indexer.requires_grad_(False)
    module(x, seen)
    with torch.no_grad():
        module.requires_grad_(True)(x, seen)
    assert not seen.losses


def test_warming_up_teaches_the_indexer_where_attention_looks():
    module, x = attention(dsa_kl_weight=1.0, qk_norm_gain=2.0), torch.randn(4, LENGTH, WIDTH)
    queries, keys, _ = module.project(x, context(module, 4))
    dense = sparse_attention._mean_attention(
        queries.detach(), keys.detach(), torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()[None], module.scaling, None
    )

    def recall():
        return float((dense * module.selected(module.indexer(x, context(module, 4)), None)).sum(-1).mean())

    before, losses = recall(), []
    optimizer = torch.optim.Adam(module.indexer.parameters(), lr=0.02)
    for _ in range(60):
        seen = context(module, 4, dsa_stage="warmup")
        module(x, seen)
        optimizer.zero_grad()
        seen.losses["dsa_kl"][0].backward()
        optimizer.step()
        losses.append(float(seen.losses["dsa_kl"][0].detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert recall() > before + 0.02


def test_an_indexer_without_positions_ignores_them():
    module, x = attention(nope_layers=[LAYER]), torch.randn(1, LENGTH, WIDTH)
    index = module.indexer(x, context(module, 1))
    shuffled = module.indexer(x, context(module, 1, positions=torch.randperm(LENGTH)[None]))
    assert all(torch.equal(a, b) for a, b in zip(index, shuffled, strict=True))


class Model(torch.nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.layer = attention(**settings)
        self.config = self.layer.config
        self.layer.v_proj.weight.requires_grad_(False)

    def trainable(self):
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}


def test_the_stages_freeze_and_free_what_they_should():
    model = Model()
    start = model.trainable()
    frozen = apply_dsa_stage1_freeze(model)
    indexer = {"layer.indexer." + name for name, _ in model.layer.indexer.named_parameters()}
    assert model.trainable() == indexer == start - set(frozen)
    assert model.config.dsa_stage == "warmup"
    apply_dsa_stage2_unfreeze(model, frozen)
    assert model.trainable() == start
    assert model.config.dsa_stage == "sparse"
    apply_dsa_stage2_unfreeze(model)
    assert "layer.v_proj.weight" in model.trainable()
    with pytest.raises(ValueError, match="no indexer"):
        apply_dsa_stage1_freeze(Model(dsa_variant="block"))


def test_the_manager_takes_a_model_through_both_stages_and_resumes_in_either():
    model = Model()
    start, manager = model.trainable(), DSATrainingStageManager(model, warmup_steps=2)
    seen = [(manager.at_step(step), len(model.trainable()), manager.learning_rate(step, 3e-5)) for step in range(4)]
    assert seen == [("warmup", 5, 1e-3)] * 2 + [("sparse", len(start), 3e-5)] * 2
    assert model.trainable() == start
    resumed = Model(dsa_stage="warmup")
    assert DSATrainingStageManager(resumed, 2).at_step(7) == resumed.config.dsa_stage == "sparse"
    assert resumed.trainable() == start
    assert DSATrainingStageManager(resumed, 9).at_step(7) == resumed.config.dsa_stage == "warmup"
