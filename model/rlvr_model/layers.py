"""The small parts that every block is made of: RMS norm, rotary positions and the SwiGLU feed-forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rlvr_kernels.backend import widened
from rlvr_kernels.rms_norm import rms_norm
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, statistics in at least float32 (arXiv 1910.07467)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) of the same dtype."""
        return rms_norm(x, self.weight, self.eps)


class RotaryEmbedding(nn.Module):
    """Cosines and sines of the attention layers' rotary positions (arXiv 2104.09864), YaRN (arXiv 2309.00071) included.

    YaRN's attention factor is not in them, because a norm after the rotation takes any factor out again: attention
    puts its square on the logits.
    """

    inv_freq: Tensor

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        frequencies, self.attention_factor = rotary_frequencies(config)
        self.register_buffer("inv_freq", frequencies, persistent=False)

    def reset(self) -> None:
        """Compute the frequencies, which follow from the config and are in no checkpoint."""
        initialization.copy_(self.inv_freq, rotary_frequencies(self.config)[0])

    @torch.no_grad()
    def forward(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(B, T, head_dim / 2) cosines and sines for positions (B, T), in at least float32."""
        return rotary_table(position_ids, self.inv_freq, torch.promote_types(dtype, torch.float32))


def rotary_frequencies(config: HybridConfig) -> tuple[Tensor, float]:
    """(head_dim / 2) float32 inverse frequencies and the attention factor, which is 1 without YaRN."""
    rope = config.rope_parameters or {}
    with torch.device("cpu"):  # also while a model is built on the meta device
        if rope["rope_type"] == "yarn":
            frequencies, factor = ROPE_INIT_FUNCTIONS["yarn"](config, torch.device("cpu"))
            return frequencies, float(factor)
        steps = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    return 1.0 / rope["rope_theta"] ** steps, 1.0


def rotary_table(position_ids: Tensor, inv_freq: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(B, T, n) cosines and sines for positions (B, T) and n inverse frequencies."""
    angles = position_ids[..., None].to(dtype) * inv_freq.to(dtype)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x (B, T, heads, 2 n) by tables (B, T, n), element i with element i + n, in at least float32."""
    first, second = widened(x).chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


class FeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)) (arXiv 2002.05202)."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, width, bias=False)
        self.up_proj = nn.Linear(hidden_size, width, bias=False)
        self.down_proj = nn.Linear(width, hidden_size, bias=False)

    def forward(self, hidden_states: Tensor, context: LayerContext | None = None) -> Tensor:
        """(..., hidden_size); needs no context, and takes one as every mixer does."""
        del context
        gated = nn.functional.silu(self.gate_proj(hidden_states)) * self.up_proj(hidden_states)
        output: Tensor = self.down_proj(gated)
        return output


def output_std(config: HybridConfig) -> float:
    """Deviation of the weights that write to the residual: smaller, for there are two writers per layer."""
    return float(config.initializer_range / (2 * config.num_hidden_layers) ** 0.5)
