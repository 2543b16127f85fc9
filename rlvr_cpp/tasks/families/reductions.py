"""Array reductions: the sum, count, largest or smallest of transformed elements that satisfy a predicate."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from rlvr_cpp.tasks.families.exercise import INT_STUBS, Exercise, Predicate, array_check, predicates

TRANSFORMS: dict[str, tuple[str, Callable[[int], int]]] = {
    "elements": ("v[i]", lambda x: x),
    "squares of elements": ("v[i] * v[i]", lambda x: x * x),
    "doubles of elements": ("2 * v[i]", lambda x: 2 * x),
    "negated elements": ("-v[i]", lambda x: -x),
}
AGGREGATES: dict[str, tuple[str, str, Callable[[list[int]], int]]] = {
    "sum": ("0", "r += {e};", sum),
    "count": ("0", "++r;", len),
    "largest": ("-999", "if ({e} > r) r = {e};", lambda xs: max(xs, default=-999)),
    "smallest": ("999", "if ({e} < r) r = {e};", lambda xs: min(xs, default=999)),
}


def exercises() -> list[Exercise]:
    """Every combination of aggregate, transform and predicate."""
    return [_exercise(*combination) for combination in combinations()]


def combinations() -> list[tuple[str, str, Predicate]]:
    """Aggregates with transforms and predicates; what is counted need not be transformed."""
    return [
        (aggregate, transform, predicate)
        for aggregate in AGGREGATES
        for transform in TRANSFORMS
        if aggregate != "count" or transform == "elements"
        for predicate in predicates(range(2, 10))
    ]


def _exercise(aggregate: str, transform: str, predicate: Predicate) -> Exercise:
    start, update, fold = AGGREGATES[aggregate]
    expression, apply = TRANSFORMS[transform]
    otherwise = "" if aggregate in ("sum", "count") else f", or {start} if there are none"
    solution = (
        f"    int r = {start};\n"
        "    for (int i = 0; i < n; ++i)\n"
        f"        if ({predicate.cpp.format(x='v[i]')}) {update.format(e=expression)}\n"
        "    return r;\n}\n"
    )
    habits = {"smallest": ("r = 999", "r = 0"), "count": ("++r", "r += v[i]")}
    old, new = habits.get(aggregate, ("!= 0", "== 1"))  # a remainder need not be 1, nor positive
    return Exercise(
        family="reductions",
        combination=(aggregate, transform, predicate.words),
        prompt=f"// Returns the {aggregate} of {transform} {predicate.words}{otherwise}.\n"
        "int solve(const int* v, int n) {\n",
        solution=solution,
        draw=draw_array,
        oracle=lambda v: fold([apply(x) for x in v if predicate.holds(x)]),
        check=array_check,
        stubs=(*INT_STUBS, "    return n > 0 ? v[0] : 0;\n}\n"),
        habit=solution.replace(old, new) if old in solution else None,
    )


def draw_array(rng: Random) -> list[int]:
    """Up to 16 values around the constants of the predicates; empty now and then."""
    return [rng.randint(-12, 15) for _ in range(rng.choice((0, 1, 3, 5, 8, 12, 16)))]
