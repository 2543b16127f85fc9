"""The adapter artifact of a finished training run: its weights, and on which base, how and under which judge they came.

The base is loaded once more, for its weights' hash, and compared with what the run measured its KL against. What
cannot be told for certain any more is refused, not guessed: another compiler on this machine, a base that changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from rlvr_cpp.adapters.artifact import Provenance, put_on, read_peft_files, save_adapter_artifact
from rlvr_cpp.adapters.metadata import HASHED, WEIGHTS_FILE, AdapterMetadata
from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.policy import load_policy
from rlvr_cpp.policy.weights import weights_hash
from rlvr_cpp.runs.files import sha256_of
from rlvr_cpp.runs.record import read_record
from rlvr_cpp.training.checks import load
from rlvr_cpp.training.config import TrainingJob
from rlvr_cpp.verifier.contract import verifier_contract
from rlvr_cpp.verifier.verifier import open_verifier


def save_run_artifact(run: Path, folder: Path) -> AdapterMetadata:
    """Write the artifact of the run in `run` to `folder`, all or nothing.

    Raises UserError where the run is not finished, trained no adapter, or its base or compiler is not what it was.
    """
    record = read_record(run)
    if record["status"] != "finished":
        raise UserError(f"the run in {run} is {record['status']}, not finished: go on with it by resume={run}")
    job = load(record["config"])
    weights = run / "adapter"
    if not job.adapter.enabled or not all((weights / name).is_file() for name in HASHED):
        raise UserError(f"the run in {run} trained no adapter: train one with adapter.enabled=true")
    if folder.exists():
        raise UserError(f"{folder} exists already: give a folder that does not")
    provenance = Provenance(
        training_method="gspo" if job.algorithm.ratio == "sequence" else "grpo",
        base_model=job.model,
        config=record["config"],
        contract=_contract(job, record["compiler"]),
        parents=_parents(job.adapter.start),
    )
    config, tensors = read_peft_files(weights, {name: sha256_of(weights / name) for name in HASHED})
    config.inference_mode = True
    model = put_on(load_policy(job.model, job.policy).model, config, tensors, "default")
    _check_base(model, job, record["results"].get("reference_sha256"))
    return save_adapter_artifact(model, folder, provenance)


def _parents(start: str | None) -> tuple[str, ...]:
    if start is None:
        return ()
    path = Path(start) / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"adapter.start of the run is {start!r}, where there is no {path.name} any more: put it back")
    return (sha256_of(path),)


def _contract(job: TrainingJob, compiler: str) -> dict[str, Any]:
    """The contract of the run's verdicts, which can be told as long as the compiler is the same."""
    with open_verifier(job.verifier, job.sandbox.require) as verifier:
        if verifier.version != compiler:
            raise UserError(
                f"the run was judged by {compiler!r}, but {job.verifier.compiler} here is {verifier.version!r}: make "
                "the artifact where that compiler is"
            )
        return verifier_contract(verifier)


def _check_base(model: PeftModel, job: TrainingJob, reference: str | None) -> None:
    """Raise UserError where the base is not the one that KL was measured against; without KL nobody knows."""
    if reference is None or job.adapter.start is not None:
        return
    here = weights_hash((name, p) for name, p in model.named_parameters() if ".lora_" not in name)
    if here != reference:
        raise UserError(
            f"model {job.model!r} has other weights now than in the run (hash {here[:12]}, was {reference[:12]}): put "
            "the model back that the run was started with"
        )
