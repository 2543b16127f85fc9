"""The ending that a person looks at: a table in the terminal, a curve as PNG, one self-contained HTML page."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rlvr_cpp.evaluation.attempts import Attempt, Evaluation, ends
from rlvr_cpp.policy.completers import GREEDY, SAMPLED
from rlvr_cpp.runs.console import console
from rlvr_cpp.runs.evidence import task_scores
from rlvr_cpp.runs.files import replace_text
from rlvr_cpp.runs.pages import BLUE, GREEN, GREY, ORANGE, axes, print_table, render, smoothed
from rlvr_cpp.runs.statistics import Estimate, bootstrap_mean, mcnemar_p, pass_rate, sign_flip_p
from rlvr_cpp.tasks.task import Task


@dataclass(frozen=True)
class BeforeAfter:
    """Before and after on the same held-out tasks."""

    measure: str
    before: Estimate
    after: Estimate
    p: float
    """Paired and two-sided: exact McNemar for greedy, sign flips for sampled."""

    @property
    def rise(self) -> float:
        """After minus before."""
        return self.after.mean - self.before.mean


def compare(before: Evaluation, after: Evaluation) -> list[BeforeAfter]:
    """Greedy pass@1 and, of n samples, pass@1 and pass@n; over the tasks that could be judged both times."""
    low, high = _common(task_scores(before.outcomes(GREEDY)), task_scores(after.outcomes(GREEDY)))
    first, second = list(map(bool, low)), list(map(bool, high))
    rows = [BeforeAfter("greedy pass@1", pass_rate(first), pass_rate(second), mcnemar_p(first, second))]
    for k in ends(min(before.samples, after.samples)):
        low, high = _common(task_scores(before.outcomes(SAMPLED), k), task_scores(after.outcomes(SAMPLED), k))
        if low:
            name = "sampled pass@1" if k == 1 else f"pass@{k}"
            rows.append(BeforeAfter(name, bootstrap_mean(low), bootstrap_mean(high), sign_flip_p(low, high)))
    return rows


def _common(before: dict[str, float], after: dict[str, float]) -> tuple[list[float], list[float]]:
    """The values of the tasks that both know, in one order."""
    shared = [task_id for task_id in before if task_id in after]
    return [before[task_id] for task_id in shared], [after[task_id] for task_id in shared]


def by_family(tasks: list[Task], before: Evaluation, after: Evaluation) -> list[tuple[str, int, float, float]]:
    """Family (a task's first tag), tasks, greedy pass@1 before and after."""
    first, second = task_scores(before.outcomes(GREEDY)), task_scores(after.outcomes(GREEDY))
    families: dict[str, list[str]] = {}
    for task in tasks:
        if task.task_id in first and task.task_id in second:
            families.setdefault(task.tags[0] if task.tags else "tasks", []).append(task.task_id)
    return [
        (name, len(ids), fmean(first[i] for i in ids), fmean(second[i] for i in ids))
        for name, ids in sorted(families.items())
    ]


def print_comparison(rows: list[BeforeAfter], families: list[tuple[str, int, float, float]]) -> None:
    """The two tables that end a run."""
    print_table(
        console,
        "Held-out tasks, hidden tests, 95 % intervals",
        ("", "before", "after", "rise", "paired p"),
        [(row.measure, str(row.before), str(row.after), f"{row.rise:+.3f}", format_p(row.p)) for row in rows],
    )
    print_table(
        console,
        "Greedy pass@1 by family",
        ("family", "tasks", "before", "after"),
        [(name, str(count), f"{low:.2f}", f"{high:.2f}") for name, count, low, high in families],
    )


def print_examples(examples: list[dict[str, Any]]) -> None:
    """Completions before and after, as the terminal can show them."""
    for example in examples:
        console.rule(example["task_id"], align="left")
        console.print(example["prompt"], markup=False, end="")
        for when in ("before", "after"):
            console.print(f"  // {when}: {example[when]['outcome']}", style="bold", markup=False)
            console.print(example[when]["text"].rstrip("\n"), markup=False)


def format_p(p: float) -> str:
    """Two digits, or a bound where there is nothing to see."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def format_fact(value: Any) -> str:
    """A number with four digits at most, a list as its words."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def plot_curve(
    steps: list[dict[str, Any]],
    greedy: list[tuple[int, float]],
    sampled: list[tuple[int, dict[str, float]]],
    path: Path,
) -> None:
    """Training reward, compile and pass rate, step by step and smoothed, and held-out pass rates where measured.

    A reward that is None (a step without a scorable completion) leaves a gap.
    """
    numbers = [row["step"] for row in steps]
    with axes(path, (8, 4.2)) as (panel,):
        for name, color, label in (
            ("compile_rate", GREY, "compiles (training)"),
            ("reward", BLUE, "reward (training)"),
            ("pass_rate", GREEN, "passes all tests (training)"),
        ):
            known = {row["step"]: row[name] for row in steps if row[name] is not None}
            mean = smoothed(known)
            panel.plot(numbers, [known.get(step, math.nan) for step in numbers], color=color, alpha=0.25, linewidth=1)
            panel.plot(numbers, [mean.get(step, math.nan) for step in numbers], color=color, label=label)
        panel.plot(*zip(*greedy, strict=True), "o-", color=ORANGE, label="greedy pass@1 (held out)")
        for k, line in zip(sorted({k for _, rates in sampled for k in rates}, key=int), (".--", ".:"), strict=False):
            measured = [(step, rates[k]) for step, rates in sampled if k in rates]
            panel.plot(*zip(*measured, strict=True), line, color=ORANGE, label=f"sampled pass@{k} (held out)")
        panel.set(xlabel="step", ylim=(0, 1.02), xlim=(0, None))
        panel.legend(loc="lower right", frameon=False)


