"""The whole model: no look ahead, and the same function cached, padded, packed and alone, for every mechanism."""

import math
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from rlvr_model import HybridForCausalLM
from rlvr_model.presets import load_preset, preset_names

BATCH, LENGTH, WINDOW, PAD = 2, 24, 6, 2
BLOCKS = {"dsa_variant": "block", "dsa_block_size": 8, "dsa_top_n": 3, "engram_layers": [0]}
MATRIX: dict[str, Any] = {
    **{name: (name, {}) for name in preset_names() if name.endswith("_tiny")},
    "blocks": ("everything_tiny", BLOCKS),
    "dense_warmup": ("everything_tiny", {"dsa_stage": "warmup"}),
    "fixed_top_k": ("everything_tiny", {"dsa_top_k": 12}),
    "host_tables": ("everything_tiny", {"engram_offload": True, "engram_domains": 3}),
    "caps_and_no_norm": (
        "dense_d16_tiny",
        {"attn_logit_softcapping": 5.0, "qk_norm": False, "attn_implementation": "eager", "nope_layers": [3]},
    ),
    "experts_as_linear_layers": ("specialist_tiny", {"experts_layout": "linear"}),
    "padded_experts": ("moe_e06_tiny", {"moe_dispatch": "padded", "router_bias_update_rate": 0.01}),
    "tiles_of_experts": ("specialist_tiny", {"moe_dispatch": "block_sparse"}),
    "untied_without_cap": ("nam52_tiny", {"tie_word_embeddings": False, "final_logit_softcapping": None}),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def build(cell, dtype=torch.float64):
    """A model of the matrix in which every branch matters, also those that begin at zero."""
    name, changes = MATRIX[cell]
    model = HybridForCausalLM(load_preset(name, sliding_window=WINDOW, **changes)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def tokens(batch=BATCH, length=LENGTH):
    return torch.randint(3, 512, (batch, length))


@pytest.fixture(params=MATRIX)
def model(request):
    return build(request.param)


@pytest.mark.parametrize("training", [False, True])
def test_no_logit_moves_when_later_tokens_change(model, training):
    model.train(training)
    ids = tokens()
    changed = ids.clone()
    changed[:, 15:] = (ids[:, 15:] + 7) % 509 + 3
    with torch.no_grad():
        before, after = model(ids).logits, model(changed).logits
    assert torch.equal(before[:, :15], after[:, :15]) or (before - after)[:, :15].abs().max() < 1e-12
    assert (before - after)[:, 15:].abs().amax(dim=-1).min() > 1e-6


@torch.no_grad()
def test_decoding_with_a_cache_is_the_full_pass(model):
    ids = tokens()
    full = model(ids, use_cache=False).logits
    for splits in ([1] * 4 + [20], [2, 12] + [1] * 10):
        cache = DynamicCache(config=model.config)
        parts = [model(part, cache=cache).logits for part in ids.split(splits, dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=0, atol=1e-10)
        assert cache.get_seq_length() == LENGTH


@torch.no_grad()
def test_padding_on_the_left_or_right_changes_nothing(model):
    ids = tokens()
    full = model(ids).logits
    left = torch.cat([torch.full((BATCH, 9), PAD), ids], dim=1)
    mask = (torch.arange(left.shape[1]) >= 9).expand_as(left).long()
    torch.testing.assert_close(model(left, attention_mask=mask).logits[:, 9:], full, rtol=0, atol=1e-10)
    cache = DynamicCache(config=model.config)
    parts = [
        model(left[:, a:b], attention_mask=mask[:, :b], cache=cache).logits for a, b in ((0, 5), (5, 20), (20, 33))
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1)[:, 9:], full, rtol=0, atol=1e-10)
    right = torch.cat([ids, torch.full((BATCH, 9), PAD)], dim=1)
    torch.testing.assert_close(model(right, attention_mask=mask.flip(1)).logits[:, :-9], full, rtol=0, atol=1e-10)


@torch.no_grad()
def test_a_document_in_a_packed_row_is_the_document_alone(model):
    ids = tokens()
    documents = torch.tensor([[4] * 9 + [7] * 3 + [5] * 12, [0] * 10 + [1] * 13 + [2]])
    positions = torch.stack([
        torch.cat([torch.arange(n) for n in lengths]) for lengths in ([9, 3, 12], [10, 13, 1])
    ])  # fmt: skip
    packed = model(ids, document_ids=documents).logits
    torch.testing.assert_close(model(ids, position_ids=positions).logits, packed, rtol=0, atol=0)
    for row, lengths in enumerate(([9, 3, 12], [10, 13, 1])):
        for document, together in zip(ids[row].split(lengths), packed[row].split(lengths), strict=True):
            torch.testing.assert_close(model(document[None]).logits[0], together, rtol=0, atol=1e-10)


def test_in_float32_the_same_holds_to_its_precision():
    model = build("everything_tiny", torch.float32)
    ids = tokens()
    with torch.no_grad():
        full = model(ids, use_cache=False).logits
        cache = DynamicCache(config=model.config)
        parts = [model(part, cache=cache).logits for part in ids.split(1, dim=1)]
        padded = torch.cat([torch.full((BATCH, 9), PAD), ids], dim=1)
        left = model(padded, attention_mask=(torch.arange(33) >= 9).expand(BATCH, -1).long()).logits[:, 9:]
    torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=0, atol=1e-4)
    torch.testing.assert_close(left, full, rtol=0, atol=1e-4)


class EveryOther(torch.nn.Module):
    """A wrapper as depth ablations put around branches: odd positions skip what it wraps."""

    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, hidden_states, context):
        taken = (context.position_ids % 2 == 0)[..., None]
        return torch.where(taken, self.branch(hidden_states, context), 0.0)


