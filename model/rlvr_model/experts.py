"""Fine-grained mixture of experts: a sigmoid router, a few of many small experts, and shared ones for every token.

DeepSeekMoE (arXiv 2401.06066) with the router of DeepSeek-V3: no auxiliary loss keeps the load even, but a bias that
enters the choice and never the weights, moved after each optimizer step (arXiv 2408.15664). Nobody moves it in
evaluation or reinforcement learning, where the policy must stay the function that was sampled from. No token is
dropped, so what a token gets does not depend on its neighbours.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import initialization

from rlvr_kernels.autocast import in_given_precision
from rlvr_kernels.backend import widened
from rlvr_kernels.moe import moe
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.layers import FeedForward, output_std


class Router(nn.Module):
    """Chooses `num_experts_per_tok` experts for each token and weighs them."""

    e_score_correction_bias: Tensor

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.num_experts, dtype=torch.float32))
        self.load: Tensor | None = None
        """(E,) tokens per expert in training since the last update of the bias, in this process."""

    def reset(self) -> None:
        """Draw the weights: from zero every token would choose the same experts."""
        initialization.normal_(self.weight, std=self.config.initializer_range)
        initialization.zeros_(self.e_score_correction_bias)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For tokens (N, d): the chosen experts (N, k) long, their weights (N, k) and the logits (N, E)."""
        logits = _routed(tokens, self.weight)
        scores = logits.sigmoid()
        experts = (scores + self.e_score_correction_bias).topk(self.config.num_experts_per_tok, dim=-1).indices
        chosen = scores.gather(-1, experts)
        weights = chosen / chosen.sum(-1, keepdim=True) * self.config.routed_scaling_factor
        return experts, weights, logits


@in_given_precision
def _routed(tokens: Tensor, weight: Tensor) -> Tensor:
    """(N, E) in at least float32: a choice that a rounding can turn is the choice of another expert."""
    return widened(tokens) @ widened(weight).T


class StackedExperts(nn.Module):
    """SwiGLU experts in two tensors, computed together. NF4 and LoRA's `target_modules` do not see them."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        count, width, inner = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(count, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.empty(count, width, inner))

    def reset(self) -> None:
        """Draw the weights as those of a dense feed-forward."""
        initialization.normal_(self.gate_up_proj, std=self.config.initializer_range)
        initialization.normal_(self.down_proj, std=output_std(self.config))

    def forward(self, tokens: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """(N, d): the weighted sum over the chosen experts (N, k)."""
        lane = self.config.moe_dispatch
        if lane == "auto":
            aligned = all(width * tokens.element_size() % 16 == 0 for width in self.down_proj.shape[1:])
            lane = "grouped" if aligned else "padded"
        return moe(tokens, self.gate_up_proj, self.down_proj, experts, weights, lane=lane)


class LinearExperts(nn.ModuleList):
    """The same experts as modules of linear layers, one computed after another: what NF4 and LoRA can take.

    The host waits for the device once, to learn how many tokens each expert has. One without a token is passed over
    where nothing is differentiated; elsewhere its adapter gets a gradient of zeros, as several processes expect.
    """

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(
            FeedForward(config.hidden_size, config.moe_intermediate_size) for _ in range(config.num_experts)
        )

    def forward(self, tokens: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """(N, d): the weighted sum over the chosen experts (N, k)."""
        slots = experts.flatten()
        order = slots.argsort(stable=True)
        rows = tokens[order // experts.shape[1]]
        counts = torch.bincount(slots, minlength=len(self)).tolist()
        computed = [
            expert(part)
            for expert, part in zip(self, torch.split(rows, counts), strict=True)
            if len(part) or torch.is_grad_enabled()
        ]
        shares = torch.cat([rows[:0], *computed]).to(tokens.dtype) * weights.flatten()[order, None].to(tokens.dtype)
        summed: Tensor = shares[order.argsort()].view(*experts.shape, -1).sum(dim=1)
        return summed


class MixtureOfExperts(nn.Module):
    """The feed-forward of E layers and of those that `moe_layer_frequency` names."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        self.gate = Router(config)
        stacked = config.experts_layout == "stacked"
        self.experts: nn.Module = StackedExperts(config) if stacked else LinearExperts(config)
        self.shared_experts: FeedForward | None = None
        if config.num_shared_experts:
            self.shared_experts = FeedForward(
                config.hidden_size, config.num_shared_experts * config.moe_intermediate_size
            )

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d); in training leaves the z-loss and the experts' load in the context."""
        tokens = hidden_states.flatten(0, 1)
        experts, weights, logits = self.gate(tokens)
        output: Tensor = self.experts(tokens, experts, weights)
        if self.shared_experts is not None:
            output = output + self.shared_experts(tokens)
        if self.training and torch.is_grad_enabled():
            self._account(experts, logits, context)
        return output.view_as(hidden_states)

    def _account(self, experts: Tensor, logits: Tensor, context: LayerContext) -> None:
        """Padding neither counts as load nor pulls on the router."""
        if context.attention_mask is not None:
            real = context.attention_mask.flatten()
            experts, logits = experts[real], logits[real]
        if self.config.z_loss_weight and len(logits):
            z_loss = logits.logsumexp(-1).square().mean()
            context.add_loss("router_z", self.config.z_loss_weight * z_loss)
        load = torch.bincount(experts.flatten(), minlength=self.config.num_experts)
        context.router_loads[self.gate] = load


