"""Does an adapter belong on this model: what both say of base, targets, rank and quantization, side by side.

peft checks shapes alone, so an adapter of another base with the same shapes loads and talks nonsense. Here the base is
known by the hash of its weights as they are in memory: another data type or another quantization is another base.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from rlvr_cpp.adapters.layers import adapted_layers, ranks_of, targets_of
from rlvr_cpp.adapters.metadata import AdapterMetadata
from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.weights import weights_hash


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model below its adapters."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def base_parameters(model: PreTrainedModel | PeftModel) -> Iterator[tuple[str, torch.Tensor]]:
    """The base's weights under the names that they have without adapters.

    Raises UserError where an adapter is merged into them: they are not the base's then.
    """
    base = base_of(model)
    if any(isinstance(module, BaseTunerLayer) and module.merged for module in base.modules()):
        raise UserError("an adapter is merged into the model's weights: unmerge it first")
    for name, parameter in base.named_parameters():
        if ".lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter


def base_hash(model: PreTrainedModel | PeftModel) -> str:
    """`policy.weights.weights_hash` of the base, with or without adapters on it."""
    return weights_hash(base_parameters(model))


def dtype_name(dtype: torch.dtype) -> str:
    """Such as `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def quantization_of(model: PreTrainedModel | PeftModel) -> dict[str, Any] | None:
    """How the base is quantized, as plain data: `kind`, `double_quant`, `compute_dtype`; None where it is not.

    Raises UserError for a base that is quantized in a way that it does not tell, or another than NF4 and FP4.
    """
    base = base_of(model)
    packed = [name for name, p in base.named_parameters() if not p.is_floating_point()]
    if not packed:
        return None
    settings = getattr(base.config, "quantization_config", None)
    if settings is None or not getattr(settings, "load_in_4bit", False):
        raise UserError(
            f"the base is quantized ({packed[0]} holds integers) but does not tell how: load it through transformers "
            "with a BitsAndBytesConfig for 4 bits, as policy.quantization=nf4 does"
        )
    return {
        "kind": settings.bnb_4bit_quant_type,
        "double_quant": settings.bnb_4bit_use_double_quant,
        "compute_dtype": dtype_name(settings.bnb_4bit_compute_dtype),
    }


def base_facts(model: PreTrainedModel | PeftModel) -> dict[str, Any]:
    """What an adapter's metadata says of its base: `base_sha256`, `base_dtype` and `quantization`."""
    return {
        "base_sha256": base_hash(model),
        "base_dtype": dtype_name(base_of(model).dtype),
        "quantization": quantization_of(model),
    }


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def misfits(
    model: PreTrainedModel | PeftModel,
    metadata: AdapterMetadata,
    config: LoraConfig,
    tensors: Mapping[str, torch.Tensor],
) -> list[str]:
    """What the model, the metadata, peft's configuration and the tensors do not agree on; empty if they do."""
    base, layers = base_of(model), adapted_layers(tensors)
    absent = targets_of(layers - {name for name, _ in base.named_modules()})
    stated = None if metadata.quantization is None else dict(metadata.quantization)
    facts = base_facts(model)
    found = [
        _differs("base_hash", facts["base_sha256"][:12], metadata.base_hash[:12]),
        _differs("base_dtype", facts["base_dtype"], metadata.base_dtype),
        _differs("quantization", facts["quantization"], stated),
        f"targets are not all there: the model has no {', '.join(absent)}" if absent else None,
        _differs("targets", ", ".join(targets_of(layers)), ", ".join(metadata.targets), "in the weights"),
        _differs("rank", ", ".join(map(str, ranks_of(shapes_of(tensors)))), str(metadata.rank), "in the weights"),
        _differs("rank", config.r, metadata.rank, "in adapter_config.json"),
        _differs("alpha", config.lora_alpha, metadata.alpha, "in adapter_config.json"),
    ]
    return [problem for problem in found if problem is not None]


def _differs(field: str, here: Any, there: Any, place: str = "in the model") -> str | None:
    return None if here == there else f"{field} is {here} {place} and {there} in the metadata"
