"""Two-pointer and prefix sums: windows, runs, prefixes and pairs of an array."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, groupby
from random import Random

from rlvr_cpp.tasks.families.exercise import INT_STUBS, Exercise, Predicate, array_check, predicates


def exercises() -> list[Exercise]:
    """Best windows, longest runs, counted prefixes and counted pairs."""
    conditions = predicates(range(2, 10))
    return [
        *(_best_window(which, width) for which in ("largest", "smallest") for width in range(2, 14)),
        *(_longest_run(predicate) for predicate in conditions),
        *(_counted_prefixes(predicate) for predicate in conditions),
        *(_counted_pairs(order, k) for order in ("less", "greater") for k in range(5, 25)),
    ]


def _best_window(which: str, width: int) -> Exercise:
    start, order, best = ("-9999", ">", max) if which == "largest" else ("9999", "<", min)
    solution = (
        f"    int sum = 0, best = {start};\n"
        "    for (int i = 0; i < n; ++i) {\n"
        "        sum += v[i];\n"
        f"        if (i >= {width}) sum -= v[i - {width}];\n"
        f"        if (i >= {width - 1} && sum {order} best) best = sum;\n"
        "    }\n    return best;\n}\n"
    )
    return _on_array(
        ("window", which, str(width)),
        f"// Returns the {which} sum of {width} adjacent elements; n is at least {width}.\n",
        solution,
        draw=lambda rng: _around_any_mean(rng, rng.randint(width, width + 8)),
        oracle=lambda v: best(sum(v[i : i + width]) for i in range(len(v) - width + 1)),
        habit=solution.replace(f"if (i >= {width - 1} && sum", "if (sum"),
    )


def _longest_run(predicate: Predicate) -> Exercise:
    solution = (
        "    int run = 0, best = 0;\n"
        "    for (int i = 0; i < n; ++i) {\n"
        f"        run = {predicate.cpp.format(x='v[i]')} ? run + 1 : 0;\n"
        "        if (run > best) best = run;\n"
        "    }\n    return best;\n}\n"
    )
    return _on_array(
        ("run", predicate.words),
        f"// Returns the length of the longest run of elements {predicate.words}.\n",
        solution,
        draw=lambda rng: _streaks(rng, predicate),
        oracle=lambda v: max((len(list(run)) for ok, run in groupby(v, predicate.holds) if ok), default=0),
        habit=solution.replace("run + 1 : 0", "run + 1 : run"),
    )


def _counted_prefixes(predicate: Predicate) -> Exercise:
    add, test = "        sum += v[i];\n", f"        if ({predicate.cpp.format(x='sum')}) ++count;\n"
    solution = (
        f"    int sum = 0, count = 0;\n    for (int i = 0; i < n; ++i) {{\n{add}{test}    }}\n    return count;\n}}\n"
    )
    return _on_array(
        ("prefix", predicate.words),
        f"// Returns how many prefixes have a sum {predicate.words}.\n",
        solution,
        draw=lambda rng: [rng.randint(-8, 9) for _ in range(rng.randint(0, 30))],
        oracle=lambda v: sum(map(predicate.holds, accumulate(v))),
        habit=solution.replace(add + test, test + add),
    )


def _counted_pairs(order: str, k: int) -> Exercise:
    solution = (
        "    int count = 0, i = 0, j = n - 1;\n"
        "    while (i < j)\n"
        + (
            f"        if (v[i] + v[j] < {k}) count += j - i, ++i;\n        else --j;\n"
            if order == "less"
            else f"        if (v[i] + v[j] > {k}) count += j - i, --j;\n        else ++i;\n"
        )
        + "    return count;\n}\n"
    )

    def oracle(v: list[int]) -> int:
        sums = [v[i] + v[j] for i in range(len(v)) for j in range(i + 1, len(v))]
        return sum(s < k if order == "less" else s > k for s in sums)

    return _on_array(
        ("pair", order, str(k)),
        f"// v is sorted. Returns how many pairs have a sum {order} than {k}.\n",
        solution,
        draw=lambda rng: sorted(rng.randint(-5, 25) for _ in range(rng.randint(2, 12))),
        oracle=oracle,
    )


def _around_any_mean(rng: Random, count: int) -> list[int]:
    """Values whose mean is anywhere: in a mostly negative array a short window beats a full one."""
    mean = rng.randint(-15, 15)
    return [rng.randint(mean - 12, mean + 12) for _ in range(count)]


def _streaks(rng: Random, predicate: Predicate) -> list[int]:
    """Alternating stretches inside and outside the predicate, so that long runs occur."""
    inside = [x for x in range(-5, 13) if predicate.holds(x)]
    outside = [x for x in range(-5, 13) if not predicate.holds(x)]
    values: list[int] = []
    for _ in range(rng.randint(0, 4)):
        values += [rng.choice(outside) for _ in range(rng.randint(0, 3))]
        values += [rng.choice(inside) for _ in range(rng.randint(0, 9))]
    return values


def _on_array(
    combination: tuple[str, ...],
    statement: str,
    solution: str,
    *,
    draw: Callable[[Random], list[int]],
    oracle: Callable[[list[int]], int],
    habit: str | None = None,
) -> Exercise:
    return Exercise(
        family="windows",
        combination=combination,
        prompt=statement + "int solve(const int* v, int n) {\n",
        solution=solution,
        draw=draw,
        oracle=oracle,
        check=array_check,
        stubs=(*INT_STUBS, "    return n > 0 ? v[0] : 0;\n}\n"),
        habit=habit,
    )
