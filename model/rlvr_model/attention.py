"""Grouped-query attention: rotary positions, then the norm of queries and keys; the cache; whatever backend is set.

The norm has no weight of its own. After a rotation a weight per channel would break that scores depend on distances
only; without one it bounds every logit by gain^2 sqrt(head_dim). Sparse attention is this class with another mask:
`project` makes queries, keys and values, `attend` takes any mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rlvr_kernels.backend import widened
from rlvr_kernels.qk_norm_rope import qk_norm_rope
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.layers import rotary_frequencies, rotate


class Attention(nn.Module):
    """Attention over the whole context, or over the last `sliding_window` tokens in an S layer."""

    def __init__(self, config: HybridConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.is_causal = True
        self.sliding_window = config.sliding_window if layer_idx in config.short_layers else None
        self.has_positions = layer_idx not in (config.nope_layers or [])
        self.scaling = _scaling(config, self.has_positions)
        query_width = config.num_attention_heads * self.head_dim
        key_width = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, key_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, key_width, bias=False)
        self.o_proj = nn.Linear(query_width, config.hidden_size, bias=False)

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d) for hidden states (B, T, d)."""
        queries, keys, values = self.project(hidden_states, context)
        mask = context.masks["full" if self.sliding_window is None else "sliding"]
        return self.attend(queries, keys, values, mask, context)

    def project(self, hidden_states: Tensor, context: LayerContext) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, head_dim), and keys and values (B, H_kv, S, head_dim) with what the cache holds."""
        queries, keys = self._positioned(
            self._split(self.q_proj(hidden_states)), self._split(self.k_proj(hidden_states)), context
        )
        queries, keys = queries.transpose(1, 2), keys.transpose(1, 2)
        values = self._split(self.v_proj(hidden_states)).transpose(1, 2)
        if context.past_key_values is not None:
            keys, values = context.past_key_values.update(keys, values, self.layer_idx)
        return queries, keys, values

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Any, context: LayerContext) -> Tensor:
        """(B, T, d). The mask is what the backend takes: True where visible, an additive one, or None for causal."""
        backend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        extra: dict[str, Any] = {}
        if self.config.attn_logit_softcapping is not None:
            extra["softcap"] = self.config.attn_logit_softcapping
        if context.document_ids is not None:
            extra["position_ids"] = context.position_ids  # by which flash attention knows packed rows
        mixed, _ = backend(
            self,
            queries,
            keys,
            values,
            mask,
            dropout=0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            **extra,
        )
        output: Tensor = self.o_proj(mixed.flatten(2))
        return output

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, heads, head_dim)."""
        return x.view(*x.shape[:-1], -1, self.head_dim)

    def _positioned(self, queries: Tensor, keys: Tensor, context: LayerContext) -> tuple[Tensor, Tensor]:
        """Rotated and normalised, each (B, T, heads, head_dim)."""
        cos, sin = context.cos, context.sin
        if not self.has_positions:
            cos, sin = cos[..., :0], sin[..., :0]
        if self.config.qk_norm:
            return qk_norm_rope(queries, keys, cos, sin, eps=self.config.rms_norm_eps)
        return (rotate(queries, cos, sin), rotate(keys, cos, sin)) if self.has_positions else (queries, keys)


def eager_attention(
    module: Attention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scaling: float,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Attention written out: (B, T, H, head_dim) and the weights (B, H, T, S), softmax in at least float32.

    The mask (B, 1, T, S) is True where visible, or additive; None is causal for T = S.
    """
    key = key.repeat_interleave(module.num_key_value_groups, dim=1)
    value = value.repeat_interleave(module.num_key_value_groups, dim=1)
    scores = widened(query @ key.transpose(2, 3)) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    lowest = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(dim=-1).to(value.dtype)
    return (weights @ value).transpose(1, 2), weights


def _scaling(config: HybridConfig, has_positions: bool) -> float:
    """What multiplies q . k: YaRN's factor on queries and on keys, the gain after the norm, 1 / sqrt(head_dim)."""
    factor = rotary_frequencies(config)[1] if has_positions else 1.0
    gain = config.qk_norm_gain if config.qk_norm else 1.0
    return float((factor * gain) ** 2 / config.head_dim**0.5)
