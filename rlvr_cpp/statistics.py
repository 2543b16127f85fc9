"""Is the difference real: intervals and paired tests over tasks. Thin names over scipy's tested routines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.2f}, {self.high:.2f}]"


def wilson(successes: int, trials: int) -> Estimate:
    """A proportion with Wilson's interval; for one yes or no a task."""
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of one value in [0, 1] a task with a percentile bootstrap over tasks (10,000 resamples).

    Equal values cannot be resampled; all 0 or all 1 they have Wilson's interval, else none (NaN).
    """
    mean = float(np.mean(values))
    if len(set(values)) == 1:
        return wilson(round(mean) * len(values), len(values)) if mean in (0.0, 1.0) else Estimate(mean, nan, nan)
    result = stats.bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=10_000,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Estimate(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))


def mcnemar_p(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Exact two-sided McNemar p for the same tasks judged twice; 1 where no task changed."""
    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip_p(before: Sequence[float], after: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of the paired mean difference under random sign flips (10,000, or all where they are fewer)."""
    if all(a == b for a, b in zip(before, after, strict=True)):
        return 1.0
    result = stats.permutation_test(
        (np.asarray(after), np.asarray(before)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9_999,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)
