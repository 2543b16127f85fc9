"""The cache of a layer that transformers has no class for: keys and values, an indexer's keys, and Engram's history.

`layer_types` in the config names the nearest kind that transformers knows, so `generate` builds a cache by itself;
the forward pass puts the right layer into it while that is still empty.
"""

from __future__ import annotations

from typing import Any

from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicIndexedLayer,
    DynamicLayer,
    LinearAttentionLayer,
    StaticLayer,
)

from rlvr_model.configuration import CACHED_STATES, HybridConfig


class IndexedHybridLayer(LinearAttentionLayer, DynamicIndexedLayer):  # type: ignore[misc]
    """Keys, values and indexer keys that grow, beside convolution states of fixed size. Cannot be cropped."""

    is_compileable = False
    is_croppable = False

    def __init__(self, number_of_states: int = CACHED_STATES, **_: Any) -> None:
        DynamicIndexedLayer.__init__(self)
        LinearAttentionLayer.__init__(self, number_of_states=number_of_states)

    def lazy_initialization(self, *states: Any, **named: Any) -> None:
        """Keys and values come by position, convolution and recurrent states by name."""
        if states:
            DynamicLayer.lazy_initialization(self, *states)
        else:
            LinearAttentionLayer.lazy_initialization(self, **named)

    def offload(self) -> None:
        """Move both parts to the CPU."""
        LinearAttentionLayer.offload(self)
        DynamicIndexedLayer.offload(self)

    def prefetch(self) -> None:
        """Bring both parts back to the device."""
        LinearAttentionLayer.prefetch(self)
        DynamicIndexedLayer.prefetch(self)

    def reset(self) -> None:
        """Forget both parts."""
        LinearAttentionLayer.reset(self)
        DynamicIndexedLayer.reset(self)

    def reorder_cache(self, beam_idx: Any) -> None:
        """Follow the beams with both parts."""
        LinearAttentionLayer.reorder_cache(self, beam_idx)
        DynamicIndexedLayer.reorder_cache(self, beam_idx)

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: what a history of fixed size has dropped cannot be brought back."""
        raise RuntimeError("a cache with Engram's history cannot be cropped: keep a copy of it, or start anew")


def prepare_cache(cache: Cache, config: HybridConfig) -> None:
    """Give the sparse layers with Engram their own kind of cache layer, once, while it is empty.

    A cache that was made without a config gets the layers of this one. Raises ValueError for a static cache.
    """
    if any(isinstance(layer, StaticLayer) for layer in cache.layers):
        raise ValueError(
            "a static cache and this model clash: its layers read what was cached by its length; leave "
            "cache_implementation out, or give DynamicCache(config=model.config)"
        )
    if not cache.layers:
        cache.layers = DynamicCache(config=config).layers
    if config.dsa_variant != "token":
        return
    for index in set(config.sparse_layers) & set(config.engram_at):
        if not isinstance(cache.layers[index], IndexedHybridLayer):
            cache.layers[index] = IndexedHybridLayer()
