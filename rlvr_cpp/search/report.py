"""What choosing among N was worth: a table, a curve over k, a page of Markdown, the same numbers in `run.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any

from rlvr_cpp.runs.console import console
from rlvr_cpp.runs.files import replace_text
from rlvr_cpp.runs.pages import BLUE, GREY, axes, markdown_table, print_table
from rlvr_cpp.runs.record import RunRecord, utc_now
from rlvr_cpp.runs.statistics import Estimate, PairedDifference, best_of_k, bootstrap_mean, paired_difference, pass_at_k
from rlvr_cpp.search.ranking import mean_by_rank
from rlvr_cpp.search.searched import Searched


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Rates over tasks, judged by hidden tests."""

    tasks: int
    """Tasks that count."""
    left_out: int
    """Tasks of which the infrastructure failed to judge the choice."""
    ended_early: int
    """Tasks whose search was ended by its budget; one without a finished candidate counts as failed."""
    pass_at_1: Estimate
    """Of one candidate: the mean over each task's candidates."""
    best_of_n: Estimate
    """Of the candidate that the public tests choose."""
    pass_at_n: Estimate
    """Of a perfect chooser: any candidate passes."""
    rise: PairedDifference | None
    """From pass_at_1 to best_of_n; None for less than two tasks."""
    by_k: tuple[tuple[int, float, float], ...]
    """`(k, best of k, pass@k)`, the unbiased means over all draws of k from the candidates."""
    length_by_rank: tuple[float, ...]
    """Mean length of the candidates, best first."""
    unscorable: int
    """Candidates that the infrastructure failed to judge, by either kind of test."""


def summarize(outcomes: Sequence[Searched]) -> Summary:
    """The rates of a run's outcomes; NaN where nothing counts."""
    counted = [values for outcome in outcomes if (values := ranked_passes(outcome)) is not None]
    single = [_mean(values) for values in counted]
    chosen = [values[0] for values in counted]
    most = min(map(len, counted), default=0)
    return Summary(
        tasks=len(counted),
        left_out=len(outcomes) - len(counted),
        ended_early=sum(outcome.found.ended == "budget" for outcome in outcomes),
        pass_at_1=_estimate(single),
        best_of_n=_estimate(chosen),
        pass_at_n=_estimate([max(values) for values in counted]),
        rise=paired_difference(single, chosen) if len(counted) > 1 else None,
        by_k=tuple(
            (
                k,
                _mean([best_of_k(values, k) for values in counted]),
                _mean([pass_at_k(len(values), round(sum(values)), k) for values in counted]),
            )
            for k in range(1, most + 1)
        ),
        length_by_rank=tuple(mean_by_rank([outcome.found.length_by_rank for outcome in outcomes])),
        unscorable=sum(outcome.found.unscorable + outcome.hidden.count(None) for outcome in outcomes),
    )


def ranked_passes(outcome: Searched) -> list[float] | None:
    """1 or 0 for each candidate whose hidden tests could be judged, best first; None where the choice could not be.

    Where no candidate was finished in time there is nothing to hand out, which is a failure: `[0.0]`.
    """
    order = outcome.found.order
    if not order:
        return [0.0]
    best = outcome.found.samples[order[0]]
    failed = best.result is not None and best.reward is None
    if failed or outcome.hidden[order[0]] is None:
        return None
    return [float(passed) for index in order if (passed := outcome.hidden[index]) is not None]


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else nan


def _estimate(values: Sequence[float]) -> Estimate:
    return bootstrap_mean(values) if values else Estimate(nan, nan, nan)


def report(outcomes: Sequence[Searched], record: RunRecord) -> float:
    """Print the table, write `report.md`, `best_of_n.png` and the record; returns best-of-N on hidden tests."""
    summary = summarize(outcomes)
    folder = record.folder
    record.add(measured=utc_now(), best_of_n=asdict(summary))
    if summary.by_k:
        plot(summary, folder / "best_of_n.png")
    page = folder / "report.md"
    replace_text(page, markdown(summary, record.fields))
    print_summary(summary, record.fields["config"]["n"])
    console.print(f"report: {page}", soft_wrap=True)
    return summary.best_of_n.mean


def rows(summary: Summary, n: int) -> list[tuple[str, Estimate]]:
    """The three rates with their names."""
    return [
        ("pass@1, mean of the candidates", summary.pass_at_1),
        (f"best of {n}, chosen by public tests", summary.best_of_n),
        (f"pass@{n}, a perfect choice", summary.pass_at_n),
    ]


def print_summary(summary: Summary, n: int) -> None:
    """The table that ends a run."""
    title = f"{summary.tasks} tasks, hidden tests, 95 % intervals"
    print_table(console, title, ("", "pass"), [(name, str(estimate)) for name, estimate in rows(summary, n)])
    for line in remarks(summary, n):
        console.print(line, soft_wrap=True)


def remarks(summary: Summary, n: int) -> list[str]:
    """Sentences below the table."""
    lines = []
    if (rise := summary.rise) is not None:
        span = f"{rise.mean:+.3f} [{rise.low:+.2f}, {rise.high:+.2f}]"
        lines.append(f"best of {n} - pass@1: {span}, paired permutation p {rise.p:.1g}")
    lengths = summary.length_by_rank
    if lengths:
        lines.append(f"mean length of the best {lengths[0]:.1f}, of the worst {lengths[-1]:.1f} characters of code")
    for count, what in (
        (summary.ended_early, "searches ended by their budget"),
        (summary.left_out, "tasks left out, for the infrastructure failed to judge the choice"),
        (summary.unscorable, "verdicts missing, for the infrastructure failed"),
    ):
        if count:
            lines.append(f"{count} {what}")
    return lines


def markdown(summary: Summary, record: dict[str, Any]) -> str:
    """The page."""
    config = record["config"]
    n = config["n"]
    lines = [
        f"# Best of {n} on {config['model']}, seed {record['seed']}",
        "",
        f"    {' '.join(record['command'])}",
        "",
        f"{record['started']}, {record['compiler']}; split {config['split']}, temperature {config['temperature']}; "
        f"{summary.tasks} tasks, judged by hidden tests, 95 % intervals by bootstrap over tasks.",
        "",
        *markdown_table(("", "pass"), [(name, str(estimate)) for name, estimate in rows(summary, n)]),
        "",
        *(f"- {line}" for line in remarks(summary, n)),
        "",
    ]
    if summary.by_k:
        by_k = [(str(k), f"{best:.3f}", f"{any_of:.3f}") for k, best, any_of in summary.by_k]
        lines += markdown_table(("k", "best of k", "pass@k"), by_k)
        lines += ["", "![best of k and pass@k](best_of_n.png)", ""]
    return "\n".join(lines)


def plot(summary: Summary, path: Path) -> None:
    """Hidden-test pass by the number of candidates: as chosen, and the bound that a perfect choice sets."""
    ks, best, any_of = zip(*summary.by_k, strict=True)
    with axes(path, (6, 3.8)) as (panel,):
        panel.plot(ks, any_of, "o-", color=GREY, label="pass@k: a perfect choice")
        panel.plot(ks, best, "o-", color=BLUE, label="best of k: chosen by public tests")
        panel.set(xlabel="k candidates", ylabel="passes hidden tests", ylim=(0, 1.02), xticks=ks)
        panel.legend(loc="lower right", frameon=False)
