"""A block: up to two branches, a mixer and a feed-forward, each with a residual around it.

A branch is any module that maps hidden states and a context to what is added to them. So what skips tokens, gates or
scales a branch wraps it, `block.branches[i] = Wrapper(block.branches[i])`, and no mixer hears of it. The residual is a
plain sum, or a hyper-connection over several streams, which calls the same branch.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import initialization
from transformers.modeling_layers import GradientCheckpointingLayer

from rlvr_model.attention import Attention
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.engram import Engram
from rlvr_model.experts import MixtureOfExperts
from rlvr_model.hyper_connections import HyperConnection
from rlvr_model.layers import FeedForward, RMSNorm, output_std
from rlvr_model.mamba import Mamba3
from rlvr_model.recurrent import RecurrentTail
from rlvr_model.sparse_attention import SPARSE_ATTENTION

OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "down_proj")


class Branch(nn.Module):
    """What a residual goes around: a norm, then a mixer and, beside it, an Engram memory."""

    def __init__(self, config: HybridConfig, mixer: nn.Module, engram: nn.Module | None = None) -> None:
        super().__init__()
        self.output_std = output_std(config)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mixer = mixer
        self.engram = engram

    def reset(self) -> None:
        """Draw the projections that write to the residual."""
        for name, module in self.mixer.named_modules():
            if name.rpartition(".")[2] in OUTPUT_PROJECTIONS:
                initialization.normal_(module.weight, std=self.output_std)

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d): what is added to hidden states (B, T, d)."""
        normed = self.norm(hidden_states)
        added: Tensor = self.mixer(normed, context)
        return added if self.engram is None else added + self.engram(normed, context)


class Block(GradientCheckpointingLayer):  # type: ignore[misc]
    """One layer of the model: what a letter of the pattern stands for."""

    def __init__(self, config: HybridConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.branches = nn.ModuleList(_branches(config, layer_idx))
        self.connections: nn.ModuleList | None = None
        if config.mhc_enabled:
            self.connections = nn.ModuleList(
                HyperConnection(config, 2 * layer_idx + place) for place in range(len(self.branches))
            )

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d) for hidden states (B, T, d), or streams (B, T, n, d) for streams with hyper-connections."""
        for place, branch in enumerate(self.branches):
            if self.connections is None:
                hidden_states = hidden_states + branch(hidden_states, context)
            else:
                hidden_states = self.connections[place](hidden_states, lambda x, branch=branch: branch(x, context))
        return hidden_states


def _branches(config: HybridConfig, layer_idx: int) -> list[Branch]:
    """The mixer that the letter names, if it names one, then the feed-forward, if the layer has one."""
    branches = []
    letter = config.letters[layer_idx]
    if letter != "E":
        branches.append(Branch(config, _mixer(config, layer_idx, letter), _engram(config, layer_idx)))
    if config.has_experts(layer_idx):
        branches.append(Branch(config, MixtureOfExperts(config)))
    elif config.intermediate_size and letter != "E":
        branches.append(Branch(config, FeedForward(config.hidden_size, config.intermediate_size)))
    return branches


def _mixer(config: HybridConfig, layer_idx: int, letter: str) -> nn.Module:
    if letter == "M":
        return Mamba3(config, layer_idx)
    if letter == "R":
        return RecurrentTail(config, layer_idx)
    if layer_idx in config.sparse_layers:
        return SPARSE_ATTENTION[config.dsa_variant](config, layer_idx)
    return Attention(config, layer_idx)


def _engram(config: HybridConfig, layer_idx: int) -> nn.Module | None:
    return Engram(config, layer_idx) if layer_idx in config.engram_at else None
