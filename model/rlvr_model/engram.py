"""Engram (arXiv 2601.07372): a memory of n-grams beside attention, addressed by hashes of the last few tokens.

The rows that a token reads depend on token ids alone, so the tables may be large and may lie in host memory. What was
read is let through by a gate that compares it with the hidden state, and a short convolution carries it on. The branch
adds nothing at the start: the values' projection and the convolution are zero.

An n-gram and the convolution end where a document begins, and padding is no token: before its first token a document
holds `NO_TOKEN`. Addresses do not depend on the size of the vocabulary, which may grow.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from math import isqrt
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization

from rlvr_kernels.engram import engram
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.layers import RMSNorm

NO_TOKEN = 2**31 - 1
"""An id beyond every vocabulary."""
IDS, CONVOLUTION = 0, 1
"""The places of the two histories in the layer's cache."""


class Engram(nn.Module):
    """The memory of attention layer `layer_idx`."""

    no_weight_decay: ClassVar[tuple[str, ...]] = ("tables.weight", "convolution")

    def __init__(self, config: HybridConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.context_length = max(config.ngram_orders) - 1
        self.dilation = max(config.ngram_orders)
        width = len(config.ngram_orders) * config.engram_width
        self.tables = (HostNgramTables if config.engram_offload else NgramTables)(config, layer_idx)
        self.fold = TokenFold(config) if config.engram_lowercase else None
        self.key_proj = nn.Linear(width, config.hidden_size, bias=False)
        self.value_proj = nn.Linear(width, config.hidden_size, bias=False)
        self.key_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.query_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.value_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.convolution = nn.Parameter(torch.empty(config.engram_kernel_size, config.hidden_size))
        self.reset()

    def reset(self) -> None:
        """Start without an effect."""
        initialization.zeros_(self.value_proj.weight)
        initialization.zeros_(self.convolution)

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """What the memory adds (B, T, d) for normalised hidden states (B, T, d).

        Raises ValueError where the context has no token ids.
        """
        memory = self._recalled(context).to(self.key_norm.weight.dtype)
        agreement = (self.query_norm(hidden_states) * self.key_norm(self.key_proj(memory))).sum(-1, keepdim=True)
        agreement = agreement * hidden_states.shape[-1] ** -0.5
        gate = torch.sigmoid(agreement.sign() * agreement.abs().clamp(min=1e-6).sqrt())
        values: Tensor = gate * self.value_proj(memory)
        if context.attention_mask is not None:
            values = values * context.attention_mask[..., None]
        added = values + functional.silu(self._convolved(self.value_norm(values), context))
        return added.to(hidden_states.dtype)

    def _recalled(self, context: LayerContext) -> Tensor:
        """(B, T, orders * width): the rows of every token's n-grams."""
        ids = self._token_ids(context)
        batch, length = ids.shape
        documents, cache = context.document_ids, context.past_key_values
        if cache is not None:
            past = cache.get_conv_state(self.layer_idx, IDS)
            fresh = ids
            if past is None:  # transformers would fill up a short history with zeros, which are a token
                past = ids.new_full((batch, self.context_length), NO_TOKEN)
                fresh = torch.cat([past, ids], dim=1)
            ids = torch.cat([past, ids], dim=1)
            cache.update_conv_state(fresh, self.layer_idx, state_idx=IDS, conv_kernel_size=self.context_length)
        domains = None
        if context.domain_ids is not None:
            domains = context.domain_ids[:, None].expand_as(ids)
        rows: Tensor = self.tables(ids, documents, domains)
        return rows[:, ids.shape[1] - length :]

    def _token_ids(self, context: LayerContext) -> Tensor:
        if context.input_ids is None:
            raise ValueError("inputs_embeds: Engram looks n-grams of token ids up, so give input_ids instead")
        ids = context.input_ids if self.fold is None else self.fold(context.input_ids)
        return ids if context.attention_mask is None else ids.masked_fill(~context.attention_mask, NO_TOKEN)

    def _convolved(self, values: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d): a causal convolution per channel, dilated by the longest n-gram, over values (B, T, d)."""
        length, taps = values.shape[1], len(self.convolution)
        reach = (taps - 1) * self.dilation
        if context.past_key_values is not None and reach:
            values = context.past_key_values.update_conv_state(
                values.transpose(1, 2), self.layer_idx, state_idx=CONVOLUTION, conv_kernel_size=reach
            ).transpose(1, 2)
        values = functional.pad(values, (0, 0, reach, 0))[:, -(reach + length) :]
        total = torch.zeros_like(values[:, reach:])
        for tap, weight in enumerate(self.convolution.to(values.dtype)):
            start = tap * self.dilation
            inside = context.position_ids >= reach - start
            total = total + weight * values[:, start : start + length] * inside[..., None]
        return total


class NgramTables(nn.Module):
    """The tables of a layer: one for each order and hash function, end to end, and that once for each domain."""

    multipliers: Tensor
    """(longest order,) int64, odd."""
    sizes: Tensor
    """(orders, heads) int64 primes, which no other table of the model has."""

    def __init__(self, config: HybridConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.orders = tuple(config.ngram_orders)
        sizes = table_sizes(config, layer_idx)
        rows = config.engram_domains * int(sizes.sum())
        self.weight = nn.Parameter(torch.empty(rows, config.engram_width // config.engram_heads))
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("multipliers", hash_multipliers(config, layer_idx), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Draw the rows; how they are addressed follows from the config."""
        initialization.normal_(self.weight, std=self.config.initializer_range)
        initialization.copy_(self.sizes, table_sizes(self.config, self.layer_idx))
        initialization.copy_(self.multipliers, hash_multipliers(self.config, self.layer_idx))

    def forward(self, ids: Tensor, document_ids: Tensor | None, domains: Tensor | None) -> Tensor:
        """(B, T, orders * width) for ids (B, T), with document and domain ids (B, T) if there are several."""
        return engram(
            ids,
            self.weight,
            self.multipliers,
            self.sizes,
            orders=self.orders,
            pad_id=NO_TOKEN,
            document_ids=document_ids,
            domains=domains,
        )


class HostNgramTables(NgramTables):
    """The same in host memory: moving or casting the model leaves the tables alone, and rows travel to the tokens."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HostNgramTables:
        if self.weight.is_meta:  # nowhere yet
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, ids: Tensor, document_ids: Tensor | None, domains: Tensor | None) -> Tensor:
        """As the parent; the result is on the device of `ids`."""
        here = (None if given is None else given.to(self.weight.device) for given in (document_ids, domains))
        return super().forward(ids.to(self.weight.device), *here).to(ids.device, non_blocking=True)


class TokenFold(nn.Module):
    """Maps tokens that differ in case, form or outer blanks only to one of them."""

    folded: Tensor
    """(vocab_size,) int64; the identity until `fold_tokens`."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.register_buffer("folded", torch.arange(config.vocab_size))
        self.known = False

    def reset(self) -> None:
        """Map every token to itself."""
        initialization.copy_(self.folded, torch.arange(len(self.folded), device="cpu"))

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T). Raises ValueError as long as nothing was folded."""
        self.known = self.known or bool((self.folded != torch.arange(len(self.folded), device=ids.device)).any())
        if not self.known:
            raise ValueError("engram_lowercase is set but no tokens were folded: call rlvr_model.engram.fold_tokens")
        return self.folded[ids]

    def resize(self, vocab_size: int) -> None:
        """Keep the folds of the tokens that stay; new ones stand for themselves."""
        kept = self.folded[:vocab_size]
        self.folded = torch.cat([kept, torch.arange(len(kept), vocab_size, device=kept.device)])


def fold_tokens(model: nn.Module, texts: Sequence[str]) -> None:
    """Tell a model with `engram_lowercase` what each of its tokens decodes to; checkpoints keep it.

    Raises ValueError where the model folds no tokens or has another vocabulary.
    """
    folds = [module for module in model.modules() if isinstance(module, TokenFold)]
    if not folds:
        raise ValueError("engram_lowercase is off, so no token is folded: set it before the model is built")
    if len(texts) != len(folds[0].folded):
        raise ValueError(f"texts has {len(texts)} entries for {len(folds[0].folded)} tokens: give one for each id")
    folded = torch.tensor(folded_ids(texts))
    for fold in folds:
        fold.folded.copy_(folded)


def folded_ids(texts: Sequence[str]) -> list[int]:
    """For each token's text the first id of equal NFKC form, case and outer blanks aside.

    Blanks and parts of characters, which decode to U+FFFD, stay themselves.
    """
    first: dict[str, int] = {}
    ids = []
    for number, text in enumerate(texts):
        form = unicodedata.normalize("NFKC", text).lower().strip()
        alone = not form or "\ufffd" in form
        ids.append(number if alone else first.setdefault(form, number))
    return ids


def table_sizes(config: HybridConfig, layer_idx: int) -> Tensor:
    """(orders, heads) int64: the primes from `engram_table_size` on that are this layer's."""
    orders, heads = len(config.ngram_orders), config.engram_heads
    before = sorted(config.engram_at).index(layer_idx) * orders * heads
    primes = islice(_primes(config.engram_table_size), before, before + orders * heads)
    return torch.tensor(list(primes), device="cpu").view(orders, heads)


def hash_multipliers(config: HybridConfig, layer_idx: int) -> Tensor:
    """(longest order,) int64: odd, and small enough that a token id times one stays below 2^63."""
    draw = random.Random(config.engram_seed + 10007 * layer_idx)
    half = 2**62 // (NO_TOKEN + 1)
    return torch.tensor([2 * draw.randrange(half) + 1 for _ in range(max(config.ngram_orders))], device="cpu")


def _primes(first: int) -> Iterator[int]:
    return (n for n in count(max(first, 2)) if all(n % d for d in range(2, isqrt(n) + 1)))
