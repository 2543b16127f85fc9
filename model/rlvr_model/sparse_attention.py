"""Attention to a part of the context: to tokens that an indexer picks, or to blocks that pooled keys pick.

By token (DeepSeek-V3.2-Exp report): a light indexer scores all earlier tokens, and a query attends to its last tokens
and to the best of the others. How many depends on how many it sees and nothing else, and of equal scores, which are
common because they are sums of ReLUs, the later token wins; so a query chooses the same alone, packed, padded and
decoded. By block (arXiv 2502.11089): the same promises, with whole blocks counted from the document's start.

The choice passes no gradient. What the indexer learns is to predict where attention looks, by a KL divergence that
reaches nothing else; its input is cut off, so that the language model's loss never reaches it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rlvr_kernels.backend import widened
from rlvr_kernels.block_sparse_attention import block_sparse_attention, select_blocks
from rlvr_kernels.indexer import indexer_scores, indexer_topk
from rlvr_model.attention import Attention
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.layers import rotate

LOSS = "dsa_kl"
"""The name of the indexers' loss in a context."""
QUERY_CHUNK = 1024
"""Queries whose (B, T, S) scores and attention the loss holds at a time."""


class Index(NamedTuple):
    """What an indexer says of T tokens and the S that they may look at."""

    queries: Tensor
    """(B, T, H_I, d_I)."""
    keys: Tensor
    """(B, S, d_I), one for all heads, the cached ones included."""
    weights: Tensor
    """(B, T, H_I)."""


class Indexer(nn.Module):
    """The lightning indexer of attention layer `layer_idx`; nothing turns in a layer without positions."""

    def __init__(self, config: HybridConfig, layer_idx: int) -> None:
        super().__init__()
        heads, width = config.dsa_indexer_heads, config.dsa_indexer_dim
        self.layer_idx = layer_idx
        self.rotated = 0 if layer_idx in (config.nope_layers or []) else config.dsa_indexer_rope_dim
        self.q_proj = nn.Linear(config.hidden_size, heads * width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.k_norm = nn.LayerNorm(width)
        self.w_proj = nn.Linear(config.hidden_size, heads, bias=False)

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Index:
        """The index of hidden states (B, T, d), through which no gradient flows back."""
        hidden_states = hidden_states.detach().to(self.k_norm.weight.dtype)
        weights: Tensor = self.w_proj(hidden_states)
        queries = self.q_proj(hidden_states).view(*weights.shape, -1)
        keys = self.k_norm(self.k_proj(hidden_states))
        queries, keys = self._positioned(queries, context), self._positioned(keys[:, :, None], context)[:, :, 0]
        if context.past_key_values is not None:
            keys = context.past_key_values.update_indexer(keys, self.layer_idx)
        return Index(queries, keys, weights)

    def _positioned(self, x: Tensor, context: LayerContext) -> Tensor:
        """x (B, T, heads, d_I) with its first dimensions turned by every n-th of the attention's frequencies."""
        if not self.rotated:
            return x
        step = 2 * context.cos.shape[-1] // self.rotated
        turned = rotate(x[..., : self.rotated], context.cos[..., ::step], context.sin[..., ::step])
        return torch.cat([turned, x[..., self.rotated :]], dim=-1)


class TokenSparseAttention(Attention):
    """Attention to the last tokens and the ones that the indexer picks; in the warm-up to all."""

    def __init__(self, config: HybridConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.indexer = Indexer(config, layer_idx)

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d) for hidden states (B, T, d). In training the indexer's loss goes to the context."""
        queries, keys, values = self.project(hidden_states, context)
        index = self.indexer(hidden_states, context)
        documents = key_documents(context)
        if context.dsa_stage == "warmup":
            seen = in_sight(documents, queries.shape[2], keys.shape[2], keys.device)
        else:
            seen = self.selected(index, documents)
        if self.training and torch.is_grad_enabled() and self.indexer.q_proj.weight.requires_grad:
            softcap = self.config.attn_logit_softcapping
            divergence = attention_divergence(index, queries, keys, seen, self.scaling, softcap)
            real = context.attention_mask
            mean = divergence.mean() if real is None else (divergence * real).sum() / real.sum().clamp(min=1)
            context.add_loss(LOSS, self.config.dsa_kl_weight * mean)
        return self.attend(queries, keys, values, seen[:, None], context)

    def selected(self, index: Index, documents: Tensor | None) -> Tensor:
        """(B, T, S) bool: the tokens that each query attends to; `documents` (B, S)."""
        config, length = self.config, index.keys.shape[1]
        chosen = indexer_topk(
            *index,
            top_k=config.dsa_top_k,
            ratio=config.dsa_top_k_ratio,
            window=config.dsa_local_window,
            document_ids=documents,
        )
        seen = torch.zeros(*chosen.shape[:2], length + 1, dtype=torch.bool, device=chosen.device)
        return seen.scatter_(2, chosen + 1, True)[..., 1:]


class BlockSparseAttention(Attention):
    """Attention to the nearest blocks and to those whose mean keys a query matches best; in the warm-up to all."""

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d) for hidden states (B, T, d)."""
        config = self.config
        queries, keys, values = self.project(hidden_states, context)
        documents = key_documents(context)
        if context.dsa_stage == "warmup":
            seen = in_sight(documents, queries.shape[2], keys.shape[2], keys.device)
            return self.attend(queries, keys, values, seen[:, None], context)
        blocks = select_blocks(
            queries * (self.scaling * self.head_dim**0.5),
            keys,
            top_n=config.dsa_top_n,
            block_size=config.dsa_block_size,
            window=config.dsa_local_window,
            document_ids=documents,
        )
        mixed = block_sparse_attention(
            queries,
            keys,
            values,
            blocks,
            block_size=config.dsa_block_size,
            document_ids=documents,
            softcap=config.attn_logit_softcapping,
            scale=self.scaling,
        )
        output: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return output


SPARSE_ATTENTION: dict[str, type[Attention]] = {"token": TokenSparseAttention, "block": BlockSparseAttention}
"""The layer for each `dsa_variant`."""


def key_documents(context: LayerContext) -> Tensor | None:
    """(B, S): runs of equal ids are documents, padding one of its own; None where each row is one document."""
    if context.document_ids is not None or context.key_mask is None:
        return context.document_ids
    return context.key_mask.long()


def in_sight(documents: Tensor | None, queries: int, keys: int, device: torch.device) -> Tensor:
    """(1 or B, T, S) bool: the keys of a query's own document that are not after it, for the last T of S positions."""
    places = torch.arange(keys, device=device)
    seen = (places <= places[keys - queries :, None])[None]
    if documents is None:
        return seen
    return seen & (documents[:, keys - queries :, None] == documents[:, None])


