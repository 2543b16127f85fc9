"""The adapter artifact of a finished training run: copied weights, and what the run noted of its base and its judge.

The run wrote down the contract of its verdicts and the hash of the base as it was loaded, so nothing is loaded again
here: neither a compiler nor torch is needed, and neither has to be the same as then.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from rlvr_cpp.adapters.layers import adapted_layers, ranks_of, require_one_scale, targets_of
from rlvr_cpp.adapters.metadata import (
    CONFIG_FILE,
    HASHED,
    WEIGHTS_FILE,
    AdapterMetadata,
    Provenance,
    write_metadata,
    write_peft_config,
)
from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import new_folder, sha256_of
from rlvr_cpp.runs.record import read_record

NOTED = ("contract", "base_sha256", "base_dtype", "quantization", "parents")
"""What a training run notes for its artifact when it begins."""


def save_run_artifact(run: Path, folder: Path) -> AdapterMetadata:
    """Write the artifact of the run in `run` to `folder`, all or nothing.

    Raises UserError where the run is not finished, trained no adapter, or does not say what the artifact needs.
    """
    record = read_record(run)
    config, noted, weights = record["config"], record["results"], run / "adapter"
    if (status := record.get("status")) != "finished":
        raise UserError(f"the run in {run} is {status}, not finished: go on with it by resume={run}")
    if not all((weights / name).is_file() for name in HASHED):
        raise UserError(f"the run in {run} trained no adapter: train one with adapter.enabled=true")
    if missing := [name for name in NOTED if name not in noted]:
        raise UserError(
            f"the run in {run} did not note {', '.join(missing)}: it is no training run of this version; train anew"
        )
    shapes = _shapes(weights / WEIGHTS_FILE)
    targets = targets_of(adapted_layers(shapes))
    peft_config = json.loads((weights / CONFIG_FILE).read_text())
    require_one_scale(ranks_of(shapes), peft_config)
    provenance = Provenance(
        training_method="gspo" if config["algorithm"]["ratio"] == "sequence" else "grpo",
        config=config,
        contract=noted["contract"],
        parents=tuple(noted["parents"]),
    )
    with new_folder(folder) as draft:
        shutil.copyfile(weights / WEIGHTS_FILE, draft / WEIGHTS_FILE)
        named = {"base_model_name_or_path": config["model"], "inference_mode": True}
        write_peft_config(draft, {**peft_config, **named})
        return write_metadata(draft, provenance, targets, noted)


def parents_of(start: str | None) -> list[str]:
    """The hash of the adapter in the folder that training goes on from; none for a fresh one."""
    weights = Path(start or "") / WEIGHTS_FILE
    return [sha256_of(weights)] if start and weights.is_file() else []


def _shapes(weights: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(weights, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{weights} is damaged ({error}): train anew") from error
