"""May this adapter replace that one: the rule by which a version becomes active, on two evaluation records.

The new one has to be measured on the same problems, by hidden tests, under the same verifier contract and decoding as
what it replaces, and the 95 % interval of the paired difference must not reach below -delta. Who replaces nothing has
to beat the base model. Everything that speaks against it is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from rlvr_cpp.adapters.registry.versions import Version
from rlvr_cpp.runs.evidence import EvaluationRecord, obstacles, task_scores
from rlvr_cpp.runs.files import differing_fields
from rlvr_cpp.runs.statistics import PairedDifference, paired_difference


@dataclass(frozen=True)
class Rule:
    """What a promotion asks for."""

    min_tasks: int = 50
    """Tasks that both records judged."""
    delta: float = 0.0
    """How far the interval of the difference may reach below 0."""


DEFAULT_RULE = Rule()


@dataclass(frozen=True)
class PairedMeasure:
    """One measure of two records, over the tasks that both judged."""

    old: float
    new: float
    difference: PairedDifference
    """New minus old."""

    def facts(self) -> dict[str, float]:
        """For the audit log."""
        d = self.difference
        return {
            "tasks": d.tasks,
            "old": self.old,
            "new": self.new,
            "difference": d.mean,
            "low": d.low,
            "high": d.high,
            "p": d.p,
        }

    def __str__(self) -> str:
        d = self.difference
        return f"{self.old:.3f} -> {self.new:.3f}, {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}] on {d.tasks} tasks"


@dataclass(frozen=True)
class Decision:
    """What two records say about a promotion."""

    problems: tuple[str, ...]
    """Why not; empty where it may be promoted."""
    evidence: dict[str, Any]
    """What the audit log keeps: ids of the records, and by measure what they say."""


def decide(
    version: Version, incumbent: Version | None, new: EvaluationRecord, old: EvaluationRecord, rule: Rule
) -> Decision:
    """Put a version to the rule: `new` is its record, `old` the incumbent's, or the base model's without one."""
    incomparable = comparability(new, old)
    measured = {} if incomparable else compare_records(new, old)
    problems = [*_identity(version, incumbent, new, old), *incomparable, *_conditions(new)]
    if not incomparable:
        problems += _results(measured, incumbent, rule)
    evidence = {
        "new": new.record_id,
        "old": old.record_id,
        "benchmark": new.benchmark,
        "rule": asdict(rule),
        "measured": {measure: paired.facts() for measure, paired in measured.items()},
    }
    return Decision(tuple(problems), evidence)


def _identity(version: Version, incumbent: Version | None, new: EvaluationRecord, old: EvaluationRecord) -> list[str]:
    """Are these the records of these adapters on this base?"""
    replaced = "no adapter, the base alone" if incumbent is None else incumbent.name
    expected = {
        f"adapter_hash of the evidence is not that of {version.name}": (new.adapter_hash, version.adapter_hash),
        f"model_hash of the evidence is not the base of {version.name}": (new.model_hash, version.base_hash),
        f"adapter_hash of what it is held against is not that of {replaced}": (
            old.adapter_hash,
            None if incumbent is None else incumbent.adapter_hash,
        ),
        f"model_hash of what it is held against is not the base of {version.name}": (old.model_hash, version.base_hash),
    }
    return [problem for problem, (found, wanted) in expected.items() if found != wanted]


def _conditions(new: EvaluationRecord) -> list[str]:
    found = {"split": new.split, "prefix_frac": new.prefix_frac}
    wanted = {"split": "hidden", "prefix_frac": 0}
    return [f"{name} is {found[name]!r}, not {wanted[name]!r}" for name in found if found[name] != wanted[name]]


def comparability(new: EvaluationRecord, old: EvaluationRecord) -> list[str]:
    """What keeps the two from saying something of the same problems, asked and judged in the same way."""
    here, there = _decoding(new), _decoding(old)
    return [*obstacles(new, old), *(f"decoding {field}" for field in differing_fields(here, there))]


def _decoding(record: EvaluationRecord) -> Mapping[str, Any]:
    return {
        "temperature": record.decoding.temperature,
        "max_new_tokens": record.decoding.max_new_tokens,
        "prompt_format": record.prompt_format,
    }


def _results(measured: Mapping[str, PairedMeasure], incumbent: Version | None, rule: Rule) -> list[str]:
    """The first measure decides; no other may be worse beyond chance."""
    if not measured:
        return ["the records share no outcome of a task"]
    problems = []
    for place, (measure, paired) in enumerate(measured.items()):
        difference = paired.difference
        failed = {
            f"fewer than min_tasks {rule.min_tasks}": difference.tasks < rule.min_tasks,
            "not better than the base": place == 0 and incumbent is None and difference.mean <= 0,
            f"the interval reaches below {0 - rule.delta:g}": place == 0
            and incumbent is not None
            and difference.low < -rule.delta,
            "worse beyond chance": place > 0 and difference.high < 0,
        }
        problems += [f"{what}: {measure} {paired}" for what, holds in failed.items() if holds]
    return problems


def compare_records(new: EvaluationRecord, old: EvaluationRecord) -> dict[str, PairedMeasure]:
    """By measure, over the tasks that both judged; a measure without any is left out.

    The first one decides: sampled pass@1, which has less noise, where both have two samples or more of each task.
    """
    values = {"greedy pass@1": (task_scores(old.greedy), task_scores(new.greedy))}
    if min(new.decoding.samples, old.decoding.samples) >= 2:
        values = {"sampled pass@1": (task_scores(old.samples), task_scores(new.samples)), **values}
    measured = {}
    for measure, (there, here) in values.items():
        shared = sorted(there.keys() & here.keys())
        if shared:
            first, second = [there[i] for i in shared], [here[i] for i in shared]
            measured[measure] = PairedMeasure(fmean(first), fmean(second), paired_difference(first, second))
    return measured
