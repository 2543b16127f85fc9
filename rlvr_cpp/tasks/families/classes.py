"""Small classes and class templates: complete the member function that gives the type its meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from rlvr_cpp.tasks.families.exercise import Exercise, Predicate, predicates


@dataclass(frozen=True)
class Update:
    """What `add` does with an accepted value: in words, in C++, and on a Python total."""

    words: str
    cpp: tuple[str, ...]
    apply: Callable[[int, int], int]
    habit: tuple[str, str] | None = None


def updates() -> list[Update]:
    """Saturating, wrapping, floored and extreme totals."""
    limits = (20, 30, 40, 50, 60, 70, 80, 90)
    largest = Update("keeps the largest x", ("if (x > total) total = x;",), max)
    return [make(k) for k in limits for make in (_saturating, _wrapping, _floored)] + [largest]


def _saturating(k: int) -> Update:
    cap = f"if (total > {k}) total = {k};"
    habit = (cap, f"if (total > {k}) total = 0;")
    return Update(f"adds x, at most {k}", ("total += x;", cap), lambda total, x: min(total + x, k), habit)


def _wrapping(k: int) -> Update:
    line = f"total = (total + x) % {k};"
    habit = (line, f"total = total + x % {k};")
    return Update(f"adds x, modulo {k}", (line,), lambda total, x: (total + x) % k, habit)


def _floored(k: int) -> Update:
    lines = (f"total = {k} - x;", "if (total < 0) total = 0;")
    return Update(f"takes x from {k}, at least 0", lines, lambda total, x: max(k - x, 0))


def exercises() -> list[Exercise]:
    """Every update behind every guard, as a struct and as a class template."""
    return [
        _exercise(template, update, guard)
        for template in (False, True)
        for update in updates()
        for guard in predicates(range(3, 12))
    ]


def _exercise(template: bool, update: Update, guard: Predicate) -> Exercise:
    head, value_type = ("template <class T>\n", "T") if template else ("", "int")
    lines = [f"if ({guard.cpp.format(x='x')}) return;", *update.cpp]
    solution = "".join(f"        {line}\n" for line in lines) + "    }\n};\n"
    habit = solution.replace(*update.habit) if update.habit else None
    tally = "Tally<int>" if template else "Tally"

    def oracle(values: list[int]) -> int:
        total = 0
        for x in values:
            if not guard.holds(x):
                total = update.apply(total, x)
        return total

    def check(values: list[int], expected: int) -> str:
        calls = "".join(f"t.add({x}); " for x in values)
        return f"{{ {tally} t; {calls}passed += t.total == {expected}; }}"

    return Exercise(
        family="classes",
        combination=("template" if template else "struct", update.words, guard.words),
        prompt=f"// add() skips x {guard.words}, else {update.words}.\n"
        f"{head}struct Tally {{\n    {value_type} total = 0;\n    void add({value_type} x) {{\n",
        solution=solution,
        draw=_draw_values,
        oracle=oracle,
        check=check,
        stubs=tuple(f"        {stub}\n    }}\n}};\n" for stub in ("(void)x;", "total = x;", "total += x;", "++total;")),
        habit=habit,
        entry_point="Tally",
    )


def _draw_values(rng: Random) -> list[int]:
    return [rng.randint(0, rng.choice((12, 30, 60))) for _ in range(rng.randint(1, 16))]
