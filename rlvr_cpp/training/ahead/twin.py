"""A twin of the model, which samples with the weights of a moment ago while the model is trained on.

Frozen weights are the model's own memory. What is trained, and every buffer, is copied when `sync` is called. So a twin
costs the trained weights once more: those of an adapter, or a whole model where every weight is trained.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import PreTrainedModel


class Twin:
    """A model of the same layers, for inference alone, with the weights that the original had at the last `sync`."""

    def __init__(self, original: PreTrainedModel) -> None:
        shared = {id(p): _same_memory(p) for p in original.parameters() if not p.requires_grad}
        self.model: PreTrainedModel = copy.deepcopy(original, shared)
        for module in self.model.modules():
            module.__dict__.pop("forward", None)  # one that was put on the original would call the original
        parameters = zip(self.model.parameters(), original.parameters(), strict=True)
        buffers = zip(self.model.buffers(), original.buffers(), strict=True)
        self._copied = [*((mine, its) for mine, its in parameters if its.requires_grad), *buffers]
        self.model.eval().requires_grad_(False)

    def sync(self) -> None:
        """Take over the weights that the original has now."""
        with torch.no_grad():
            for mine, its in self._copied:
                mine.copy_(its)


def _same_memory(parameter: nn.Parameter) -> nn.Parameter:
    """Another parameter over the same numbers: sampling puts an adapter into a layer by giving its weight other ones.

    Of a quantised weight, which is left alone then, the very one.
    """
    return nn.Parameter(parameter.data, requires_grad=False) if type(parameter) is nn.Parameter else parameter
