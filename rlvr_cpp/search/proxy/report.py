"""How good a proxy verifier's guesses are, on tasks that it was not trained on.

Ranking (AUROC), probabilities (Brier score, expected calibration error) and decisions (agreement with the real verifier
at 0.5) are three questions. Programs of one task resemble each other, so every interval is a bootstrap over tasks.
1,000 resamples of scikit-learn's `roc_auc_score` and `brier_score_loss` take eight seconds, of the same sums here half
a second; its `calibration_curve` does not tell how many programs a bin holds, which the calibration error needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from rlvr_cpp.runs.files import replace_text
from rlvr_cpp.runs.pages import BLUE, GREY, axes
from rlvr_cpp.runs.statistics import Estimate, Rows, cohen_kappa, over_tasks
from rlvr_cpp.search.proxy.data import Target, Verified, label
from rlvr_cpp.search.proxy.model import Floats, Proxy

BINS = 10
THRESHOLD = 0.5
Labels = npt.NDArray[np.bool_]
Statistic = Callable[[Labels, Floats], float]
"""Of which programs really do, and their probabilities."""


@dataclass(frozen=True)
class Bin:
    """Programs whose probabilities are close together."""

    predicted: float
    """Mean probability."""
    observed: float
    """The share that really does."""
    programs: int


@dataclass(frozen=True, kw_only=True)
class ProxyReport:
    """What a proxy is worth on held-out tasks."""

    target: Target
    programs: int
    tasks: int
    base_rate: float
    """The share of programs that really do: what a constant guess knows."""
    auroc: Estimate
    brier: Estimate
    """Mean squared error of the probabilities."""
    brier_of_base_rate: float
    """Of a constant guess."""
    calibration_error: float
    """Expected calibration error over ten bins of equal width."""
    agreement: Estimate
    """The share of guesses at 0.5 that are the real verifier's verdict."""
    kappa: Estimate
    """Cohen's: the same beyond chance."""
    chosen: float
    """The share of tasks whose program with the highest probability really does."""
    reliability: tuple[Bin, ...]


def measure(proxy: Proxy, programs: Sequence[Verified], seed: int = 0) -> ProxyReport:
    """Score programs and compare with their verdicts. Raises UserError where these are all alike."""
    truth = np.array(label(programs, proxy.target))
    scores = proxy.score([program.code for program in programs])
    tasks: dict[str, list[int]] = {}
    for index, program in enumerate(programs):
        tasks.setdefault(program.task_id, []).append(index)
    rows = [np.array(indices) for indices in tasks.values()]

    def estimate(statistic: Statistic) -> Estimate:
        def of_rows(drawn: Rows) -> float:
            really = truth[drawn]
            is_alike = really.all() or not really.any()  # then some statistics do not exist, and no other counts
            return nan if is_alike else statistic(really, scores[drawn])

        return over_tasks(of_rows, rows, seed)

    bins = reliability(truth, scores)
    return ProxyReport(
        target=proxy.target,
        programs=len(programs),
        tasks=len(rows),
        base_rate=float(truth.mean()),
        auroc=estimate(auroc),
        brier=estimate(brier),
        brier_of_base_rate=float(truth.mean() * (1 - truth.mean())),
        calibration_error=sum(b.programs * abs(b.predicted - b.observed) for b in bins) / len(programs),
        agreement=estimate(agreement),
        kappa=estimate(kappa),
        chosen=float(np.mean([truth[row[np.argmax(scores[row])]] for row in rows])),
        reliability=bins,
    )


def auroc(truth: Labels, scores: Floats) -> float:
    """The chance that a program that does has a higher score than one that does not, ties counting half."""
    positives = int(truth.sum())
    ranks = float(rankdata(scores)[truth].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * (len(truth) - positives))


def brier(truth: Labels, scores: Floats) -> float:
    """Mean squared error."""
    return float(np.mean((scores - truth) ** 2))


def agreement(truth: Labels, scores: Floats) -> float:
    """The share of guesses that are right."""
    return float(np.mean(truth == (scores >= THRESHOLD)))


def kappa(truth: Labels, scores: Floats) -> float:
    """Cohen's, of the guesses and the verdicts."""
    return cohen_kappa(truth, scores >= THRESHOLD, np.array([False, True]))


def reliability(truth: Labels, scores: Floats) -> tuple[Bin, ...]:
    """Programs in ten bins of probability, without the empty ones."""
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(float(scores[place == b].mean()), float(truth[place == b].mean()), int((place == b).sum()))
        for b in np.unique(place)
    )


def lines(report: ProxyReport) -> list[str]:
    """What is printed."""
    constant = max(report.base_rate, 1 - report.base_rate)
    return [
        f"{report.programs} programs of {report.tasks} tasks, {report.base_rate:.3f} of which {verb(report)}",
        f"AUROC                 {report.auroc}",
        f"Brier score           {report.brier}, of a constant guess {report.brier_of_base_rate:.3f}",
        f"calibration error     {report.calibration_error:.3f}",
        f"agreement             {report.agreement}, of a constant guess {constant:.3f}",
        f"kappa                 {report.kappa}",
        f"the best of each task {report.chosen:.3f} {verb(report)}",
    ]


def verb(report: ProxyReport) -> str:
    """The target for several."""
    return "compile" if report.target == "compiles" else "pass"


def write(report: ProxyReport, folder: Path) -> None:
    """`proxy.json` with all numbers and `reliability.png`."""
    replace_text(folder / "proxy.json", json.dumps(asdict(report), indent=2) + "\n")
    plot(report, folder / "reliability.png")


def plot(report: ProxyReport, path: Path) -> None:
    """Observed against predicted shares; the size of a point tells how many programs it stands for."""
    bins = report.reliability
    predicted, observed = [b.predicted for b in bins], [b.observed for b in bins]
    with axes(path, (4.6, 4.4)) as (panel,):
        panel.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        panel.plot(predicted, observed, color=BLUE, linewidth=1)
        panel.scatter(predicted, observed, [20 + 300 * b.programs / report.programs for b in bins], color=BLUE)
        panel.set(xlabel=f"predicted probability that it {report.target}", ylabel="observed")
        panel.set(xlim=(0, 1), ylim=(0, 1.02))
