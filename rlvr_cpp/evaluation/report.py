"""What an evaluation says: tables in the terminal, a page of Markdown, a page of HTML, all from the same numbers.

Greedy pass@1 is one yes or no a task and has Wilson's interval. pass@k is one number a task and has a bootstrap's. What
could not be judged is told apart from both.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rlvr_cpp.evaluation.attempts import Evaluation
from rlvr_cpp.policy.completers import GREEDY, SAMPLED
from rlvr_cpp.runs.console import console
from rlvr_cpp.runs.evidence import PASS, Decoding, EvaluationRecord, Outcomes, task_scores
from rlvr_cpp.runs.files import replace_text
from rlvr_cpp.runs.pages import print_table, render
from rlvr_cpp.runs.statistics import Estimate, bootstrap_mean, pass_rate
from rlvr_cpp.tasks.benchmarks import difficulty_of
from rlvr_cpp.tasks.shapes import DIFFICULTY
from rlvr_cpp.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of an evaluation."""

    name: str
    """`greedy pass@1`, or `pass@k` of the samples."""
    tasks: int
    """Over how many: all that were judged often enough."""
    passed: float
    """The sum over tasks: a whole number for greedy."""
    estimate: Estimate


@dataclass(frozen=True)
class Group:
    """The tasks that have something in common."""

    name: str
    tasks: int
    rates: tuple[float | None, ...]
    """The mean of each measure; None where no task of the group has it."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that is shown."""

    measures: tuple[Measure, ...]
    difficulties: tuple[Group, ...]
    """Empty where the problems tell none."""
    tags: tuple[Group, ...]
    endings: tuple[tuple[str, int], ...]
    """How often each status came up, the most frequent first."""
    unscorable: int
    """Attempts that the infrastructure failed to judge; they are in no number above but the endings."""


Scores = tuple[str, dict[str, float]]
"""A measure's name and its value by task."""


def scores_of(greedy: Outcomes, samples: Outcomes, ks: Sequence[int]) -> list[Scores]:
    """Every measure of these outcomes."""
    found = [("greedy pass@1", task_scores(greedy))] if greedy else []
    return found + [(f"pass@{k}", task_scores(samples, k)) for k in ks if samples]


def summarize(evaluation: Evaluation, tasks: Sequence[Task], ks: Sequence[int]) -> Summary:
    """The numbers of an evaluation of these tasks."""
    scores = scores_of(evaluation.outcomes(GREEDY), evaluation.outcomes(SAMPLED), ks)
    known = {task.task_id: difficulty for task in tasks if (difficulty := difficulty_of(task)) is not None}
    tags = {task.task_id: [tag for tag in task.tags if not tag.startswith(DIFFICULTY)] for task in tasks}
    return Summary(
        measures=tuple(_measure(name, values) for name, values in scores),
        difficulties=_groups(scores, {task_id: [difficulty] for task_id, difficulty in known.items()}),
        tags=_groups(scores, tags),
        endings=tuple(Counter(attempt.result.status for attempt in evaluation.attempts).most_common()),
        unscorable=evaluation.unscorable,
    )


def _measure(name: str, scores: dict[str, float]) -> Measure:
    values = list(scores.values())
    is_greedy = name.startswith(GREEDY)
    estimate = pass_rate([bool(value) for value in values]) if is_greedy or not values else bootstrap_mean(values)
    return Measure(name=name, tasks=len(values), passed=sum(values), estimate=estimate)


def _groups(scores: Sequence[Scores], names: dict[str, list[str]]) -> tuple[Group, ...]:
    """The tasks by each of their names."""
    members: dict[str, list[str]] = {}
    for task_id, own in names.items():
        for name in own:
            members.setdefault(name, []).append(task_id)
    return tuple(
        Group(name, len(ids), tuple(_rate([values[i] for i in ids if i in values]) for _, values in scores))
        for name, ids in sorted(members.items())
    )


def _rate(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def print_summary(summary: Summary, record: EvaluationRecord) -> None:
    """The tables that end an evaluation."""
    title = f"{record.model} on {record.benchmark}, {record.split} tests, 95 % intervals"
    print_table(
        console,
        title,
        ("", "passed", "tasks", "pass rate"),
        [(row.name, format_count(row.passed), str(row.tasks), str(row.estimate)) for row in summary.measures],
    )
    for name, groups in (("difficulty", summary.difficulties), ("tag", summary.tags)):
        if groups:
            print_table(
                console,
                f"By {name}",
                (name, "tasks", *(row.name for row in summary.measures)),
                [(group.name, str(group.tasks), *map(format_rate, group.rates)) for group in groups],
            )
    endings = ", ".join(f"{status.replace('_', ' ')} {count}" for status, count in summary.endings)
    console.print(f"endings: {endings}", soft_wrap=True)
    if record.status != PASS:
        console.print(f"{record.status}: {record.reason}", style="yellow", markup=False, soft_wrap=True)


def format_count(passed: float) -> str:
    """A whole number where it is one, else one digit more."""
    return f"{passed:.0f}" if passed == round(passed) else f"{passed:.1f}"


def format_rate(rate: float | None) -> str:
    """Three digits, or a dash where there is nothing."""
    return "-" if rate is None else f"{rate:.3f}"


def write_pages(folder: Path, summary: Summary, record: EvaluationRecord, command: Sequence[str]) -> Path:
    """`report.md` and `report.html` in the folder; returns the latter's path."""
    facts = _facts(record, command)
    for name in ("report.md", "report.html"):
        path = folder / name
        page = render(
            Path(__file__).with_name(f"{name}.j2"),
            summary=summary,
            record=record,
            facts=facts,
            format_count=format_count,
            format_rate=format_rate,
        )
        replace_text(path, page)
    return path


def _facts(record: EvaluationRecord, command: Sequence[str]) -> dict[str, Any]:
    """What makes the numbers believable, by name."""
    decoding = record.decoding
    return {
        "record": record.record_id,
        "model": record.model,
        "model sha256": record.model_hash or "not known",
        "adapter": record.adapter or "none",
        "adapter sha256": record.adapter_hash or "none",
        "benchmark": record.benchmark,
        "benchmark sha256": record.benchmark_hash,
        "tests": record.split,
        "prompts": record.prompt_format,
        "greedy": "one completion of each task" if decoding.greedy else "none",
        "samples": f"{decoding.samples} of each task" + _drawn(decoding) if decoding.samples else "none",
        "tokens": "not known" if decoding.max_new_tokens is None else f"at most {decoding.max_new_tokens}",
        "judge": ", ".join(f"{name.replace('_', ' ')} {_words(value)}" for name, value in record.contract.items()),
        "made": record.created,
        "command": " ".join(command),
        "git commit": record.git_commit or "not a checkout",
        "packages": ", ".join(f"{name} {version}" for name, version in record.packages.items()),
    }


def _drawn(decoding: Decoding) -> str:
    if decoding.temperature is None:
        return ", written elsewhere"
    return f", temperature {decoding.temperature:g}, seed {decoding.seed}"


def _words(value: Any) -> str:
    return (
        " ".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else json.dumps(value)
    )
