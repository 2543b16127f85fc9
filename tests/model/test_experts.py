"""The mixture of experts: against a loop over experts, its router's bias and loss, and what padding must not do."""

import copy

import pytest
import torch
from torch.nn import functional

from rlvr_model import HybridConfig, HybridForCausalLM, update_router_biases
from rlvr_model.context import LayerContext
from rlvr_model.experts import LinearExperts, MixtureOfExperts, Router

BATCH, LENGTH, WIDTH, EXPERTS = 2, 9, 16, 6
LAYOUTS = [("linear", "auto"), ("stacked", "grouped"), ("stacked", "padded"), ("stacked", "block_sparse")]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def config(**settings):
    shape = {"vocab_size": 64, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    experts = {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "moe_layer_frequency": 1}
    return HybridConfig(**(shape | {"num_key_value_heads": 1, "intermediate_size": 24} | experts | settings))


def mixture(**settings):
    """A layer with weights of a size at which every part shows, in float64."""
    module = MixtureOfExperts(config(**settings)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module


def context(mask=None):
    positions = torch.arange(LENGTH).expand(BATCH, -1)
    return LayerContext(position_ids=positions, cos=torch.empty(0), sin=torch.empty(0), key_mask=mask)


def inputs():
    return torch.randn(BATCH, LENGTH, WIDTH, dtype=torch.float64)


def weights_of(experts, index):
    """Gate, up and down of one expert."""
    if isinstance(experts, LinearExperts):
        return [getattr(experts[index], name).weight for name in ("gate_proj", "up_proj", "down_proj")]
    return [*experts.gate_up_proj[index].chunk(2), experts.down_proj[index]]


def swiglu(x, gate, up, down):
    return (functional.silu(x @ gate.T) * (x @ up.T)) @ down.T


def naive(module, x):
    """One token and one expert at a time."""
    out = torch.zeros_like(x)
    for row in range(BATCH):
        for t in range(LENGTH):
            token = x[row, t]
            scores = torch.sigmoid(module.gate.weight @ token)
            chosen = sorted(range(EXPERTS), key=lambda e: -scores[e])[: module.config.num_experts_per_tok]
            for expert in chosen:
                share = scores[expert] / sum(scores[e] for e in chosen) * module.config.routed_scaling_factor
                out[row, t] += share * swiglu(token, *weights_of(module.experts, expert))
            shared = module.shared_experts
            out[row, t] += swiglu(token, shared.gate_proj.weight, shared.up_proj.weight, shared.down_proj.weight)
    return out


@pytest.mark.parametrize(("layout", "lane"), LAYOUTS)
def test_every_layout_is_the_loop_over_tokens_and_experts(layout, lane):
    module = mixture(experts_layout=layout, moe_dispatch=lane, num_shared_experts=2, routed_scaling_factor=1.7)
    x = inputs()
    torch.testing.assert_close(module(x, context()), naive(module, x), rtol=0, atol=1e-12)


def test_padding_alone_has_a_loss_of_zero():
    model = HybridForCausalLM(config()).train()
    ids = torch.zeros(1, 4, dtype=torch.long)
    losses = model(ids, labels=ids, attention_mask=torch.zeros_like(ids)).losses
    assert losses is None or not torch.stack([*losses.values()]).isnan().any()


@torch.no_grad()
def test_autocast_does_not_turn_a_choice():
    router = mixture().float().gate
    tokens = torch.randn(50, WIDTH)
    expected = router(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        for found, wanted in zip(router(tokens), expected, strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("layout", ["linear", "stacked"])
def test_an_expert_without_a_token_gets_a_gradient_of_zeros(layout):
    module = mixture(experts_layout=layout)
    module(inputs()[:1, :1], context(torch.ones(1, 1, dtype=torch.bool))).sum().backward()
    gradients = [parameter.grad for parameter in module.experts.parameters()]
    idle = [not gradient.any() for stack in gradients for gradient in (stack if stack.dim() == 3 else [stack])]
    assert sum(idle) / len(idle) == pytest.approx((EXPERTS - 2) / EXPERTS)


def test_one_expert_for_all_is_a_feed_forward():
    module = mixture(num_experts=1, num_experts_per_tok=1, num_shared_experts=0)
    x = inputs()
    torch.testing.assert_close(module(x, context()), swiglu(x, *weights_of(module.experts, 0)), rtol=0, atol=1e-12)


def test_the_order_of_the_experts_does_not_matter():
    module, x = mixture(), inputs()
    before = module(x, context())
    order = torch.randperm(EXPERTS)
    with torch.no_grad():
        for tensor in (module.gate.weight, module.experts.gate_up_proj, module.experts.down_proj):
            tensor.copy_(tensor[order].clone())
    torch.testing.assert_close(module(x, context()), before, rtol=0, atol=1e-12)


def test_a_token_gets_the_same_whoever_is_beside_it():
    module, x = mixture(), inputs()
    alone = torch.cat([module(x[row : row + 1], context()) for row in range(BATCH)])
    torch.testing.assert_close(module(x, context()), alone, rtol=0, atol=1e-13)


def test_the_bias_changes_the_choice_and_never_the_weights():
    router = mixture().gate
    tokens = inputs().flatten(0, 1)
    router.e_score_correction_bias[4] = 10.0
    experts, weights, logits = router(tokens)
    assert (experts == 4).any(dim=-1).all()
    chosen = logits.sigmoid().gather(-1, experts)
    torch.testing.assert_close(weights, chosen / chosen.sum(-1, keepdim=True), rtol=0, atol=1e-12)


def test_moving_the_bias_evens_out_a_skewed_load():
    settings = config(router_bias_update_rate=0.02)
    model = HybridForCausalLM(settings).train()
    router = next(module for module in model.modules() if isinstance(module, Router))
    with torch.no_grad():
        router.weight.normal_(std=0.3)
        router.weight[0] += 0.5  # expert 0 is loved by all
    tokens = torch.randn(512, WIDTH) + 0.3
    peaks = []
    for _ in range(60):
        router.load = torch.bincount(router(tokens)[0].flatten(), minlength=EXPERTS)
        metrics = update_router_biases(model)
        peaks.append(metrics["router_peak"])
    assert peaks[0] > 2.0
    assert max(peaks[-5:]) < 1.3
    assert metrics["router_entropy"] > 0.98
    assert router.load is None


def test_the_load_is_counted_in_training_over_every_micro_step_and_forgotten_by_the_update():
    model = HybridForCausalLM(config(num_experts_per_tok=3)).train()
    router = next(module for module in model.modules() if isinstance(module, Router))
    ids = torch.randint(3, 64, (BATCH, LENGTH))
    mask = torch.ones_like(ids)
    mask[:, :4] = 0
    for _ in range(2):
        model(ids, attention_mask=mask, labels=ids).loss.backward()
    assert router.load.sum() == 2 * 3 * mask.sum()
    before = router.e_score_correction_bias.clone()
    with torch.no_grad():
        model(ids)
    model.eval()(ids)
    assert router.load.sum() == 2 * 3 * mask.sum()
    update_router_biases(model)
    assert router.load is None
    assert (router.e_score_correction_bias - before).abs().max() == pytest.approx(1e-3)
    assert update_router_biases(model) == {}


def test_a_recomputed_block_counts_its_load_once():
    model = HybridForCausalLM(config()).train()
    model.activation_checkpointing_enable()
    router = next(module for module in model.modules() if isinstance(module, Router))
    ids = torch.randint(3, 64, (BATCH, LENGTH))
    model(ids, labels=ids).loss.backward()
    assert router.load.sum() == 2 * ids.numel()


def test_the_z_loss_is_of_real_tokens_and_in_training_only():
    module, x = mixture(z_loss_weight=0.5), inputs()
    mask = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    mask[0, :5] = False
    here = context(mask)
    module(x, here)
    logits = (x @ module.gate.weight.T)[mask]
    (loss,) = here.losses["router_z"]
    torch.testing.assert_close(loss, 0.5 * logits.logsumexp(-1).square().mean())
    silent = context(mask)
    copy.deepcopy(module).eval()(x, silent)
    assert silent.losses == {}
    assert silent.router_loads == {}


def test_the_z_loss_enters_the_model_s_loss():
    model = HybridForCausalLM(config(z_loss_weight=100.0)).train()
    ids = torch.randint(3, 64, (BATCH, LENGTH))
    output = model(ids, labels=ids)
    logits = output.logits[:, :-1].flatten(0, 1)
    assert output.loss > functional.cross_entropy(logits, ids[:, 1:].flatten()) + 10
