"""Is the difference real: estimates with intervals and paired tests over tasks. Thin names over tested routines.

Tasks are what is drawn at random, so every interval and test is over tasks: several samples of one task become one
value first. All randomness is seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb, expm1, fsum, isnan, log1p, nan, sqrt
from statistics import fmean

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
RESAMPLES = 10_000
SLOW_RESAMPLES = 1_000
"""Of measures that take each resample by itself."""
Labels = npt.NDArray[np.integer | np.bool_]
Rows = npt.NDArray[np.intp]
"""Positions of what was measured."""


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """What changed from a first to a second value of the same tasks: second minus first."""

    tasks: int
    mean: float
    standard_error: float
    """Of the mean of the differences; NaN for one task."""
    low: float
    """The 95 % interval of the mean: a percentile bootstrap over tasks."""
    high: float
    p: float
    """Two-sided: exact McNemar where every value is 0 or 1, else sign flips."""


@dataclass(frozen=True)
class Agreement:
    """How far two judges give the same labels, each with an interval from a bootstrap over tasks."""

    exact: Estimate
    """The share of equal labels."""
    kappa: Estimate
    """Cohen's: agreement beyond chance, every disagreement counting alike."""
    quadratic_kappa: Estimate
    """The same for ordered labels: a disagreement counts by its square."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of k completions passes, unbiased, from n of which c passed (arXiv 2107.03374).

    `1 - C(n-c, k) / C(n, k)` as `-expm1(sum log(1 - c/(n-i)))`, in which nothing cancels. Raises ValueError where
    k is less than 1 or more than n, or c is not between 0 and n: such a number does not exist.
    """
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}: pass@k of {n} samples needs a k from 1 to {n}")
    if not 0 <= c <= n:
        raise ValueError(f"c is {c}: of {n} samples between 0 and {n} can pass")
    if n - c < k:
        return 1.0
    return abs(expm1(fsum(log1p(-c / (n - i)) for i in range(k))))


def best_of_k(values: Sequence[float], k: int) -> float:
    """The expected value of the best of `k` candidates drawn from those whose values are given best first.

    Exact: the best of the draw is the one of rank r with probability C(n-1-r, k-1) / C(n, k). With rewards in
    descending order this is the unbiased estimate of E[max of k], with passes pass@k (arXiv 2107.03374); with the
    hidden outcomes in the order of the public ranking it is what choosing among k would pass. Raises ValueError unless
    1 <= k <= n.
    """
    n = len(values)
    if not 1 <= k <= n:
        raise ValueError(f"k is {k} with {n} candidates: it must be between 1 and their number")
    return sum(comb(n - 1 - rank, k - 1) * value for rank, value in enumerate(values)) / comb(n, k)


def wilson(successes: int, trials: int) -> Estimate:
    """A proportion with Wilson's interval; for one yes or no a task."""
    from scipy import stats  # a second that who only reads records need not wait

    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def pass_rate(passes: Sequence[bool]) -> Estimate:
    """The share that passed with Wilson's interval; NaN where nothing could be judged."""
    return wilson(sum(passes), len(passes)) if passes else Estimate(nan, nan, nan)


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of one value in [0, 1] a task with a percentile bootstrap over tasks (10,000 resamples).

    Equal values cannot be resampled; all 0 or all 1 they have Wilson's interval, else none (NaN).
    """
    mean = float(np.mean(values))
    if len(set(values)) == 1:
        return wilson(round(mean) * len(values), len(values)) if mean in (0.0, 1.0) else Estimate(mean, nan, nan)
    return Estimate(mean, *_bootstrap(values, seed))


def _bootstrap(values: Sequence[float], seed: int) -> tuple[float, float]:
    from scipy import stats  # a second that who only reads records need not wait

    result = stats.bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def paired_difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> PairedDifference:
    """Compare two values of the same tasks, in the same order.

    Where all differences are equal their bootstrap is that one value. Raises ValueError for other lengths or no task.
    """
    differences = [b - a for a, b in zip(first, second, strict=True)]
    if not differences:
        raise ValueError("there is no task to compare")
    mean = fmean(differences)
    low, high = (mean, mean) if len(set(differences)) == 1 else _bootstrap(differences, seed)
    error = float(np.std(differences, ddof=1)) / sqrt(len(differences)) if len(differences) > 1 else nan
    if {*first, *second} <= {0, 1}:
        p = mcnemar_p([bool(a) for a in first], [bool(b) for b in second])
    else:
        p = sign_flip_p(first, second, seed)
    return PairedDifference(tasks=len(differences), mean=mean, standard_error=error, low=low, high=high, p=p)


def mcnemar_p(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Exact two-sided McNemar p for the same tasks judged twice; 1 where no task changed."""
    from scipy import stats  # a second that who only reads records need not wait

    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip_p(before: Sequence[float], after: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of the paired mean difference under random sign flips (10,000, or all where they are fewer)."""
    from scipy import stats  # a second that who only reads records need not wait

    if len(before) == 1 or all(a == b for a, b in zip(before, after, strict=True)):
        return 1.0
    result = stats.permutation_test(
        (np.asarray(after), np.asarray(before)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES - 1,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p of each of several comparisons, adjusted so that all may be read at once (Holm 1979), in the same order."""
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = min(1.0, max(least, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = least
    return adjusted


def over_tasks(measure: Callable[[Rows], float], tasks: Sequence[Rows], seed: int = 0) -> Estimate:
    """A measure of rows with its percentile bootstrap over tasks (1,000 resamples), each of which has some of the rows.

    Resamples of which it is NaN are left out: some measures do not exist where all rows are alike.
    """
    drawn = np.random.default_rng(seed).integers(0, len(tasks), (SLOW_RESAMPLES, len(tasks)))
    resampled = [measure(np.concatenate([tasks[task] for task in chosen])) for chosen in drawn]
    known = [value for value in resampled if not isnan(value)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if known else (nan, nan)
    return Estimate(measure(np.sort(np.concatenate(tasks))), float(low), float(high))


def agreement(first: Sequence[int], second: Sequence[int], seed: int = 0) -> Agreement:
    """How far two judges agree on the same tasks.

    Where both have only ever given one label nothing is beyond chance: kappa is NaN.
    """
    a, b = np.asarray(first), np.asarray(second)
    labels = np.unique(np.concatenate([a, b]))
    tasks = list(np.arange(len(a))[:, None])
    return Agreement(
        exact=over_tasks(lambda rows: float(np.mean(a[rows] == b[rows])), tasks, seed),
        kappa=over_tasks(lambda rows: cohen_kappa(a[rows], b[rows], labels), tasks, seed),
        quadratic_kappa=over_tasks(lambda rows: cohen_kappa(a[rows], b[rows], labels, quadratic=True), tasks, seed),
    )


def cohen_kappa(first: Labels, second: Labels, labels: Labels, *, quadratic: bool = False) -> float:
    """Agreement beyond what labels given as often would have by chance; NaN where both have given one label only.

    `labels` are all that there are, sorted. Each disagreement costs 1 or, if `quadratic`, the square of how many labels
    it is apart. scikit-learn's `cohen_kappa_score`, without the milliseconds that 1,000 resamples cannot spare.
    """
    count = len(labels)
    pairs = np.searchsorted(labels, first) * count + np.searchsorted(labels, second)
    seen = np.bincount(pairs, minlength=count**2).reshape(count, count)
    by_chance = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / len(pairs)
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    cost = apart**2 if quadratic else apart > 0
    expected = float(np.sum(cost * by_chance))
    return 1 - float(np.sum(cost * seen)) / expected if expected else nan
