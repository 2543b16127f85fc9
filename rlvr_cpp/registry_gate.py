"""May this adapter replace that one: the rule by which a version becomes active, on two evaluation records.

The new one has to be measured on the same problems, by hidden tests, under the same verifier contract and decoding as
what it replaces, and the 95 % interval of the paired difference must not reach below -delta. Who replaces nothing has
to beat the base model. Everything that speaks against it is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rlvr_cpp.contract import differing_fields
from rlvr_cpp.evaluation_record import PASS, EvaluationRecord, Outcomes
from rlvr_cpp.registry_versions import Version

if TYPE_CHECKING:
    from rlvr_cpp.statistics import PairedDifference

MAX_UNSCORABLE = 0.05
"""Share of the tasks that the infrastructure may have failed to judge in either record."""


@dataclass(frozen=True)
class Rule:
    """What a promotion asks for."""

    min_tasks: int = 50
    """Tasks that both records judged."""
    delta: float = 0.0
    """How far the interval of the difference may reach below 0."""


DEFAULT_RULE = Rule()


@dataclass(frozen=True)
class Comparison:
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
    problems = [*_identity(version, incumbent, new, old), *_validity(new, old), *comparability(new, old)]
    measured = compare_records(new, old)
    if not measured:
        problems.append("the records share neither sampled nor greedy outcomes of a task")
    for place, (measure, comparison) in enumerate(measured.items()):
        worse = _against_base if incumbent is None else _against_incumbent
        found = worse(comparison, rule) if place == 0 else _beside(comparison)
        problems += [f"{problem}: {measure} {comparison}" for problem in found]
    evidence = {
        "new": new.record_id,
        "old": old.record_id,
        "benchmark": new.benchmark,
        "rule": asdict(rule),
        "measured": {measure: comparison.facts() for measure, comparison in measured.items()},
    }
    return Decision(tuple(problems), evidence)


def _identity(version: Version, incumbent: Version | None, new: EvaluationRecord, old: EvaluationRecord) -> list[str]:
    """Are these the records of these adapters on this base?"""
    replaced = "the base model without an adapter" if incumbent is None else incumbent.name
    expected = None if incumbent is None else incumbent.adapter_hash
    found = {
        f"adapter_hash of the evidence is not that of {version.name}": new.adapter_hash != version.adapter_hash,
        f"model_hash of the evidence is not the base of {version.name}": new.model_hash != version.base_hash,
        f"adapter_hash of what it is compared with is not that of {replaced}": old.adapter_hash != expected,
        f"model_hash of what it is compared with is not the base of {version.name}": old.model_hash
        != version.base_hash,
    }
    return [problem for problem, holds in found.items() if holds]


def _validity(new: EvaluationRecord, old: EvaluationRecord) -> list[str]:
    """Is each record one that a number may be quoted from?"""
    problems = []
    for label, record in (("the evidence", new), ("what it is compared with", old)):
        if record.status != PASS:
            problems.append(f"{label} is {record.status} ({record.reason})")
        if record.split != "hidden":
            problems.append(f"{label} was judged by {record.split} tests, not by hidden ones")
        if record.prefix_frac != 0:
            problems.append(f"{label} was measured with prefix_frac {record.prefix_frac:g}, not 0")
        share = unscorable_share(record)
        if share > MAX_UNSCORABLE:
            problems.append(f"{share:.0%} of the outcomes in {label} were not judged, more than {MAX_UNSCORABLE:.0%}")
    return problems


def comparability(new: EvaluationRecord, old: EvaluationRecord) -> list[str]:
    """Do both say what they say of the same problems, under the same rules?"""
    problems = []
    if new.benchmark_hash != old.benchmark_hash:
        problems.append(
            f"benchmark_hash differs ({new.benchmark} {new.benchmark_hash[:12]} and {old.benchmark} "
            f"{old.benchmark_hash[:12]})"
        )
    if new.contract_hash != old.contract_hash:
        problems.append(f"the verifier contract differs ({'; '.join(differing_fields(new.contract, old.contract))})")
    here, there = _decoding(new), _decoding(old)
    if here != there:
        problems.append(f"the decoding differs ({'; '.join(differing_fields(here, there))})")
    return problems


def _decoding(record: EvaluationRecord) -> Mapping[str, Any]:
    return {
        "temperature": record.decoding.temperature,
        "max_new_tokens": record.decoding.max_new_tokens,
        "prompt_format": record.prompt_format,
    }


def _against_incumbent(comparison: Comparison, rule: Rule) -> list[str]:
    low = comparison.difference.low
    return _too_few(comparison, rule) + ([f"the interval reaches below {-rule.delta:g}"] if low < -rule.delta else [])


def _against_base(comparison: Comparison, rule: Rule) -> list[str]:
    better = comparison.difference.mean > 0
    return _too_few(comparison, rule) + ([] if better else ["it does not beat the base model"])


def _beside(comparison: Comparison) -> list[str]:
    """Of a measure that does not decide: it must not be worse beyond chance."""
    return ["it is worse"] if comparison.difference.high < 0 else []


def _too_few(comparison: Comparison, rule: Rule) -> list[str]:
    tasks = comparison.difference.tasks
    return (
        [f"the {tasks} tasks that both judged are fewer than min_tasks {rule.min_tasks}"]
        if tasks < rule.min_tasks
        else []
    )


def compare_records(new: EvaluationRecord, old: EvaluationRecord) -> dict[str, Comparison]:
    """By measure, over the tasks that both judged; a measure without any is left out.

    The first one decides: sampled pass@1, which has less noise, where both have two samples or more of each task.
    """
    from rlvr_cpp.statistics import paired_difference  # scipy: a second that nothing else here has to wait

    values = {"greedy pass@1": (task_values(old.greedy), task_values(new.greedy))}
    if min(new.decoding.samples, old.decoding.samples) >= 2:
        values = {"sampled pass@1": (task_values(old.samples), task_values(new.samples)), **values}
    measured = {}
    for measure, (there, here) in values.items():
        shared = sorted(there.keys() & here.keys())
        if shared:
            first, second = [there[i] for i in shared], [here[i] for i in shared]
            measured[measure] = Comparison(fmean(first), fmean(second), paired_difference(first, second))
    return measured


def task_values(outcomes: Outcomes) -> dict[str, float]:
    """By task, the share of the judged completions that passed; a task without any is left out."""
    judged = {task_id: [passed for passed in row if passed is not None] for task_id, row in outcomes.items()}
    return {task_id: sum(passed) / len(passed) for task_id, passed in judged.items() if passed}


def unscorable_share(record: EvaluationRecord) -> float:
    """Of all completions."""
    outcomes = [x for rows in (record.greedy, record.samples) for row in rows.values() for x in row]
    return sum(x is None for x in outcomes) / len(outcomes) if outcomes else 0.0