@torch.no_grad()
def test_what_skips_tokens_wraps_any_branch():
    model = build("everything_tiny", torch.float64)
    ids = tokens()
    before = model(ids).logits
    for block in model.model.layers:
        block.branches = torch.nn.ModuleList(map(EveryOther, block.branches))
    full = model(ids, use_cache=False).logits
    assert (full - before).abs().max() > 1e-3
    cache = DynamicCache(config=model.config)
    parts = [model(part, cache=cache).logits for part in ids.split([5, 1, 1, 17], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=0, atol=1e-10)


def test_the_loss_at_the_start_is_that_of_guessing():
    for name in ("dense_d16_tiny", "everything_tiny", "specialist_tiny"):
        model = HybridForCausalLM(load_preset(name)).eval()
        ids = tokens(4, 128)
        assert model(ids, labels=ids).loss.item() == pytest.approx(math.log(512), abs=0.05)


@pytest.mark.parametrize("cell", ["everything_tiny", "blocks", "nam56r_tiny"])
def test_after_a_step_every_parameter_has_a_gradient(cell):
    name, changes = MATRIX[cell]
    model = HybridForCausalLM(load_preset(name, **changes)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):  # what begins at zero passes nothing on in the first steps
        ids = tokens(4, 64)
        optimizer.zero_grad(set_to_none=True)
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


def test_neutral_residual_scalars_are_no_scalars():
    model = HybridForCausalLM(load_preset("dense_d16_tiny")).eval()
    plain = HybridForCausalLM(load_preset("dense_d16_tiny", residual_scalars=False)).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    ids = tokens()
    assert torch.equal(model(ids).logits, plain(ids).logits)
    with torch.no_grad():
        model.model.x0_lambdas[2] = 0.5
    assert not torch.equal(model(ids).logits, plain(ids).logits)


class Gated(torch.nn.Module):
    """What a mechanism that skips tokens looks like: a branch, let through for some of them."""

    def __init__(self, branch, passed):
        super().__init__()
        self.branch, self.passed = branch, passed

    def forward(self, hidden_states, context):
        return self.branch(hidden_states, context) * self.passed(context)[..., None]


@torch.no_grad()
@pytest.mark.parametrize("cell", ["everything_tiny", "nam56r_tiny"])
def test_a_wrapper_around_every_branch_needs_no_change_to_a_mixer(cell):
    model, ids = build(cell), tokens()
    full = model(ids).logits
    for block in model.model.layers:
        block.branches = torch.nn.ModuleList(
            Gated(b, lambda c: torch.ones_like(c.position_ids)) for b in block.branches
        )
    assert torch.equal(model(ids).logits, full)
    for module in model.modules():
        if isinstance(module, Gated):
            module.passed = lambda context: context.position_ids % 2 == 0
    moved = (model(ids).logits - full).abs().amax(dim=-1)
    assert moved[:, 1:].min() > 0


def test_recomputed_blocks_give_the_same_gradients():
    model = build("everything_tiny").train()
    ids = tokens()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        model.activation_checkpointing_enable()
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_loss_without_logits_is_the_loss_with_them():
    model = build("specialist_tiny").train()
    ids = tokens()
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.3, -100)
    for count in (None, 77):
        extra = {} if count is None else {"num_items_in_batch": count}
        with_logits = model(ids, labels=labels, **extra)
        without = model(ids, labels=labels, skip_logits=True, **extra)
        torch.testing.assert_close(without.loss, with_logits.loss.to(without.loss), rtol=1e-6, atol=0)
        assert without.logits is None


