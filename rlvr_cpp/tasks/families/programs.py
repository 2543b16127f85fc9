"""Whole programs that read numbers and print one, put to cases; no part of the shipped tasks or models.

They are the array reductions over again, as data sets of input and output ask for them: the sum, count, largest or
smallest of transformed numbers that satisfy a predicate.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlvr_cpp.tasks.families.exercise import Exercise, Predicate
from rlvr_cpp.tasks.families.reductions import AGGREGATES, TRANSFORMS, combinations, draw_array

STUBS = (
    "}\n",
    '    std::puts("0");\n}\n',
    '    std::puts("1");\n}\n',
    '    int n;\n    std::scanf("%d", &n);\n    std::printf("%d\\n", n);\n}\n',
)
HABITS = {"smallest": ("r = 999", "r = 0"), "count": ("++r", "r += x")}


def exercises() -> list[Exercise]:
    """Every combination of aggregate, transform and predicate."""
    return [_exercise(*combination) for combination in combinations()]


def _exercise(aggregate: str, transform: str, predicate: Predicate) -> Exercise:
    start, update, fold = AGGREGATES[aggregate]
    expression, apply = TRANSFORMS[transform]
    otherwise = "" if aggregate in ("sum", "count") else f", or {start} if there are none"
    solution = (
        "    int n, x;\n"
        '    std::scanf("%d", &n);\n'
        f"    int r = {start};\n"
        "    for (int i = 0; i < n; ++i) {\n"
        '        std::scanf("%d", &x);\n'
        f"        if ({predicate.cpp.format(x='x')}) {update.format(e=expression.replace('v[i]', 'x'))}\n"
        "    }\n"
        '    std::printf("%d\\n", r);\n}\n'
    )
    old, new = HABITS.get(aggregate, ("!= 0", "== 1"))  # a remainder need not be 1, nor positive
    return Exercise(
        family="programs",
        combination=(aggregate, transform, predicate.words),
        prompt=f"// Reads n and n numbers, prints the {aggregate} of {transform} {predicate.words}{otherwise}.\n"
        "#include <cstdio>\n\nint main() {\n",
        solution=solution,
        draw=draw_array,
        oracle=lambda v: fold([apply(x) for x in v if predicate.holds(x)]),
        check=_input,
        stubs=STUBS,
        habit=solution.replace(old, new) if old in solution else None,
        entry_point="main",
        is_program=True,
    )


def _input(values: Sequence[int], expected: int) -> str:
    return f"{len(values)}\n{' '.join(map(str, values))}\n"
