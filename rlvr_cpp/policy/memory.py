"""How much memory a run asks of each process, from a model's config alone: nothing is loaded.

What is kept from step to step is counted exactly: weights, gradients, moments, keys and values. What a forward pass
keeps for its backward pass is estimated for decoders with attention and a gated MLP: of width h with MLPs of width f
and k keys a token, a layer keeps 8h + 2k + 4f numbers a token, in 16 bits 5h more for what norms and adapters compute
in float32. `tests/rlvr_cpp/policy/test_memory.py` holds all of it against the bytes of real models.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from rlvr_cpp.errors import UserError, first_line
from rlvr_cpp.policy.policy import DEMO, expand_targets, find_model, know_hybrids
from rlvr_cpp.policy.settings import AdapterSettings, PolicySettings

NF4_BYTES = 0.52
"""A weight in 4 bits with its doubly quantized scales."""
WITHOUT_KEYS = frozenset(("linear_attention", "mamba", "conv", "moe", "mlp"))  # of a config's `layer_types`
TILE = 2048 * 16384 * 4
"""The largest block of logits that exists at a time in an update, in float32."""
LOGIT_COPIES = 4
"""Of a step of sampling, in float32: the model's, at the temperature, raced, as log-probabilities."""


@dataclass(frozen=True)
class Shards:
    """Into how many parts processes divide what they keep; 1 keeps it whole."""

    weights: int = 1
    gradients: int = 1
    optimizer: int = 1
    gathered: bool = False
    """ZeRO-3: the weights are whole again while completions are drawn."""


@dataclass(frozen=True)
class Load:
    """What a process works on at a time."""

    tokens: int
    """The longest row: prompt and completion."""
    sampled: int
    """Completions that are drawn together."""
    trained: int
    """Completions in one forward and backward pass."""
    checkpointing: bool
    """Only the layers' inputs are kept for the backward pass, and what one layer keeps."""
    reference: bool
    """KL is measured to a copy of the start."""
    ahead: bool = False
    """The next step's completions are drawn from a copy of what is trained."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, by what they are for."""

    base: float
    """Frozen weights, in their quantisation; those of a reference of its own, too."""
    trained: float
    """Trained weights, an adapter's in float32, and one step ahead a copy of them to sample with."""
    gradients: float
    optimizer: float
    """Adam's two moments of each trained weight."""
    cache: float
    """Keys and values while completions are drawn."""
    sampling_logits: float
    activations: float
    """What one forward pass keeps for its backward pass."""
    update_logits: float
    gathered: float
    """Weights of other processes that are here for a while: two layers' of FSDP, all of ZeRO-3's."""

    @property
    def kept(self) -> float:
        """What is there all the time."""
        return self.base + self.trained + self.gradients + self.optimizer

    @property
    def sampling(self) -> float:
        """While completions are drawn."""
        return self.kept + self.cache + self.sampling_logits + self.gathered

    @property
    def update(self) -> float:
        """In a forward and backward pass."""
        return self.kept + self.activations + self.update_logits + self.gathered

    @property
    def peak(self) -> float:
        """The larger of the two, at the least."""
        return max(self.sampling, self.update)

    def rows(self) -> list[tuple[str, float]]:
        """Names for a table, with bytes."""
        return [(field.name.replace("_", " "), getattr(self, field.name)) for field in fields(self)]


def estimate_memory(
    model: str, policy: PolicySettings, adapter: AdapterSettings, load: Load, shards: Shards = Shards()
) -> Memory:
    """What one process needs to train a model. Raises UserError where the model has no config."""
    config, skeleton = _skeleton(model)
    text = config.get_text_config()
    width = {"float32": 4, "bfloat16": 2, "float16": 2}[policy.dtype]
    weights = sum(p.numel() for p in skeleton.parameters())
    whole = _base_bytes(skeleton, policy, width)
    copies = 0.0
    if adapter.enabled:
        trained, each, base = _adapter_weights(skeleton, adapter), 4, whole
        if load.reference and adapter.start is not None:
            copies = float(trained * each)
    else:
        # who shares out trained weights or their moments keeps those in float32
        trained, each, base = weights, width if shards.optimizer == 1 else 4, 0.0
        if load.reference:
            copies = whole  # trl loads the start once more
    return Memory(
        base=(base + copies) / shards.weights,
        trained=(2 if load.ahead else 1) * trained * each / shards.weights,
        gradients=trained * each / shards.gradients,
        optimizer=2.0 * trained * each / shards.optimizer,
        cache=2.0 * _layers_with_keys(text) * _keys(text) * load.tokens * width * load.sampled,
        sampling_logits=4.0 * LOGIT_COPIES * text.vocab_size * load.sampled,
        activations=_activations(text, width, load),
        update_logits=float(min(TILE, load.trained * load.tokens * text.vocab_size * 4)),
        gathered=_gathered(whole, text, shards),
    )


def _activations(text: Any, width: int, load: Load) -> float:
    hidden = text.hidden_size
    layer = (
        (8 if width == 4 else 13) * hidden + 2 * _keys(text) + 4 * (getattr(text, "intermediate_size", 0) or 3 * hidden)
    )
    kept = hidden * text.num_hidden_layers + layer if load.checkpointing else layer * text.num_hidden_layers
    return float(kept * width * load.trained * load.tokens)


def _gathered(whole: float, text: Any, shards: Shards) -> float:
    if shards.gathered:
        return whole * (1 - 1 / shards.weights)
    return 2 * whole / text.num_hidden_layers if shards.weights > 1 else 0.0


def _keys(text: Any) -> int:
    """Numbers that one layer's attention keeps of a token, as keys; as many again are values."""
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return int(heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads))


def _layers_with_keys(config: Any) -> int:
    """Layers whose cache grows with every token."""
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    return sum(kind not in WITHOUT_KEYS for kind in kinds)


def _skeleton(name: str) -> tuple[Any, torch.nn.Module]:
    from transformers import AutoConfig, AutoModelForCausalLM

    know_hybrids()
    try:
        config = AutoConfig.from_pretrained(find_model(name))
        with torch.device("meta"):
            return config, AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, ImportError) as error:
        reason = first_line(error)
        raise UserError(
            f"the config of model {name!r} cannot be read ({reason}): set model= to a shipped model ({DEMO}), a local "
            "folder, or a Hugging Face id that this machine can reach"
        ) from error


def _base_bytes(model: torch.nn.Module, policy: PolicySettings, width: int) -> float:
    """Quantized are the linear layers but for the head."""
    weights = sum(p.numel() for p in model.parameters())
    if policy.quantization is None:
        return float(weights * width)
    linear = sum(m.weight.numel() for name, m in _linear_layers(model) if not name.endswith("lm_head"))
    return linear * NF4_BYTES + (weights - linear) * width


def _adapter_weights(model: torch.nn.Module, adapter: AdapterSettings) -> int:
    """How many weights a LoRA adapter on the chosen layers has."""
    targets = expand_targets(adapter.targets)
    chosen = [
        layer
        for name, layer in _linear_layers(model)
        if (targets == "all-linear" and not name.endswith("lm_head")) or name.rpartition(".")[2] in targets
    ]
    return sum(adapter.rank * (layer.in_features + layer.out_features) for layer in chosen)


def _linear_layers(model: torch.nn.Module) -> list[tuple[str, torch.nn.Linear]]:
    return [(name, m) for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