def test_what_is_added_to_the_loss_is_told_by_name_and_left_out_in_evaluation():
    model = build("everything_tiny").train()
    ids = tokens()
    output = model(ids, labels=ids)
    assert set(output.losses) == {"router_z", "dsa_kl", "mtp"}
    plain = model.loss_function(output.logits, ids, vocab_size=512)
    torch.testing.assert_close(output.loss, plain + sum(output.losses.values()))
    output = model.eval()(ids, labels=ids)
    assert output.losses is None
    torch.testing.assert_close(output.loss, model.loss_function(output.logits, ids, vocab_size=512))


def test_a_batch_in_parts_has_the_gradients_of_the_whole():
    model = build("specialist_tiny").train()
    ids = tokens(4)
    labels = ids.masked_fill(torch.arange(LENGTH) < 5, -100)
    count = (labels[:, 1:] != -100).sum()
    gradients = []
    for parts in (1, 4):
        model.zero_grad()
        for part, wanted in zip(ids.chunk(parts), labels.chunk(parts), strict=True):
            model(part, labels=wanted, num_items_in_batch=count).loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(summed, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"input_ids": torch.ones(1, 4, dtype=torch.long), "inputs_embeds": torch.ones(1, 4, 64)}, "one of them"),
        ({"attention_mask": torch.ones(1, 3)}, r"attention_mask has shape \(1, 3\): give 1 or 0 per token, \(1, 4\)"),
        ({"document_ids": torch.zeros(1, 3, dtype=torch.long)}, "document_ids has shape"),
        (
            {"domain_ids": torch.zeros(2, dtype=torch.long)},
            r"domain_ids has shape \(2,\): give one domain per row, \(1,\)",
        ),
        ({"domain_ids": torch.tensor([1])}, "domain_ids has 1: engram_domains is 1, so use numbers from 0 to 0"),
        ({"domain_ids": torch.tensor([-1])}, "domain_ids has -1: engram_domains is 1"),
        ({"document_ids": torch.zeros(1, 4, dtype=torch.long), "cache": DynamicCache()}, "packed rows cannot be dec"),
    ],
)
def test_inputs_that_do_not_go_together_are_refused(inputs, told):
    model = HybridForCausalLM(load_preset("dense_d16_tiny"))
    with pytest.raises(ValueError, match=told):
        model(**({"input_ids": torch.ones(1, 4, dtype=torch.long)} | inputs))
