"""Call graphs: compose given functions whose definitions only the tests know, so that they must be called."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from rlvr_cpp.tasks.families.exercise import Exercise

MEASURES = ("cost", "score", "weight", "price", "size")
TESTS = ("is_open", "is_rare", "is_new", "is_valid", "is_heavy")
AGGREGATES: dict[str, tuple[str, str, Callable[[list[int]], int]]] = {
    "sum": ("0", "r += {m}(i);", sum),
    "largest": ("0", "if ({m}(i) > r) r = {m}(i);", lambda xs: max(xs, default=0)),
    "smallest": ("999", "if ({m}(i) < r) r = {m}(i);", lambda xs: min(xs, default=999)),
    "squared": ("0", "r += {m}(i) * {m}(i);", lambda xs: sum(x * x for x in xs)),
}

Case = tuple[int, int, int]
"""`n`, then the multiplier of the measure and the step of the test: each case redefines what the callees return."""


def exercises() -> list[Exercise]:
    """Every aggregate of every measure over the ids that pass, or fail, every test."""
    return [
        _exercise(aggregate, measure, test, accept)
        for aggregate in AGGREGATES
        for measure in MEASURES
        for test in TESTS
        for accept in (True, False)
    ]


def _exercise(aggregate: str, measure: str, test: str, accept: bool) -> Exercise:
    start, update, fold = AGGREGATES[aggregate]
    condition = f"{test}(i)" if accept else f"!{test}(i)"
    which = "with" if accept else "without"
    words = f"sum of squares of the {measure}" if aggregate == "squared" else f"{aggregate} {measure}"
    solution = (
        f"    int r = {start};\n"
        "    for (int i = 1; i <= n; ++i)\n"
        f"        if ({condition}) {update.format(m=measure)}\n"
        "    return r;\n}\n"
    )

    def oracle(case: Case) -> int:
        n, multiplier, step = case
        return fold([_measure(i, multiplier) for i in range(1, n + 1) if _passes(i, step) == accept])

    def check(case: Case, expected: int) -> str:
        n, multiplier, step = case
        return f"rlvr_multiplier = {multiplier}; rlvr_step = {step}; passed += solve({n}) == {expected};"

    return Exercise(
        family="callgraphs",
        combination=(aggregate, measure, which, test),
        prompt=f"int {measure}(int id);\nbool {test}(int id);\n"
        f"// Returns the {words} of ids 1 to n {which} {test}.\n"
        "int solve(int n) {\n",
        solution=solution,
        draw=lambda rng: _draw_case(rng, accept, none_allowed=aggregate in ("sum", "squared")),
        oracle=oracle,
        check=check,
        stubs=tuple(f"    return {stub};\n}}\n" for stub in ("0", "1", "n", f"{measure}(n)", f"{measure}(1)")),
        habit=solution.replace("i <= n", "i < n") if aggregate in ("sum", "squared") else None,
        callees=(measure, test),
        support=_definitions(measure, test),
    )


def _draw_case(rng: Random, accept: bool, none_allowed: bool) -> Case:
    """A case in which some id counts, unless the exercise says what the answer is where none does."""
    while True:
        n, multiplier, step = rng.choice((0, 1, 2, *range(6, 18))), rng.randint(3, 60), rng.randint(1, 40)
        if none_allowed or any(_passes(i, step) == accept for i in range(1, n + 1)):
            return n, multiplier, step


def _measure(i: int, multiplier: int) -> int:
    return (i * multiplier + 7) % 89


def _passes(i: int, step: int) -> bool:
    return i * step % 5 < 2


def _definitions(measure: str, test: str) -> str:
    return (
        "static int rlvr_multiplier = 1, rlvr_step = 1;\n"
        f"int {measure}(int id) {{ return (id * rlvr_multiplier + 7) % 89; }}\n"
        f"bool {test}(int id) {{ return id * rlvr_step % 5 < 2; }}\n"
    )
