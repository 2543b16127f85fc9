"""What a layer may know besides its input: one frozen value per forward pass, handed to every mixer.

Attention, Mamba, Engram and the sparse indexer need positions, documents, padding and the cache in different
combinations. One object with one meaning per field keeps every mixer at `forward(hidden_states, context)` and lets a
wrapper around a branch pass it on unread. Tensors of this call have T columns; what is cached has S = past + T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from transformers.cache_utils import Cache


@dataclass(frozen=True)
class LayerContext:
    """The call that a layer takes part in."""

    position_ids: torch.Tensor
    """(B, T) long: position of each token in its document, padding not counted."""
    cos: torch.Tensor
    """(B, T, head_dim / 2) cosines of the attention layers' rotary embedding, half-split, in at least float32."""
    sin: torch.Tensor
    """(B, T, head_dim / 2) the sines."""
    document_ids: torch.Tensor | None = None
    """(B, T) long: tokens of a packed row see only tokens with their own id. None: every row is one document, the only
    kind that can be decoded with a cache."""
    key_mask: torch.Tensor | None = None
    """(B, S) bool: real tokens among the cached and the present ones; None where nothing is padding."""
    input_ids: torch.Tensor | None = None
    """(B, T) long: the tokens of this call; None where the caller gave embeddings."""
    domain_ids: torch.Tensor | None = None
    """(B,) long: the domain of each row, which chooses its Engram tables; None is domain 0."""
    past_key_values: Cache | None = None
    """The cache, to be read and updated at the layer's own index; None where nothing is cached."""
    past_length: int = 0
    """Tokens that the cache holds, padding included."""
    masks: Mapping[str, Any] = field(default_factory=dict)
    """By `full` and `sliding`: the mask as the attention implementation wants it, see `masks.attention_masks`."""
    dsa_stage: str = "sparse"
    """Sparse attention: `warmup` attends densely and trains the indexer alone, `sparse` attends to the selection."""
    losses: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    """What layers add to the training loss, by name: one scalar per layer, read after the last layer."""
    router_loads: dict[Any, torch.Tensor] = field(default_factory=dict)
    """By router: (E,) how many tokens each of its experts was given in this call of a model in training."""

    @cached_property
    def attention_mask(self) -> torch.Tensor | None:
        """(B, T) bool: real tokens of this call; None where nothing is padding."""
        return None if self.key_mask is None else self.key_mask[:, self.past_length :]

    @cached_property
    def starts(self) -> torch.Tensor:
        """(B, T) bool: real tokens that begin a document, behind which nothing may be seen."""
        real = torch.ones_like(self.position_ids, dtype=torch.bool)
        if self.attention_mask is not None:
            real = self.attention_mask
        begins = torch.zeros_like(real)
        begins[:, 1:] = ~real[:, :-1]
        if self.document_ids is not None:
            begins[:, 1:] |= self.document_ids[:, 1:] != self.document_ids[:, :-1]
        begins[:, 0] = self.past_length == 0 or (
            self.key_mask is not None and ~self.key_mask[:, : self.past_length].any(dim=1)
        )
        return begins & real

    @cached_property
    def visible(self) -> torch.Tensor:
        """(B, T, S) bool: the keys that a query may see in full attention: real, not later, of its own document."""
        batch, new = self.position_ids.shape
        device = self.position_ids.device
        keys = torch.arange(self.past_length + new, device=device)
        seen = (keys <= keys[self.past_length :, None]).expand(batch, -1, -1)
        if self.key_mask is not None:
            seen = seen & self.key_mask[:, None, :]
        if self.document_ids is not None:
            seen = seen & (self.document_ids[:, :, None] == self.document_ids[:, None, :])
        return seen

    def to(self, device: torch.device | int | str, non_blocking: bool = False) -> LayerContext:
        """This call for a layer on another device, by which accelerate hands it on; losses and loads stay shared."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor) and name in self.__dataclass_fields__
        }
        if all(value is getattr(self, name) for name, value in moved.items()):
            return self
        masks = {name: value.to(device) if hasattr(value, "to") else value for name, value in self.masks.items()}
        return replace(self, masks=masks, **moved)

    def add_loss(self, name: str, value: torch.Tensor) -> None:
        """Let a scalar, already weighted, enter the training loss."""
        self.losses.setdefault(name, []).append(value)
