"""Multi-token prediction (DeepSeek-V3, arXiv 2412.19437, section 2.2): heads that look further than the next token.

Depth k merges what depth k - 1 knows at token t with the embedding of token t + k, runs one dense block, and predicts
token t + k + 1 through the model's own head. In training that is an additional loss; the main loss and its value in
bits per byte know nothing of it. In decoding the first depth drafts a token that the model then verifies together with
the ones before it: `generate_speculatively`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import Cache, DynamicCache

from rlvr_model.attention import Attention
from rlvr_model.block import Branch
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.layers import FeedForward, RMSNorm
from rlvr_model.masks import positions
from rlvr_model.sparse_attention import in_sight, key_documents

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100
"""The label of what is not to be predicted."""
MOST_PENDING = 16
"""Known tokens that may wait for their place in the cache while drafts are refused."""


class MultiTokenPrediction(nn.Module):
    """The additional heads of a model, `mtp_depth` of them."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.weight = config.mtp_lambda
        self.depths = nn.ModuleList(PredictionDepth(config, depth) for depth in range(config.mtp_depth))

    def forward(
        self, hidden_states: Tensor, input_ids: Tensor, context: LayerContext, embed: nn.Module
    ) -> Iterator[Tensor]:
        """For each depth k = 1, 2, ...: normalised hidden states (B, T, d) that at t predict token t + k + 1.

        `hidden_states` (B, T, d) are the model's last ones. The last k rows of a document mean nothing.
        """
        for ahead, depth in enumerate(self.depths, start=1):
            hidden_states, states = depth(hidden_states, embed(input_ids.roll(-ahead, dims=1)), context)
            yield states

    def loss(
        self,
        hidden_states: Tensor,
        input_ids: Tensor,
        labels: Tensor,
        context: LayerContext,
        embed: nn.Module,
        next_token_loss: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """lambda / D times the sum of the depths' cross-entropies, a scalar.

        `labels` (B, T) are those of the tokens themselves, -100 for none. `next_token_loss` is the model's own: from
        hidden states (B, T, d) and labels (B, T), of which it predicts number t + 1 at t.
        """
        total = hidden_states.new_zeros(())
        for ahead, states in enumerate(self(hidden_states, input_ids, context, embed), start=1):
            targets = labels_ahead(labels, ahead, context)
            if (targets[:, 1:] != IGNORED).any():  # a mean over nothing is not a number
                total = total + next_token_loss(states, targets)
        return self.weight / len(self.depths) * total


class PredictionDepth(nn.Module):
    """One depth: a projection of two inputs and a dense block."""

    def __init__(self, config: HybridConfig, depth: int) -> None:
        super().__init__()
        width = config.intermediate_size or config.moe_intermediate_size * config.num_experts_per_tok
        self.hidden_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.token_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.merge_proj = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.attention = Branch(config, DenseAttention(config, config.num_hidden_layers + depth))
        self.feed_forward = Branch(config, FeedForward(config.hidden_size, width))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states: Tensor, embeddings: Tensor, context: LayerContext) -> tuple[Tensor, Tensor]:
        """What the next depth goes on from, and the same normalised for the model's head, each (B, T, d).

        `hidden_states` (B, T, d) are those before this depth, `embeddings` (B, T, d) of the later tokens.
        """
        inputs = [self.hidden_norm(hidden_states), self.token_norm(embeddings)]
        merged = self.merge_proj(torch.cat(inputs, dim=-1))
        merged = merged + self.attention(merged, context)
        merged = merged + self.feed_forward(merged, context)
        return merged, self.norm(merged)


