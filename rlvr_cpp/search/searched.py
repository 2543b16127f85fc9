"""One task's candidates and what the hidden tests say of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from rlvr_cpp.search.search import BestOfN, Sample
from rlvr_cpp.verifier.result import VerifyResult


@dataclass(frozen=True, kw_only=True)
class Searched:
    """One task's candidates and what the hidden tests say of them."""

    task_id: str
    prompt: str
    found: BestOfN
    hidden: tuple[bool | None, ...]
    """Of each sample: it passes every hidden test; None where the infrastructure failed."""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Searched:
        """What `to_json` wrote."""
        row = json.loads(line)
        samples = tuple(Sample(**{**sample, "result": _result(sample["result"])}) for sample in row["found"]["samples"])
        found = BestOfN(**{**row["found"], "samples": samples})
        return cls(task_id=row["task_id"], prompt=row["prompt"], found=found, hidden=tuple(row["hidden"]))


def _result(fields: dict[str, Any] | None) -> VerifyResult | None:
    return None if fields is None else VerifyResult.from_json(json.dumps(fields))
