"""The ending that a person looks at: a table in the terminal, a curve as PNG, one self-contained HTML page."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import matplotlib.pyplot as plt
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rlvr_cpp.evaluation.attempts import Attempt, Evaluation, ends
from rlvr_cpp.policy.completers import GREEDY, SAMPLED
from rlvr_cpp.runs.console import console
from rlvr_cpp.runs.evidence import task_scores
from rlvr_cpp.runs.statistics import Estimate, bootstrap_mean, mcnemar_p, pass_rate, sign_flip_p
from rlvr_cpp.tasks.task import Task

matplotlib.use("agg")

BLUE, GREEN, ORANGE, GREY = "#2563a8", "#2f855a", "#c05621", "#9aa5b1"


@dataclass(frozen=True)
class Comparison:
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


def compare(before: Evaluation, after: Evaluation) -> list[Comparison]:
    """Greedy pass@1 and, of n samples, pass@1 and pass@n; over the tasks that could be judged both times."""
    low, high = _common(task_scores(before.outcomes(GREEDY)), task_scores(after.outcomes(GREEDY)))
    first, second = list(map(bool, low)), list(map(bool, high))
    rows = [Comparison("greedy pass@1", pass_rate(first), pass_rate(second), mcnemar_p(first, second))]
    for k in ends(min(before.samples, after.samples)):
        low, high = _common(task_scores(before.outcomes(SAMPLED), k), task_scores(after.outcomes(SAMPLED), k))
        if low:
            name = "sampled pass@1" if k == 1 else f"pass@{k}"
            rows.append(Comparison(name, bootstrap_mean(low), bootstrap_mean(high), sign_flip_p(low, high)))
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
        (name, len(ids), sum(first[i] for i in ids) / len(ids), sum(second[i] for i in ids) / len(ids))
        for name, ids in sorted(families.items())
    ]


def print_comparison(rows: list[Comparison], families: list[tuple[str, int, float, float]]) -> None:
    """The two tables that end a run."""
    table = Table(title="Held-out tasks, hidden tests, 95 % intervals", title_justify="left", box=SIMPLE_HEAD)
    for column in ("", "before", "after", "rise", "paired p"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for row in rows:
        table.add_row(row.measure, str(row.before), str(row.after), f"{row.rise:+.3f}", format_p(row.p))
    console.print(table)
    table = Table(title="Greedy pass@1 by family", title_justify="left", box=SIMPLE_HEAD)
    for column in ("family", "tasks", "before", "after"):
        table.add_column(column, justify="left" if column == "family" else "right")
    for name, count, low, high in families:
        table.add_row(name, str(count), f"{low:.2f}", f"{high:.2f}")
    console.print(table)


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
    figure, axes = plt.subplots(figsize=(8, 4.2), dpi=150)
    numbers = [row["step"] for row in steps]
    for name, color, label in (
        ("compile_rate", GREY, "compiles (training)"),
        ("reward", BLUE, "reward (training)"),
        ("pass_rate", GREEN, "passes all tests (training)"),
    ):
        values = [math.nan if row[name] is None else row[name] for row in steps]
        axes.plot(numbers, values, color=color, alpha=0.25, linewidth=1)
        axes.plot(numbers, running_mean(values), color=color, label=label)
    axes.plot(*zip(*greedy, strict=True), "o-", color=ORANGE, label="greedy pass@1 (held out)")
    for k, line in zip(sorted({k for _, rates in sampled for k in rates}, key=int), (".--", ".:"), strict=False):
        measured = [(step, rates[k]) for step, rates in sampled if k in rates]
        axes.plot(*zip(*measured, strict=True), line, color=ORANGE, label=f"sampled pass@{k} (held out)")
    axes.set(xlabel="step", ylim=(0, 1.02), xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def running_mean(values: Sequence[float]) -> list[float]:
    """Each value's mean with its neighbours, three to each side where there are so many."""
    windows = (values[max(0, i - 3) : i + 4] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def pick_examples(tasks: list[Task], before: Evaluation, after: Evaluation, count: int) -> list[dict[str, Any]]:
    """Greedy completions of `count` tasks of different families: first those that began to pass, then others."""
    pairs = list(zip(tasks, before.of(GREEDY), after.of(GREEDY), strict=True))
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
    folder: Path, record: dict[str, Any], rows: list[Comparison], families: list[Any], examples: list[Any]
) -> Path:
    """`report.html` in the run folder, with the curve inside; it refers to nothing outside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"p": format_p, "fact": format_fact}
    page = environment.get_template("report.html.j2").render(
        record=record,
        active=record["results"]["active"],
        config=json.dumps(record["config"], indent=2),
        rows=rows,
        families=families,
        examples=examples,
        curve=base64.b64encode((folder / "curve.png").read_bytes()).decode(),
    )
    path = folder / "report.html"
    path.write_text(page)
    return path
