"""Does an adapter belong on this model: what both say of base, targets, rank and quantization, side by side.

peft checks shapes alone, so an adapter of another base with the same shapes loads and talks nonsense. Here the base is
known by the hash of its weights as they are in memory: another data type or another quantization is another base.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from rlvr_cpp.adapters.metadata import AdapterMetadata
from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.weights import weights_hash

PREFIX = "base_model.model."
A_MATRICES = (".lora_A.weight", ".lora_embedding_A")
"""How the names of tensors end whose first dimension is the rank."""
B_MATRICES = (".lora_B.weight", ".lora_embedding_B")
"""The same for the second dimension. A tensor of another name is not plain LoRA's."""


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
    """`checkpoints.weights_hash` of the base, with or without adapters on it."""
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


def adapted_layers(names: Iterable[str]) -> set[str]:
    """The layers, by their full names below the base model, that an adapter's tensors belong to.

    Raises UserError for a tensor that is not plain LoRA's.
    """
    layers = set()
    for name in names:
        ending = next((ending for ending in A_MATRICES + B_MATRICES if name.endswith(ending)), None)
        if ending is None or not name.startswith(PREFIX):
            raise UserError(f"the adapter holds the tensor {name!r}: only LoRA's A and B matrices are taken")
        layers.add(name.removeprefix(PREFIX).removesuffix(ending))
    return layers


def targets_of(layers: Iterable[str]) -> tuple[str, ...]:
    """The names of layers without their path, each once, sorted."""
    return tuple(sorted({layer.rpartition(".")[2] for layer in layers}))


def ranks_of(tensors: Mapping[str, torch.Tensor]) -> list[int]:
    """Of all A and B matrices, each once, sorted; one rank where the adapter is sound."""
    return sorted({tensor.shape[0 if name.endswith(A_MATRICES) else 1] for name, tensor in tensors.items()})


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
    found = [
        _differs("base_hash", base_hash(model)[:12], metadata.base_hash[:12]),
        _differs("base_dtype", dtype_name(base.dtype), metadata.base_dtype),
        _differs("quantization", quantization_of(model), stated),
        f"targets are not all there: the model has no {', '.join(absent)}" if absent else None,
        _differs("targets", ", ".join(targets_of(layers)), ", ".join(metadata.targets), "in the weights"),
        _differs("rank", ", ".join(map(str, ranks_of(tensors))), str(metadata.rank), "in the weights"),
        _differs("rank", config.r, metadata.rank, "in adapter_config.json"),
        _differs("alpha", config.lora_alpha, metadata.alpha, "in adapter_config.json"),
    ]
    return [problem for problem in found if problem is not None]


def _differs(field: str, here: Any, there: Any, place: str = "in the model") -> str | None:
    return None if here == there else f"{field} is {here} {place} and {there} in the metadata"
