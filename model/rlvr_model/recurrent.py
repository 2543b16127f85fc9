"""The recurrent tail R: a non-linear RNN whose state is a matrix per head.

    z_t = tanh(h_{t-1} W + k_t v_t^T)        h_t = f_t h_{t-1} + (1 - f_t) z_t        y_t = q_t^T h_t + D v_t

A linear recurrence (Mamba) can be computed in chunks but cannot, for instance, count modulo n; this one can and pays
with a step per token, so a pattern has few of them. f_t = exp(-A softplus(x_t + b)) forgets as Mamba does. The state
is kept in at least float32, starts at zero with each document and stands still on padding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import initialization
from transformers.cache_utils import Cache

from rlvr_kernels.autocast import in_given_precision
from rlvr_kernels.backend import widened
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.layers import RMSNorm


class RecurrentTail(nn.Module):
    """H heads with states (K, V): keys and queries of width K, values of width V."""

    def __init__(self, config: HybridConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        heads, key, value = config.recurrent_num_heads, config.recurrent_key_dim, config.recurrent_value_dim
        self.heads, self.key_dim, self.value_dim = heads, key, value
        self.widths = [heads * key, heads * key, heads * value, heads * value, heads]
        self.in_proj = nn.Linear(config.hidden_size, sum(self.widths), bias=False)
        self.state_weight = nn.Parameter(torch.empty(heads, value, value))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.empty(heads))
        self.norm = RMSNorm(heads * value, config.rms_norm_eps)
        self.out_proj = nn.Linear(heads * value, config.hidden_size, bias=False)

    def reset(self) -> None:
        """W is the identity; forgetting, over a step of unit size, from 0.001 to 0.1 evenly in the logarithm."""
        steps = torch.linspace(math.log(1e-3), math.log(0.1), self.heads).exp()
        identity = torch.eye(self.value_dim).expand(self.heads, -1, -1)
        initialization.copy_(self.state_weight, identity)
        initialization.zeros_(self.A_log)
        initialization.copy_(self.dt_bias, steps + torch.log(-torch.expm1(-steps)))
        initialization.ones_(self.D)

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d) for hidden states (B, T, d)."""
        queries, keys, values, gates, decay = self.in_proj(hidden_states).split(self.widths, dim=-1)
        shape = (*hidden_states.shape[:2], self.heads, -1)
        queries, keys, values = (widened(part).view(shape) for part in (queries, keys, values))
        step = nn.functional.softplus(widened(decay) + self.dt_bias)
        forget = torch.exp(-self.A_log.exp() * step)
        read, state = recur(
            queries / self.key_dim**0.5,
            keys / self.key_dim**0.5,
            values,
            forget,
            widened(self.state_weight),
            self._cached(context.past_key_values, queries),
            context,
        )
        self._remember(context.past_key_values, state)
        mixed = (read + self.D[:, None] * values).flatten(2).to(hidden_states.dtype)
        output: Tensor = self.out_proj(self.norm(mixed * nn.functional.silu(gates)))
        return output

    def _cached(self, cache: Cache | None, queries: Tensor) -> Tensor:
        """(B, H, K, V): the state after the cached tokens, zeros where there are none."""
        state: Tensor | None = None if cache is None else cache.get_recurrent_state(self.layer_idx)
        if state is not None:
            return state.clone()
        return queries.new_zeros(len(queries), self.heads, self.key_dim, self.value_dim)

    def _remember(self, cache: Cache | None, state: Tensor) -> None:
        if cache is not None:
            cache.update_recurrent_state(state, self.layer_idx)
            cache.layers[self.layer_idx].has_previous_state[0] = True


@in_given_precision
def recur(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    forget: Tensor,
    weight: Tensor,
    state: Tensor,
    context: LayerContext,
) -> tuple[Tensor, Tensor]:
    """What is read, (B, T, H, V), and the state (B, H, K, V) after the last token.

    Queries and keys (B, T, H, K), values (B, T, H, V), forget (B, T, H) in (0, 1), weight (H, V, V).
    """
    starts, real = context.starts, context.attention_mask
    reads = []
    for t in range(queries.shape[1]):
        before = state.masked_fill(starts[:, t, None, None, None], 0.0)
        written = torch.tanh(before @ weight + keys[:, t, :, :, None] * values[:, t, :, None, :])
        keep = forget[:, t, :, None, None]
        after = keep * before + (1 - keep) * written
        state = after if real is None else torch.where(real[:, t, None, None, None], after, before)
        reads.append((queries[:, t, :, None, :] @ state).squeeze(-2))
    return torch.stack(reads, dim=1), state