def pick_examples(tasks: list[Task], before: Evaluation, after: Evaluation, count: int) -> list[dict[str, Any]]:
    """Greedy completions of `count` tasks of different families: first those that began to pass, then others."""
    first, second = ({attempt.task_id: attempt for attempt in e.of(GREEDY)} for e in (before, after))
    pairs = [(t, first[t.task_id], second[t.task_id]) for t in tasks if t.task_id in first.keys() & second.keys()]
    changed = [pair for pair in pairs if not pair[1].result.passed and pair[2].result.passed]
    chosen: list[tuple[Task, Attempt, Attempt]] = []
    for pool in (changed, pairs):
        families = {task.tags[:1] for task, _, _ in chosen}
        for pair in pool:
            if pair not in chosen and pair[0].tags[:1] not in families and len(chosen) < count:
                chosen.append(pair)
                families.add(pair[0].tags[:1])
    return [
        {
            "task_id": task.task_id,
            "prompt": task.prompt,
            "before": {"text": first.completion, "outcome": outcome(first), "passed": first.result.passed},
            "after": {"text": second.completion, "outcome": outcome(second), "passed": second.result.passed},
        }
        for task, first, second in chosen
    ]


def outcome(attempt: Attempt) -> str:
    """In words: how many tests passed, or what went wrong."""
    result = attempt.result
    if result.status in ("ok", "wrong"):
        return f"{result.tests_passed} of {result.tests_total} hidden tests pass"
    return result.status.replace("_", " ")


def write_report(
    folder: Path, record: dict[str, Any], rows: list[BeforeAfter], families: list[Any], examples: list[Any]
) -> Path:
    """`report.html` in the run folder, with the curve inside; it refers to nothing outside."""
    page = render(
        Path(__file__).with_name("report.html.j2"),
        record=record,
        active=record["results"]["active"],
        config=json.dumps(record["config"], indent=2),
        rows=rows,
        families=families,
        examples=examples,
        curve=base64.b64encode((folder / "curve.png").read_bytes()).decode(),
        format_p=format_p,
        format_fact=format_fact,
    )
    path = folder / "report.html"
    replace_text(path, page)
    return path
