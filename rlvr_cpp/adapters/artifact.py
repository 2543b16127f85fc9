"""An adapter as something that can be handed on: `python -m rlvr_cpp.artifact <run folder> <folder>`.

A peft folder (`adapter_config.json`, `adapter_model.safetensors`) and `rlvr_adapter.json`, which says what it belongs
on and how it was made. What is loaded are the bytes that were hashed, read once: no other file is looked at, so no
pickle is ever opened, and nothing can be exchanged between check and use. Other tools that read peft folders read this.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel

from rlvr_cpp.adapters.fit import (
    adapted_layers,
    base_hash,
    base_of,
    dtype_name,
    misfits,
    quantization_of,
    ranks_of,
    targets_of,
)
from rlvr_cpp.adapters.metadata import (
    CONFIG_FILE,
    HASHED,
    METADATA_FILE,
    WEIGHTS_FILE,
    AdapterMetadata,
    TrainingMethod,
    check_metadata,
    read_metadata,
)
from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import new_folder, sha256_of
from rlvr_cpp.runs.record import utc_now


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How an adapter came about."""

    training_method: TrainingMethod
    base_model: str | None = None
    """A name by which others find the base; None is the one that the model was loaded by."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved settings of the run; empty where it was no run of ours."""
    contract: Mapping[str, Any] | None = None
    """`contract.verifier_contract` of the verdicts it was trained on; None for a method without any."""
    parents: tuple[str, ...] = ()
    """Adapter hashes of what it went on from or was combined of."""


def save_adapter_artifact(
    model: PeftModel, folder: str | Path, provenance: Provenance, *, adapter_name: str = "default"
) -> AdapterMetadata:
    """Write one LoRA adapter of a model as an artifact, all or nothing.

    Raises UserError where there is no such adapter, it is not plain LoRA of one rank, an adapter is merged into the
    base, the folder exists, or the provenance does not go with the base's quantization.
    """
    config = _lora_config(model, adapter_name)
    tensors = get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)
    layers = adapted_layers(tensors)
    if ranks_of(tensors) != [config.r] or config.alpha_pattern or config.use_rslora:
        raise UserError(
            f"adapter {adapter_name!r} has the ranks {ranks_of(tensors)}, alpha_pattern {config.alpha_pattern} and "
            f"use_rslora {config.use_rslora}: an artifact has one rank and one alpha, and scales by alpha / rank"
        )
    config = dataclasses.replace(
        config,
        base_model_name_or_path=provenance.base_model or base_of(model).name_or_path,
        inference_mode=True,
    )
    with new_folder(Path(folder)) as draft:
        _write_peft_files(draft, config, tensors)
        files = {name: sha256_of(draft / name) for name in HASHED}
        metadata = _describe(model, provenance, config, targets_of(layers), files)
        problems = check_metadata(metadata)
        if problems:
            raise UserError(f"the adapter cannot be saved: {'; '.join(problems)}")
        (draft / METADATA_FILE).write_text(metadata.to_json())
    return metadata


def load_adapter_artifact(
    model: PreTrainedModel | PeftModel, folder: str | Path, *, adapter_name: str = "default", trainable: bool = False
) -> PeftModel:
    """Put the adapter of an artifact on the model it belongs on.

    On a bare model it is active at once. Beside other adapters it waits for `model.set_adapter(adapter_name)`, so that
    a model can go on answering while the next adapter is loaded. Raises UserError where there is no whole artifact, a
    file was changed, the name is taken, or base, targets, rank or quantization differ: then the fields are named.
    """
    folder = Path(folder)
    metadata = read_metadata(folder)
    config, tensors = read_peft_files(folder, metadata.files)
    config.inference_mode = not trainable
    problems = misfits(model, metadata, config, tensors)
    if problems:
        raise UserError(
            f"the adapter in {folder} does not fit the model: {'; '.join(problems)}: load the base that it was trained "
            f"on ({metadata.base_model}) with the same dtype and quantization"
        )
    return put_on(model, config, tensors, adapter_name)


def read_peft_files(folder: Path, hashes: Mapping[str, str]) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """peft's configuration and the tensors, of the very bytes that have these hashes. Raises UserError otherwise."""
    content = {name: (folder / name).read_bytes() for name in HASHED}
    changed = [name for name in HASHED if hashlib.sha256(content[name]).hexdigest() != hashes[name]]
    if changed:
        raise UserError(f"{folder}: {' and '.join(changed)} changed while the adapter was loaded: load it again")
    try:
        config = LoraConfig.from_peft_type(**json.loads(content[CONFIG_FILE]))
        tensors = safetensors.torch.load(content[WEIGHTS_FILE])
    except (ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        raise UserError(f"{folder} does not hold what peft wrote ({error}): make the artifact anew") from error
    if not isinstance(config, LoraConfig):
        raise UserError(f"{folder}: peft_type is {config.peft_type.value}: only LORA is taken")
    return config, tensors


def put_on(
    model: PreTrainedModel | PeftModel, config: LoraConfig, tensors: Mapping[str, torch.Tensor], adapter_name: str
) -> PeftModel:
    """The model with an adapter of these weights, frozen where the configuration says `inference_mode`.

    Raises UserError, and leaves the model as it was, where the name is taken or the weights are not those that the
    configuration asks for.
    """
    bare = not isinstance(model, PeftModel)
    if not bare and adapter_name in model.peft_config:
        raise UserError(f"the model has an adapter {adapter_name!r} already: give another adapter_name")
    if bare:
        nameless = dataclasses.replace(config, base_model_name_or_path=None)  # peft names the base as it was loaded
        model = get_peft_model(model, nameless, adapter_name=adapter_name)
    else:
        model.add_adapter(adapter_name, config)
    wanted = get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)
    if {name: t.shape for name, t in wanted.items()} != {name: t.shape for name, t in tensors.items()}:
        _ = model.unload() if bare else model.delete_adapter(adapter_name)
        raise UserError(f"the adapter's weights are not those that its {CONFIG_FILE} asks for: make the artifact anew")
    set_peft_model_state_dict(model, dict(tensors), adapter_name=adapter_name)
    if config.inference_mode:
        model.eval()
    return model


def _lora_config(model: PeftModel, adapter_name: str) -> LoraConfig:
    config = model.peft_config.get(adapter_name)
    if not isinstance(config, LoraConfig):
        known = ", ".join(name for name, other in model.peft_config.items() if isinstance(other, LoraConfig))
        raise UserError(f"adapter_name is {adapter_name!r}: the model's LoRA adapters are {known or 'none'}")
    return config


def _write_peft_files(folder: Path, config: LoraConfig, tensors: Mapping[str, torch.Tensor]) -> None:
    """The same bytes for the same adapter: a set of layer names has no order of its own."""
    fields = {name: sorted(x) if isinstance(x, set) else x for name, x in config.to_dict().items()}
    (folder / CONFIG_FILE).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    safetensors.torch.save_file(plain, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _describe(
    model: PeftModel,
    provenance: Provenance,
    config: LoraConfig,
    targets: tuple[str, ...],
    files: Mapping[str, str],
) -> AdapterMetadata:
    quantization = quantization_of(model)
    return AdapterMetadata(
        base_model=config.base_model_name_or_path,
        base_hash=base_hash(model),
        base_dtype=dtype_name(base_of(model).dtype),
        targets=targets,
        rank=config.r,
        alpha=config.lora_alpha,
        use_qlora=quantization is not None,
        quantization=quantization,
        training_method=provenance.training_method,
        config=provenance.config,
        contract=provenance.contract,
        parents=provenance.parents,
        created=utc_now(),
        files=files,
    )
