"""What a config builds: a table of its layers with the parameters they have and those that a token uses.

`python -m rlvr_pretrain.describe moe_e06` prints it. Active are all parameters but the experts that a token is not sent
to and the Engram rows that it does not look up. The model is built on the meta device, so that billions of parameters
cost a second and no memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rlvr_model.configuration import HybridConfig
from rlvr_model.engram import NgramTables
from rlvr_model.experts import LinearExperts, StackedExperts
from rlvr_model.modeling import HybridForCausalLM
from rlvr_model.pattern import LETTERS


@dataclass(frozen=True)
class Size:
    """Parameters of a part of a model."""

    name: str
    total: int
    active: int
    """Parameters that one token uses."""


def sizes(config: HybridConfig) -> list[Size]:
    """The embedding, which is the head as well if they are tied, each layer in order, and whatever else there is."""
    with torch.device("meta"):
        model = HybridForCausalLM(config)
    base = model.model
    parts = [_size("embedding", base.embed_tokens, config)]
    parts += [_size(_name(config, index), layer, config) for index, layer in enumerate(base.layers)]
    if not config.tie_word_embeddings:
        parts.append(_size("head", model.lm_head, config))
    total = sum(parameter.numel() for parameter in model.parameters())
    rest = total - sum(part.total for part in parts)
    return [*parts, Size("norms, scalars, extra heads", rest, rest)]


def parameter_count(config: HybridConfig) -> Size:
    """All parameters of the model."""
    parts = sizes(config)
    return Size("model", sum(part.total for part in parts), sum(part.active for part in parts))


def layer_table(config: HybridConfig) -> str:
    """One line per layer: index, letter, what it is, total and active parameters; then the sums."""
    head, *layers, rest = sizes(config)
    lines = [f"{'':>5} {'layer':<58} {'parameters':>12} {'active':>12}", _line("", head)]
    lines += [_line(str(index), part) for index, part in enumerate(layers)]
    lines += [_line("", rest), _line("", parameter_count(config))]
    return "\n".join(lines)


def _size(name: str, part: nn.Module, config: HybridConfig) -> Size:
    total = sum(parameter.numel() for parameter in part.parameters())
    return Size(name, total, total - _idle(part, config))


def _idle(part: nn.Module, config: HybridConfig) -> int:
    """How many parameters a token does not use: experts that it is not sent to, table rows that it does not read."""
    idle = 0
    for module in part.modules():
        if isinstance(module, StackedExperts | LinearExperts):
            routed = sum(parameter.numel() for parameter in module.parameters())
            idle += routed * (config.num_experts - config.num_experts_per_tok) // config.num_experts
        if isinstance(module, NgramTables):
            idle += module.weight.numel() - len(config.ngram_orders) * config.engram_width
    return idle


def _name(config: HybridConfig, index: int) -> str:
    letter = config.letters[index]
    words = [LETTERS[letter]]
    if letter == "A":
        reach = f"{config.sliding_window} tokens" if index in config.short_layers else "all tokens"
        words = [f"attention to {reach}"]
    if index in config.sparse_layers:
        words = [f"sparse attention by {config.dsa_variant}"]
    if index in (config.nope_layers or []):
        words.append("no positions")
    if index in config.engram_at:
        words.append("Engram")
    if letter != "E" and config.has_experts(index):
        words.append("experts")
    elif letter != "E" and config.intermediate_size:
        words.append("feed-forward")
    return f"{letter}  " + ", ".join(words)


def _line(index: str, part: Size) -> str:
    return f"{index:>5} {part.name:<58} {part.total:>12,} {part.active:>12,}".rstrip()
