"""The compatibility matrix: which settings of the hybrid model refuse each other, and why, as one table.

A mechanism that meets another one it was not made for rarely crashes; it trains a worse model or reports a number that
means something else. So each known clash is a row here, checked before any weight exists. A new mechanism adds its
rows and nothing more. What only shows once a model is loaded (attention implementation, quantization) has a table of
its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Clash:
    """Two settings that do not go together."""

    first: str
    second: str
    found: Callable[[PreTrainedConfig], bool]
    why: str
    """The reason, then the way out."""

    def __str__(self) -> str:
        return f"{self.first} and {self.second} clash: {self.why}"


def _letters(config: PreTrainedConfig, layers: list[int]) -> set[str]:
    """What the pattern has at these indices; `?` beyond its end."""
    names = config.letters
    return {names[index] if 0 <= index < len(names) else "?" for index in layers}


def _end_tokens(config: PreTrainedConfig) -> list[int]:
    ids = config.eos_token_id
    return [ids] if isinstance(ids, int) else ids or []


def _inner(config: PreTrainedConfig) -> int:
    return int(config.mamba_expand * config.hidden_size)


REFUSED = (
    Clash(
        "engram_layers",
        "block_pattern",
        lambda c: not _letters(c, c.engram_at) <= {"A"},
        "Engram on a layer without attention starts from a loss that it never recovers from; name A layers only",
    ),
    Clash(
        "engram_heads",
        "engram_width",
        lambda c: c.engram_enabled and c.engram_width % c.engram_heads != 0,
        "every hash function fills an equal part of the embedding; take a divisor",
    ),
    Clash(
        "dsa_start_layer",
        "block_pattern",
        lambda c: c.dsa_enabled and not c.sparse_layers,
        "no attention layer is left to be sparse; start earlier, or set dsa_enabled to false",
    ),
    Clash(
        "dsa_start_layer",
        "window_pattern",
        lambda c: bool(set(c.sparse_layers) & set(c.short_layers)),
        "a short window has already chosen what the selection is to choose from; make those layers L",
    ),
    Clash(
        "nope_layers",
        "window_pattern",
        lambda c: bool(set(c.nope_layers or []) & set(c.short_layers)),
        "without positions a layer is to see the whole context; name L layers only",
    ),
    Clash(
        "nope_layers",
        "block_pattern",
        lambda c: not _letters(c, c.nope_layers or []) <= {"A"},
        "only attention has a position encoding to leave out; name A layers only",
    ),
    Clash(
        "mhc_enabled",
        "residual_scalars",
        lambda c: c.mhc_enabled and c.residual_scalars,
        "hyper-connections replace the scalars on the residual; set residual_scalars to false",
    ),
    Clash(
        "mhc_enabled",
        "mhc_num_branches",
        lambda c: c.mhc_enabled and c.mhc_num_branches < 2,
        "one stream has nothing to mix; take at least 2",
    ),
    Clash(
        "num_key_value_heads",
        "num_attention_heads",
        lambda c: c.num_attention_heads % c.num_key_value_heads != 0,
        "every key-value head serves the same number of query heads; take a divisor",
    ),
    Clash(
        "num_experts_per_tok",
        "num_experts",
        lambda c: _any_experts(c) and not 1 <= c.num_experts_per_tok <= c.num_experts,
        "a token cannot be sent to more experts than there are; take fewer",
    ),
    Clash(
        "moe_dispatch",
        "experts_layout",
        lambda c: c.experts_layout == "linear" and c.moe_dispatch != "auto",
        "one linear layer per expert is computed expert by expert; set moe_dispatch to auto",
    ),
    Clash(
        "intermediate_size",
        "moe_layer_frequency",
        lambda c: c.intermediate_size == 0 and c.moe_layer_frequency > 0,
        "layers without a feed-forward have none to make of experts; set moe_layer_frequency to 0",
    ),
    Clash(
        "mamba_headdim",
        "mamba_expand",
        lambda c: "M" in c.letters and _inner(c) % c.mamba_headdim != 0,
        "mamba_expand x hidden_size is to split into whole heads; take a divisor",
    ),
    Clash(
        "mamba_ngroups",
        "mamba_headdim",
        lambda c: "M" in c.letters and (_inner(c) // c.mamba_headdim) % c.mamba_ngroups != 0,
        "the heads are to split into groups of equal size; take a divisor of the number of heads",
    ),
    Clash(
        "mamba_rope_fraction",
        "mamba_d_state",
        lambda c: (
            "M" in c.letters
            and c.mamba_complex_rope
            and c.mamba_rope_fraction > 0
            and c.mamba_d_state * c.mamba_rope_fraction < 2
        ),
        "not even one pair of the state rotates; raise one, or set mamba_complex_rope to false",
    ),
    Clash(
        "mamba_num_heads",
        "mamba_headdim",
        lambda c: "M" in c.letters and c.mamba_num_heads not in (None, _inner(c) // c.mamba_headdim),
        "mamba_expand x hidden_size / mamba_headdim is another number; leave it out, or change one of the three",
    ),
    Clash(
        "mamba_backend",
        "mamba_is_mimo",
        lambda c: "M" in c.letters and c.mamba_backend == "mamba_ssm" and c.mamba_is_mimo,
        "its MIMO kernels turn other pairs of columns than its SISO kernels and this layer; take auto",
    ),
    Clash(
        "dsa_indexer_rope_dim",
        "dsa_indexer_dim",
        lambda c: _token_indexer(c) and c.dsa_indexer_rope_dim > c.dsa_indexer_dim,
        "no more dimensions can turn than there are; take fewer",
    ),
    Clash(
        "dsa_indexer_rope_dim",
        "head_dim",
        lambda c: _token_indexer(c) and c.dsa_indexer_rope_dim > 0 and c.head_dim % c.dsa_indexer_rope_dim != 0,
        "the indexer turns by every n-th of the attention's frequencies; take an even divisor of head_dim, or 0",
    ),
    Clash(
        "pad_token_id",
        "vocab_size",
        lambda c: c.pad_token_id is not None and not 0 <= c.pad_token_id < c.vocab_size,
        "a special token is to be inside the vocabulary; enlarge the vocabulary",
    ),
    Clash(
        "eos_token_id",
        "vocab_size",
        lambda c: any(not 0 <= token < c.vocab_size for token in _end_tokens(c)),
        "a special token is to be inside the vocabulary; enlarge the vocabulary",
    ),
)

SUSPICIOUS = (
    Clash(
        "quantization_config",
        "experts_layout='stacked'",
        lambda c: bool(getattr(c, "quantization_config", None)) and c.experts_layout == "stacked" and _any_experts(c),
        "only linear layers are packed and these experts stay as they are; save the full model after unstack_experts",
    ),
    Clash(
        "num_experts_per_tok",
        "num_experts",
        lambda c: _any_experts(c) and c.num_experts_per_tok == 1 < c.num_experts,
        "the weights of the chosen add up to 1, so a router that chooses one learns nothing; take at least 2",
    ),
    Clash(
        "dsa_enabled",
        "block_pattern",
        lambda c: c.dsa_enabled and "M" in c.letters and not _any_experts(c),
        "sparse attention beside Mamba layers without experts stacks badly; add experts, or expect a worse loss",
    ),
    Clash(
        "attn_logit_softcapping",
        "qk_norm",
        lambda c: (
            c.qk_norm
            and c.attn_logit_softcapping is not None
            and c.qk_norm_gain**2 * c.head_dim**0.5 < c.attn_logit_softcapping / 2
        ),
        "normalised queries and keys bound the logits far below the cap, so it changes nothing; expect no effect",
    ),
)

CHOICES = {
    "experts_layout": ("stacked", "linear"),
    "moe_dispatch": ("auto", "padded", "grouped", "block_sparse"),
    "mamba_A_act": ("softplus", "heavy_tail"),
    "mamba_backend": ("auto", "reference", "triton", "mamba_ssm"),
    "dsa_variant": ("token", "block"),
    "dsa_stage": ("warmup", "sparse"),
}
MAY_BE_ZERO = {
    *("intermediate_size", "moe_layer_frequency", "num_shared_experts", "z_loss_weight", "router_bias_update_rate"),
    *("mamba_rope_fraction", "dsa_start_layer", "dsa_kl_weight", "engram_seed", "mhc_blend_alpha", "mtp_lambda"),
    "dsa_indexer_rope_dim",
    *("bos_token_id", "eos_token_id", "pad_token_id"),
}
"""Numbers that may be 0; all others have to be positive."""


def check(config: PreTrainedConfig) -> None:
    """Refuse a config with a value out of range or a clash: one ValueError with a line for each. Warn of the odd."""
    problems = [
        f"{name} is {getattr(config, name)!r}: use one of {', '.join(allowed)}"
        for name, allowed in CHOICES.items()
        if getattr(config, name) not in allowed
    ]
    problems += [f"{name} is {value}: use a number above 0" for name, value in _numbers(config) if value <= 0]
    problems += _odd_values(config)
    if not problems:  # the rules below divide by what was just found positive
        problems = [str(clash) for clash in REFUSED if clash.found(config)]
    if problems:
        raise ValueError("\n".join(problems))
    for clash in SUSPICIOUS:
        if clash.found(config):
            warnings.warn(str(clash), stacklevel=2)


def check_implementation(config: PreTrainedConfig) -> None:
    """Refuse an attention implementation that would leave out a part of the model. Raises ValueError."""
    implementation = config._attn_implementation
    if config.attn_logit_softcapping is not None and implementation == "sdpa":
        raise ValueError(
            "attn_logit_softcapping and attn_implementation='sdpa' clash: sdpa has no softcap; "
            "set attn_implementation to eager or flex_attention, or the softcap to null"
        )
    if config.sparse_layers and implementation not in ("eager", "sdpa"):
        raise ValueError(
            f"dsa_enabled and attn_implementation={implementation!r} clash: a selection of single tokens needs a mask "
            "per query; set attn_implementation to sdpa or eager"
        )


def _numbers(config: PreTrainedConfig) -> list[tuple[str, float]]:
    """The settings that are numbers and mean nothing at 0."""
    values = [(name, getattr(config, name)) for name in type(config).__annotations__ if name not in MAY_BE_ZERO]
    return [(name, value) for name, value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _token_indexer(config: PreTrainedConfig) -> bool:
    return bool(config.dsa_enabled and config.dsa_variant == "token")


def _any_experts(config: PreTrainedConfig) -> bool:
    return any(config.has_experts(index) for index in range(config.num_hidden_layers))


def _odd_values(config: PreTrainedConfig) -> list[str]:
    """Values that are wrong by themselves in a way of their own."""
    problems = []
    if not config.window_pattern or set(config.window_pattern) - set("SL"):
        problems.append(f"window_pattern is {config.window_pattern!r}: use letters S (short window) and L (long)")
    if config.head_dim % 2:
        problems.append(f"head_dim is {config.head_dim}: rotary pairs need an even number")
    if config.dsa_indexer_rope_dim % 2:
        problems.append(f"dsa_indexer_rope_dim is {config.dsa_indexer_rope_dim}: rotary pairs need an even number")
    rope = (config.rope_parameters or {}).get("rope_type", "default")
    if rope not in ("default", "yarn"):
        problems.append(f"rope_parameters.rope_type is {rope!r}: use default or yarn")
    if not 0 < config.dsa_top_k_ratio <= 1:
        problems.append(f"dsa_top_k_ratio is {config.dsa_top_k_ratio}: use a share above 0, at most 1")
    try:
        orders = config.ngram_orders
    except ValueError:
        orders = []
    if not orders or min(orders) < 2:
        problems.append(f"engram_ngram_orders is {config.engram_ngram_orders!r}: use numbers from 2 on, as in 2,3,4")
    return problems