def attention_divergence(
    index: Index, queries: Tensor, keys: Tensor, seen: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    """(B, T): KL(p || softmax(I)) of each query over what it sees, in nats; only the indexer gets a gradient.

    p is the mean over heads of the attention of queries (B, H, T, D) to keys (B, H_kv, S, D), I the index's score;
    both are distributions over the keys that `seen` (1 or B, T, S) allows (DeepSeek-V3.2-Exp report, section 3.1).
    """
    count, length = queries.shape[2], keys.shape[2]
    parts = []
    for begin in range(0, count, QUERY_CHUNK):
        rows = slice(begin, min(begin + QUERY_CHUNK, count))
        span = length - count + rows.stop
        part = Index(index.queries[:, rows], index.keys[:, :span], index.weights[:, rows])
        arguments = (part, queries[:, :, rows], keys[:, :, :span], seen[:, rows, :span], scaling, softcap)
        parts.append(checkpoint(_divergence, *arguments, use_reentrant=False))
    return torch.cat(parts, dim=1)


def _divergence(
    index: Index, queries: Tensor, keys: Tensor, seen: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    scores = indexer_scores(*index)
    predicted = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).log_softmax(dim=-1)
    attention = _mean_attention(queries, keys, seen, scaling, softcap)
    return functional.kl_div(predicted.masked_fill(~seen, 0.0), attention, reduction="none").sum(-1)


@torch.no_grad()
def _mean_attention(queries: Tensor, keys: Tensor, seen: Tensor, scaling: float, softcap: float | None) -> Tensor:
    """(B, T, S) in at least float32, one head after the other."""
    heads, group = queries.shape[1], queries.shape[1] // keys.shape[1]
    total = torch.zeros((), device=queries.device)
    for head in range(heads):
        scores = widened(queries[:, head] @ keys[:, head // group].mT) * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        total = total + scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return total / heads
