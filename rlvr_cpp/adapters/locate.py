"""From the words for a model to its weights: which base, which adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rlvr_cpp.adapters.metadata import CONFIG_FILE, METADATA_FILE, WEIGHTS_FILE
from rlvr_cpp.errors import UserError, first_line
from rlvr_cpp.runs.files import sha256_of
from rlvr_cpp.runs.record import RUN_FILE, read_record

if TYPE_CHECKING:
    from rlvr_cpp.policy.policy import Policy


def find_weights(model: str, adapter: str | None) -> tuple[str, str | None]:
    """The base model and the adapter's folder, or None, that `model=` and `adapter_from=` stand for.

    Raises UserError where a folder holds neither, or where both bring an adapter.
    """
    found_model, own_adapter = _look_into(Path(model)) or (model, None)
    if adapter is None:
        return found_model, own_adapter
    if own_adapter is not None:
        raise UserError(
            f"adapter_from is {adapter!r} but model {model!r} has an adapter of its own: leave one of them out"
        )
    from rlvr_cpp.adapters.registry.lookup import find_adapter

    folder = find_adapter(adapter) if adapter.startswith("registry:") else Path(adapter)
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"adapter_from is {adapter!r}, which is no folder with an {CONFIG_FILE}: give one that is")
    return found_model, str(folder)


def _look_into(folder: Path) -> tuple[str, str | None] | None:
    """What a folder of ours says it holds; None for a plain model, in a folder or not."""
    if (folder / RUN_FILE).is_file():
        base, trained = str(read_record(folder)["config"]["model"]), folder / "adapter"
        if (trained / CONFIG_FILE).is_file():
            return base, str(trained)
        if (folder / "model" / "config.json").is_file():
            return str(folder / "model"), None
        raise UserError(f"model is {str(folder)!r}, a run that has saved no adapter and no model: go on with it first")
    if (folder / CONFIG_FILE).is_file():
        try:
            base = json.loads((folder / CONFIG_FILE).read_text())["base_model_name_or_path"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder / CONFIG_FILE} names no base ({error!r}): give model= and adapter_from="
            ) from error
        return str(base), str(folder)
    return None


def put_adapter_on(policy: Policy, folder: Path) -> str:
    """Put an adapter on the policy's model and return the SHA-256 of its weights' file.

    An artifact proves that it belongs on this base; a bare peft folder can only fit. Raises UserError where it does
    not.
    """
    if (folder / METADATA_FILE).is_file():
        from rlvr_cpp.adapters.artifact import load_adapter_artifact

        policy.model = load_adapter_artifact(policy.model, folder)
    else:
        from peft import PeftModel
        from safetensors import SafetensorError

        if not (folder / WEIGHTS_FILE).is_file():
            raise UserError(f"{folder} has no {WEIGHTS_FILE}: only adapters in safetensors are read")
        try:
            policy.model = PeftModel.from_pretrained(policy.model, str(folder))
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            reason = first_line(error)
            raise UserError(
                f"the adapter in {folder} cannot be put on the model ({reason}): give the model that it was trained on"
            ) from error
    return sha256_of(folder / WEIGHTS_FILE)