@torch.no_grad()
def unstack_experts(model: nn.Module) -> None:
    """Make linear layers of stacked experts, in place: the same function, on which LoRA and NF4 find every expert.

    Pretraining wants them stacked. What was frozen stays frozen; what `save_pretrained` writes afterwards loads with
    `experts_layout: linear`.
    """
    for mixture in [module for module in model.modules() if isinstance(module, MixtureOfExperts)]:
        if isinstance(mixture.experts, StackedExperts):
            mixture.config.experts_layout, mixture.config.moe_dispatch = "linear", "auto"
            mixture.experts = _linear(mixture.experts).train(mixture.training)


def _linear(stacked: StackedExperts) -> LinearExperts:
    experts = LinearExperts(stacked.config).to(stacked.down_proj)
    for expert, gate_up, down in zip(experts, stacked.gate_up_proj, stacked.down_proj, strict=True):
        assert isinstance(expert, FeedForward)
        gate, up = gate_up.chunk(2)
        for layer, weight in ((expert.gate_proj, gate), (expert.up_proj, up), (expert.down_proj, down)):
            layer.weight.copy_(weight)
            layer.weight.requires_grad_(stacked.gate_up_proj.requires_grad)
    return experts


@torch.no_grad()
def update_router_biases(model: nn.Module) -> dict[str, float]:
    """Move every router's bias towards an even load, after an optimizer step, and forget the load.

    The load is what training steps have seen since the last call, over all processes. Returns two means over routers
    as metrics: `router_peak`, the busiest expert's load over the mean load, and `router_entropy`, the load's entropy
    over that of an even one; both are 1 where the load is even. Empty where no router
    has seen a token.
    """
    shares = []
    for router in [module for module in model.modules() if isinstance(module, Router)]:
        if router.load is None:
            continue
        load, router.load = router.load.float(), None
        if dist.is_initialized():
            dist.all_reduce(load)
        direction = (load.mean() - load).sign()
        router.e_score_correction_bias += router.config.router_bias_update_rate * direction
        shares.append(load.double() / load.sum())
    if not shares:
        return {}
    share = torch.stack(shares)
    even = torch.tensor(float(share.shape[1])).log().clamp(min=1e-9)
    entropy = torch.special.entr(share).sum(-1) / even
    return {"router_peak": float(share.amax(-1).mean()) * share.shape[1], "router_entropy": float(entropy.mean())}
