"""Read a LoRA model with its adapter in the weights, and give the weights back bit for bit.

An adapter of its own makes three products out of one: most of a small model's time. Adding its product to a weight in
16 bits would round small updates away, so that other tokens are drawn than are trained on: those layers, and quantised
ones, keep their adapter apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def adapter_merged(model: nn.Module) -> Iterator[None]:
    """Inside the block, `model` has its active adapters in its float32 linear layers; for inference only."""
    with layers_merged(_mergeable_layers(model)):
        yield


@contextmanager
def layers_merged(layers: Sequence[Any]) -> Iterator[None]:
    """Inside the block, LoRA layers have their active adapters in their base layers' tensors.

    Those are copies: after the block, however it ends, the layers have the very tensors back that they had.
    """
    own = [(tensor, tensor.data) for layer in layers for tensor in layer.get_base_layer().parameters(recurse=False)]
    try:
        for layer in layers:
            layer.merge(safe_merge=True)  # into copies
        yield
    finally:
        for tensor, data in own:
            tensor.data = data
        for layer in layers:
            layer.merged_adapters.clear()


def _mergeable_layers(model: nn.Module) -> list[Any]:
    if not hasattr(model, "peft_config"):
        return []
    from peft.tuners.lora import Linear

    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    return [
        layer
        for layer in layers
        if type(layer.get_base_layer()) is nn.Linear
        and layer.get_base_layer().weight.dtype == torch.float32
        and type(layer.get_base_layer().weight.data) is torch.Tensor
        and not layer.merged
        and not layer.disable_adapters
    ]
