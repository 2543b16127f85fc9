"""Recursion and dynamic programming: linear recurrences, stairs and grid paths, modulo m."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import comb

from rlvr_cpp.tasks.families.exercise import INT_STUBS, Exercise, scalar_check

MODULI = (97, 101, 211, 499, 997)


def exercises() -> list[Exercise]:
    """Recurrences with small coefficients, stairs with two step sizes, grids of a fixed height."""
    return [
        *(
            _recurrence(a, b, p, q, modulus)
            for a in (0, 1, 2)
            for b in (1, 2, 3)
            for p in (1, 2, 3)
            for q in (1, 2, 3)
            for modulus in MODULI
            if a != b and p != q
        ),
        *(_stairs(s, t, m) for s in (1, 2, 3) for t in range(s + 1, s + 5) for m in MODULI),
        *(_grid(rows, m) for rows in range(2, 7) for m in MODULI),
    ]


def _recurrence(a: int, b: int, p: int, q: int, modulus: int) -> Exercise:
    @cache
    def value(n: int) -> int:
        if n < 2:
            return b if n else a
        return (p * value(n - 1) + q * value(n - 2)) % modulus

    solution = (
        f"    if (n == 0) return {a};\n"
        f"    if (n == 1) return {b};\n"
        f"    return ({p} * solve(n - 1) + {q} * solve(n - 2)) % {modulus};\n}}\n"
    )
    return _on_index(
        ("recurrence", str(a), str(b), str(p), str(q), str(modulus)),
        f"f(0) = {a}, f(1) = {b}, f(n) = {p} f(n-1) + {q} f(n-2), modulo {modulus}.",
        solution,
        value,
        habit=solution.replace(f"{p} * solve(n - 1) + {q} *", f"{q} * solve(n - 1) + {p} *"),
        largest=18,
    )


def _stairs(short: int, long: int, modulus: int) -> Exercise:
    @cache
    def ways(n: int) -> int:
        if n < 0:
            return 0
        return 1 if n == 0 else (ways(n - short) + ways(n - long)) % modulus

    solution = (
        "    if (n < 0) return 0;\n"
        "    if (n == 0) return 1;\n"
        f"    return (solve(n - {short}) + solve(n - {long})) % {modulus};\n}}\n"
    )
    return _on_index(
        ("stairs", str(short), str(long), str(modulus)),
        f"Ways to climb n stairs by {short} or {long} at a time, modulo {modulus}.",
        solution,
        ways,
        habit=solution.replace("n == 0) return 1", "n == 0) return 0"),
        largest=22,
    )


def _grid(rows: int, modulus: int) -> Exercise:
    solution = (
        f"    int ways[{rows}] = {{1}};\n"
        "    for (int c = 0; c < n; ++c)\n"
        f"        for (int r = 1; r < {rows}; ++r)\n"
        f"            ways[r] = (ways[r] + ways[r - 1]) % {modulus};\n"
        f"    return ways[{rows - 1}];\n}}\n"
    )
    return _on_index(
        ("grid", str(rows), str(modulus)),
        f"Monotone paths through a grid of {rows} rows and n columns, modulo {modulus}.",
        solution,
        lambda n: comb(n + rows - 2, rows - 1) % modulus if n else 0,
        largest=60,
    )


def _on_index(
    combination: tuple[str, ...],
    words: str,
    solution: str,
    oracle: Callable[[int], int],
    *,
    habit: str | None = None,
    largest: int,
) -> Exercise:
    return Exercise(
        family="recurrences",
        combination=combination,
        prompt=f"// {words}\nint solve(int n) {{\n",
        solution=solution,
        draw=lambda rng: rng.randint(0, largest),
        oracle=oracle,
        check=scalar_check,
        stubs=INT_STUBS,
        habit=habit,
    )
