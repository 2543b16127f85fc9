"""The best step of a run by held-out greedy pass@1, and whether there is more to hope for.

Both follow from the evaluations alone, so a run that goes on needs to remember nothing else. Who chooses the best of
many by the tasks that it is told of is told too much: measure what was kept on other tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

Points = Sequence[tuple[int, float]]
"""Greedy pass@1 by step, in order; step 0 is before training."""


def best_point(points: Points) -> tuple[int, float] | None:
    """The first of the best; None where nothing could be judged."""
    known = [point for point in points if isfinite(point[1])]
    return max(known, key=lambda point: (point[1], -point[0])) if known else None


def nothing_better(points: Points, patience: int | None) -> bool:
    """Whether `patience` evaluations in a row were no better than the best before them; None never ends."""
    best = best_point(points)
    return patience is not None and best is not None and sum(step > best[0] for step, _ in points) >= patience
