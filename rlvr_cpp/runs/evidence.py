"""The evidence that one evaluation leaves: what was measured on what, under which rules, and each task's outcome.

A number is believed, and an adapter promoted, on two of these. A record therefore holds no rates, which anyone can
compute from the outcomes, but what makes two of them comparable: the benchmark's content, the verifier's contract, the
decoding. Its id is the hash of all of that, so a record that was edited is no record.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import canonical_json, contract_hash, differing_fields, replace_text
from rlvr_cpp.runs.statistics import pass_at_k

EVIDENCE_FILE = "evaluation.json"
SCHEMA_VERSION = 1
PASS: Final = "PASS"
INVALID: Final = "INVALID"
Outcomes = Mapping[str, tuple[bool | None, ...]]
"""By task id, one for each completion: did it pass every test; None where the infrastructure failed to judge it."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How completions were drawn. Of those that were written elsewhere only their number is known."""

    temperature: float | None
    """Of the sampled completions."""
    max_new_tokens: int | None
    samples: int
    """Sampled completions of each task; 0 has none."""
    greedy: bool
    """Whether there is a greedy completion of each task as well."""
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """One evaluation of one model on one benchmark. Plain data: `save` and `load` are inverse."""

    benchmark: str
    """Its name, such as `humaneval_cpp`."""
    benchmark_hash: str
    """SHA-256 over the content of every problem: prompts, tests, standards, ids."""
    split: Literal["hidden", "public"]
    """`hidden`: judged by tests that no reward has seen; `public`: by the tests that a reward may have seen."""
    contract: Mapping[str, Any]
    """See `tasks.reading.contract.answer_contract`."""
    contract_hash: str
    model: str
    """A Hugging Face id, a folder, an endpoint's model, a file of completions, or `canonical` and `negated`."""
    model_hash: str | None
    """`checkpoints.weights_hash` of the model before an adapter is put on it; None where there are no weights to see
    (an endpoint, replayed solutions, completions of a file)."""
    adapter: str | None
    """Where the adapter came from; None without one."""
    adapter_hash: str | None
    """SHA-256 of the file `adapter_model.safetensors`; None without an adapter."""
    decoding: Decoding
    prompt_format: Literal["completion", "chat"]
    packages: Mapping[str, str]
    git_commit: str | None
    created: str
    """ISO 8601 in UTC."""
    status: Literal["PASS", "INVALID"]
    """`PASS`, or `INVALID`: the outcomes are kept, and no number may be quoted from them."""
    reason: str | None
    """Why it is `INVALID`; None where it is `PASS`."""
    greedy: Outcomes
    """One outcome for each task; empty where nothing was decoded greedily."""
    samples: Outcomes
    """`decoding.samples` outcomes for each task; empty where nothing was sampled."""
    prefix_frac: float = 0.0
    """The share of the solution that stood in the prompt. An evaluation gives none."""
    schema_version: int = SCHEMA_VERSION

    @property
    def record_id(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of everything in the record."""
        return hashlib.sha256(canonical_json(dataclasses.asdict(self)).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the record and its id as JSON, all or nothing."""
        fields = {"record_id": self.record_id, **dataclasses.asdict(self)}
        replace_text(path, json.dumps(fields, indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> EvaluationRecord:
        """What `save` wrote.

        Raises UserError where there is no such record, where it has another schema, or where it was changed: its
        content does not have the id, or its contract not the hash, that stand in it.
        """
        fields = _read(path)
        try:
            claimed = fields.pop("record_id")
            if fields["schema_version"] != SCHEMA_VERSION:
                raise UserError(
                    f"{path}: schema_version is {fields['schema_version']!r}: this version reads {SCHEMA_VERSION}; "
                    "evaluate again"
                )
            fields["decoding"] = Decoding(**fields["decoding"])
            for name in ("greedy", "samples"):
                fields[name] = {task_id: tuple(outcomes) for task_id, outcomes in fields[name].items()}
            record = cls(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not an evaluation record ({error}): give an evaluation.json") from error
        if record.record_id != claimed or contract_hash(record.contract) != record.contract_hash:
            raise UserError(
                f"{path}: record_id is {str(claimed)[:12]!r}... but the content has the id "
                f"{record.record_id[:12]!r}...: it was changed after it was written; evaluate again"
            )
        return record


def task_scores(outcomes: Outcomes, k: int = 1) -> dict[str, float]:
    """By task id: pass@k over the completions that were judged; a task with fewer than k of them has none."""
    judged = {task_id: [passed for passed in row if passed is not None] for task_id, row in outcomes.items()}
    return {task_id: pass_at_k(len(row), sum(row), k) for task_id, row in judged.items() if len(row) >= k}


def obstacles(first: EvaluationRecord, second: EvaluationRecord) -> list[str]:
    """Why the numbers of two records must not be compared, each as `field: value and value`; empty where they may.

    What is compared may differ (model, adapter, prompt format, decoding); what it is measured by may not.
    """
    found = [
        f"{name}: {getattr(first, name)!r} and {getattr(second, name)!r}"
        for name in ("benchmark", "benchmark_hash", "split", "prefix_frac")
        if getattr(first, name) != getattr(second, name)
    ]
    found += [f"contract {field}" for field in differing_fields(first.contract, second.contract)]
    return found + [f"status: {record.status} ({record.reason})" for record in (first, second) if record.status != PASS]


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as an evaluation record ({error}): give an evaluation.json") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} is not an evaluation record: give an evaluation.json")
    return fields
