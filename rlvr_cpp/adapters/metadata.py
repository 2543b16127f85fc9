"""What an adapter artifact says of itself: the file `rlvr_adapter.json` beside peft's two.

An adapter is a difference to one set of base weights, quantized in one way. Put on anything else it still runs, and is
wrong. So the metadata names the base by the hash of its weights, and every file by the hash of its bytes. It carries an
id over all of that, so metadata that was edited is none. Nothing here needs torch: the registry reads it, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import canonical_json, sha256_of
from rlvr_cpp.runs.record import utc_now

ADAPTER_META_SCHEMA_VERSION = 2
"""Of the fields in `rlvr_adapter.json`."""
ADAPTER_ARTIFACT_SCHEMA_VERSION = 1
"""Of the files in the folder."""
METADATA_FILE = "rlvr_adapter.json"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
HASHED = (CONFIG_FILE, WEIGHTS_FILE)
TrainingMethod = Literal["gspo", "grpo", "sft", "dcd"]
TRAINING_METHODS = get_args(TrainingMethod)
REMAKE = "make it anew with `python -m rlvr_cpp.artifact`"


@dataclass(frozen=True, kw_only=True)
class AdapterMetadata:
    """Of one adapter. Plain data: JSON one to one."""

    base_model: str
    """Name of the base: a shipped model, a Hugging Face id or a folder. It tells a reader; `base_hash` decides."""
    base_hash: str
    """`policy.weights.weights_hash` of the base as it was loaded, quantized if it was."""
    base_dtype: str
    """Of the base's weights as they were loaded, such as `bfloat16`."""
    targets: tuple[str, ...]
    """Names of the adapted layers without their path, sorted."""
    rank: int
    alpha: float
    use_qlora: bool
    """Trained on a quantized base; then `quantization` says on which."""
    quantization: Mapping[str, Any] | None
    """None, or how the base was quantized: see `fit.quantization_of`."""
    training_method: TrainingMethod
    """LUSPO and DAPO are settings in `config`."""
    config: Mapping[str, Any]
    """The resolved settings of the run that made it; empty where it was no run of ours."""
    contract: Mapping[str, Any] | None
    """`tasks.reading.contract.answer_contract` of the verdicts it was trained on; None for a method without any."""
    parents: tuple[str, ...]
    """Adapter hashes of what it went on from or was combined of."""
    created: str
    """ISO 8601 in UTC."""
    files: Mapping[str, str]
    """SHA-256 of each file by its name."""
    adapter_meta_schema_version: int = ADAPTER_META_SCHEMA_VERSION
    adapter_artifact_schema_version: int = ADAPTER_ARTIFACT_SCHEMA_VERSION

    @property
    def artifact_id(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of all fields."""
        return hashlib.sha256(canonical_json(dataclasses.asdict(self)).encode()).hexdigest()

    @property
    def adapter_hash(self) -> str:
        """The hash of the weights' file, by which evaluations name the adapter."""
        return self.files[WEIGHTS_FILE]

    def to_json(self) -> str:
        """The content of `rlvr_adapter.json`."""
        fields = {"artifact_id": self.artifact_id, **dataclasses.asdict(self)}
        return json.dumps(fields, indent=2, allow_nan=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How an adapter came about."""

    training_method: TrainingMethod
    base_model: str | None = None
    """A name by which others find the base; None is the one that the model was loaded by."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved settings of the run; empty where it was no run of ours."""
    contract: Mapping[str, Any] | None = None
    """`tasks.reading.contract.answer_contract` of the verdicts it was trained on; None for a method without any."""
    parents: tuple[str, ...] = ()
    """Adapter hashes of what it went on from or was combined of."""


def write_peft_config(folder: Path, config: Mapping[str, Any]) -> None:
    """peft's configuration as a file: the same bytes for the same adapter, for a set of names has no order."""
    fields = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    (folder / CONFIG_FILE).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def write_metadata(
    folder: Path, provenance: Provenance, targets: tuple[str, ...], base: Mapping[str, Any]
) -> AdapterMetadata:
    """Describe peft's two files in a folder; `base` is what `fit.base_facts` says of the base.

    Raises UserError where the provenance does not go with the base's quantization.
    """
    config = json.loads((folder / CONFIG_FILE).read_text())
    metadata = AdapterMetadata(
        base_model=config["base_model_name_or_path"],
        base_hash=base["base_sha256"],
        base_dtype=base["base_dtype"],
        targets=targets,
        rank=config["r"],
        alpha=config["lora_alpha"],
        use_qlora=base["quantization"] is not None,
        quantization=base["quantization"],
        training_method=provenance.training_method,
        config=provenance.config,
        contract=provenance.contract,
        parents=provenance.parents,
        created=utc_now(),
        files={name: sha256_of(folder / name) for name in HASHED},
    )
    if problems := check_metadata(metadata):
        raise UserError(f"the adapter cannot be saved: {'; '.join(problems)}")
    (folder / METADATA_FILE).write_text(metadata.to_json())
    return metadata


def check_metadata(metadata: AdapterMetadata) -> list[str]:
    """What is wrong with the fields by themselves, the gate for quantized training included: that one is fail-closed.

    An adapter that was trained over 4-bit weights and does not say over which has an unknown base.
    """
    problems = []
    if metadata.training_method not in TRAINING_METHODS:
        problems.append(f"training_method is {metadata.training_method!r}, not one of {', '.join(TRAINING_METHODS)}")
    if metadata.rank < 1:
        problems.append(f"rank is {metadata.rank}, not at least 1")
    trained_quantized = metadata.use_qlora or _configured_quantization(metadata.config) is not None
    if trained_quantized and metadata.quantization is None:
        problems.append("quantization is missing although the adapter was trained on a quantized base")
    if metadata.quantization is not None and not metadata.use_qlora:
        problems.append("use_qlora is false although there is a quantization")
    if set(metadata.files) != set(HASHED):
        problems.append(f"files are {', '.join(metadata.files) or 'none'}, not {' and '.join(HASHED)}")
    return problems


def _configured_quantization(config: Mapping[str, Any]) -> Any:
    policy = config.get("policy")
    return policy.get("quantization") if isinstance(policy, Mapping) else None


def read_metadata(folder: Path) -> AdapterMetadata:
    """The metadata of the artifact in a folder, whose files are those that were written.

    Raises UserError where there is no artifact, where it has another schema, or where a file was changed.
    """
    path = folder / METADATA_FILE
    fields = _read(path)
    versions = {
        "adapter_meta_schema_version": ADAPTER_META_SCHEMA_VERSION,
        "adapter_artifact_schema_version": ADAPTER_ARTIFACT_SCHEMA_VERSION,
    }
    for name, known in versions.items():
        if fields.get(name) != known:
            raise UserError(f"{path}: {name} is {fields.get(name)!r}, and this version reads {known}: {REMAKE}")
    claimed = fields.pop("artifact_id", None)
    try:
        fields["targets"], fields["parents"] = tuple(fields["targets"]), tuple(fields["parents"])
        metadata = AdapterMetadata(**fields)
        problems = check_metadata(metadata)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not an adapter's metadata ({error}): {REMAKE}") from error
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}: {REMAKE}")
    if metadata.artifact_id != claimed:
        raise UserError(f"{path} was changed after it was written, its artifact_id is another's: {REMAKE}")
    check_files(folder, metadata)
    return metadata


def check_files(folder: Path, metadata: AdapterMetadata) -> None:
    """Raise UserError for files that are missing or have other bytes than they had."""
    missing = [name for name in HASHED if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: {' and '.join(missing)} missing, and nothing else is read as weights: {REMAKE}")
    changed = [name for name in HASHED if sha256_of(folder / name) != metadata.files[name]]
    if changed:
        raise UserError(f"{folder}: {' and '.join(changed)} changed after the artifact was made (SHA-256): {REMAKE}")


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} holds no adapter artifact, {path.name} is missing: {REMAKE}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): {REMAKE}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} is not an adapter's metadata: {REMAKE}")
    return fields