class DenseAttention(Attention):
    """Attention that brings its own mask where the model has no layer with a long window to share one with."""

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d) for hidden states (B, T, d)."""
        queries, keys, values = self.project(hidden_states, context)
        if "full" in context.masks:
            mask = context.masks["full"]
        else:
            mask = in_sight(key_documents(context), queries.shape[2], keys.shape[2], keys.device)[:, None]
        return self.attend(queries, keys, values, mask, context)


def labels_ahead(labels: Tensor, ahead: int, context: LayerContext) -> Tensor:
    """(B, T): label t + `ahead` at t, where that and token t - 1, which is to predict it, share a document."""
    moved = functional.pad(labels[:, ahead:], (0, ahead), value=IGNORED)
    documents = key_documents(context)
    if documents is None:
        return moved
    target = functional.pad(documents[:, ahead:], (0, ahead), value=-1)
    source = functional.pad(documents[:, :-1], (1, 0), value=-1)
    return moved.masked_fill(target != source, IGNORED)


class Speculated(NamedTuple):
    """What speculative decoding wrote."""

    sequences: Tensor
    """(B, T + n) token ids, the prompt included."""
    drafted: int
    """Drafts that the model verified."""
    accepted: int
    """Drafts that were its own choice in every row."""


@torch.no_grad()
def generate_speculatively(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int,
    eos_ids: Collection[int] = (),
    pad_id: int = 0,
) -> Speculated:
    """Greedy decoding of prompts (B, T), padded on the left by `attention_mask`, with one drafted token per pass.

    The tokens are those of greedy decoding; `pad_id` follows an end token. A draft is kept if it is right in all rows.
    If not, the cache goes back to where it was, since a recurrent state cannot be cropped, and the next pass takes the
    known tokens that are then missing along with its draft: no pass is spent on going back. Raises ValueError where the
    model has no head to draft with or an attention implementation that takes no mask per query.
    """
    decoder = _Decoder(model, input_ids, attention_mask, eos_ids, pad_id)
    written = [decoder.prefill()]
    while sum(tokens.shape[1] for tokens in written) < max_new_tokens and not decoder.finished.all():
        written.append(decoder.step())
    new = torch.cat(written, dim=1)[:, :max_new_tokens]
    return Speculated(torch.cat([input_ids, new], dim=1), decoder.drafted, decoder.accepted)


class _Decoder:
    """A model and its drafting head in the middle of some rows."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompt: Tensor,
        attention_mask: Tensor | None,
        eos_ids: Collection[int],
        pad_id: int,
    ) -> None:
        if model.mtp is None:
            raise ValueError("mtp_enabled is false, so the model has no head to draft with: use model.generate")
        if model.config._attn_implementation not in (None, "eager", "sdpa"):
            raise ValueError(
                f"attn_implementation is {model.config._attn_implementation!r}: drafts are verified with a mask per "
                "query; set it to sdpa or eager"
            )
        self.model, self.head = model, model.mtp.depths[0]
        self.prompt, self.attention_mask = prompt, attention_mask
        self.eos_ids = torch.tensor(sorted(eos_ids), dtype=torch.long, device=prompt.device)
        self.pad_id = pad_id
        self.cache, self.draft_cache = DynamicCache(config=model.config), DynamicCache()
        self.draft_length = 0
        self.finished = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
        self.drafted = self.accepted = 0

    def prefill(self) -> Tensor:
        """(B, 1): the first new token."""
        hidden_states = self._read(self.prompt)
        fresh = self._written(self._choice(hidden_states[:, -1:]))
        self.pending = fresh  # known tokens that the cache does not hold
        self.draft = self._guess(hidden_states, torch.cat([self.prompt[:, 1:], fresh], dim=1))
        return fresh

    def step(self) -> Tensor:
        """(B, 1) or (B, 2): the next tokens, by one pass of the model."""
        if self.pending.shape[1] >= MOST_PENDING:
            hidden_states = self._read(self.pending)[:, -1:]
            fresh = self._written(self._choice(hidden_states))
            self.pending = fresh
        else:
            hidden_states, fresh = self._verified()
        self.draft = self._guess(hidden_states, fresh)
        return fresh

    def _verified(self) -> tuple[Tensor, Tensor]:
        """The next tokens (B, n), and the hidden states (B, n, d) that chose them: one more if the draft was right."""
        before = snapshot(self.cache)
        hidden_states = self._read(torch.cat([self.pending, self.draft], dim=1))[:, -2:]
        choice = self._choice(hidden_states)
        right = bool(((choice[:, :1] == self.draft) | self.finished[:, None]).all())
        self.drafted += 1
        self.accepted += right
        if right:
            fresh = self._written(choice)
            self.pending = fresh[:, 1:]
            return hidden_states, fresh
        restore(self.cache, before)
        fresh = self._written(choice[:, :1])
        self.pending = torch.cat([self.pending, fresh], dim=1)
        return hidden_states[:, :1], fresh

    def _read(self, tokens: Tensor) -> Tensor:
        """(B, n, d): the model's hidden states of tokens (B, n) that follow the cached ones."""
        length = self.cache.get_seq_length() + tokens.shape[1]
        outputs = self.model.model(
            input_ids=tokens, attention_mask=self._mask(length), cache=self.cache, use_cache=True
        )
        hidden_states: Tensor = outputs.last_hidden_state
        return hidden_states

    def _guess(self, hidden_states: Tensor, following: Tensor) -> Tensor:
        """(B, 1): the drafted token, after hidden states (B, n, d) and the tokens (B, n) that follow them."""
        batch, new = following.shape
        past, self.draft_length = self.draft_length, self.draft_length + new
        key_mask = self._mask(self.draft_length)
        places = positions(batch, new, past, key_mask, following.device)
        cos, sin = self.model.model.rotary_emb(places, hidden_states.dtype)
        context = LayerContext(places, cos, sin, key_mask=key_mask, past_key_values=self.draft_cache, past_length=past)
        _, states = self.head(hidden_states, self.model.model.embed_tokens(following), context)
        return self._choice(states[:, -1:])

    def _choice(self, hidden_states: Tensor) -> Tensor:
        choice: Tensor = self.model.logits(hidden_states).argmax(dim=-1)
        return choice

    def _written(self, choice: Tensor) -> Tensor:
        """The chosen tokens (B, n), with padding after the end of a row."""
        columns = []
        for column in choice.unbind(1):
            columns.append(column.masked_fill(self.finished, self.pad_id))
            self.finished = self.finished | torch.isin(columns[-1], self.eos_ids)
        return torch.stack(columns, dim=1)

    def _mask(self, length: int) -> Tensor | None:
        """(B, length) bool: the prompt's mask, then real tokens."""
        if self.attention_mask is None:
            return None
        return functional.pad(self.attention_mask.bool(), (0, length - self.prompt.shape[1]), value=True)


def snapshot(cache: Cache) -> list[dict[str, Any]]:
    """All that the layers of a cache hold; states that are written in place are copied, the growing ones are not."""
    return [{name: _copied(value) for name, value in vars(layer).items()} for layer in cache.layers]


def restore(cache: Cache, saved: list[dict[str, Any]]) -> None:
    """Take a cache back to a snapshot, which is used up by it."""
    for layer, state in zip(cache.layers, saved, strict=True):
        vars(layer).update(state)


def _copied(value: Any) -> Any:
    """Copies of states by number, which transformers keeps in dictionaries; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return {key: state.clone() if isinstance(state, Tensor) else state for key, state in value.items()}
