"""Number theory on one int: divisors, digits in a base, powers modulo m."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from rlvr_cpp.tasks.families.exercise import INT_STUBS, Exercise, Predicate, predicates, scalar_check

FOLDS: dict[str, tuple[str, Callable[[list[int]], int]]] = {
    "sum": ("r += {x};", sum),
    "number": ("++r;", len),
}


def exercises() -> list[Exercise]:
    """Folds over divisors and digits, powers, and counts of coprime and divisible numbers."""
    conditions = predicates(range(2, 8))
    return [
        *(_divisors(fold, predicate) for fold in FOLDS for predicate in conditions),
        *(_digits(fold, base) for fold in ("sum", "sum of squares", "largest") for base in range(3, 17)),
        *(_power(exponent, modulus) for exponent in range(2, 8) for modulus in (17, 31, 53, 97)),
        *(_multiples(a, b) for a in range(2, 8) for b in range(a + 1, 10) if b % a),
    ]


def _divisors(fold: str, predicate: Predicate) -> Exercise:
    update, apply = FOLDS[fold]
    solution = (
        "    int r = 0;\n"
        "    for (int d = 1; d <= n; ++d)\n"
        f"        if (n % d == 0 && {predicate.cpp.format(x='d')}) {update.format(x='d')}\n"
        "    return r;\n}\n"
    )
    return _on_number(
        ("divisors", fold, predicate.words),
        f"the {fold} of divisors of n {predicate.words}",
        solution,
        draw=_draw_composite,
        oracle=lambda n: apply([d for d in range(1, n + 1) if n % d == 0 and predicate.holds(d)]),
        habit=solution.replace("d <= n", "d < n"),
    )


def _digits(fold: str, base: int) -> Exercise:
    d = f"n % {base}"
    update = {
        "sum": f"r += {d};",
        "sum of squares": f"r += ({d}) * ({d});",
        "largest": f"if ({d} > r) r = {d};",
    }
    reduce: dict[str, Callable[[list[int]], int]] = {
        "sum": sum,
        "sum of squares": lambda digits: sum(x * x for x in digits),
        "largest": lambda digits: max(digits, default=0),
    }
    solution = f"    int r = 0;\n    for (; n > 0; n /= {base})\n        {update[fold]}\n    return r;\n}}\n"
    return _on_number(
        ("digits", fold, str(base)),
        f"the {fold} of the digits of n in base {base}",
        solution,
        draw=lambda rng: rng.randint(0, rng.choice((50, 5000, 500000))),
        oracle=lambda n: reduce[fold](_digits_of(n, base)),
    )


def _power(exponent: int, modulus: int) -> Exercise:
    return _on_number(
        ("power", str(exponent), str(modulus)),
        f"n to the power {exponent}, modulo {modulus}",
        f"    int r = 1;\n    for (int i = 0; i < {exponent}; ++i)\n"
        f"        r = r * n % {modulus};\n    return r;\n}}\n",
        draw=lambda rng: rng.randint(0, 20000),
        oracle=lambda n: pow(n, exponent, modulus),
    )


def _multiples(a: int, b: int) -> Exercise:
    solution = (
        "    int r = 0;\n"
        "    for (int i = 1; i <= n; ++i)\n"
        f"        if (i % {a} == 0 || i % {b} == 0) r += i;\n"
        "    return r;\n}\n"
    )
    return _on_number(
        ("multiples", str(a), str(b)),
        f"the sum of numbers from 1 to n divisible by {a} or {b}",
        solution,
        draw=lambda rng: rng.randint(0, 150),
        oracle=lambda n: sum(i for i in range(1, n + 1) if i % a == 0 or i % b == 0),
        habit=solution.replace("||", "&&"),
    )


def _digits_of(n: int, base: int) -> list[int]:
    digits = []
    while n > 0:
        n, digit = divmod(n, base)
        digits.append(digit)
    return digits


def _draw_composite(rng: Random) -> int:
    """Numbers with many divisors, and a few of the multiples of 5 and 7 that highly composite ones lack."""
    factors = (2, 2, 2, 3, 3, 5, 7, 4, 6)
    product = 1
    for _ in range(rng.randint(0, 5)):
        product *= rng.choice(factors)
    return product


def _on_number(
    combination: tuple[str, ...],
    words: str,
    solution: str,
    *,
    draw: Callable[[Random], int],
    oracle: Callable[[int], int],
    habit: str | None = None,
) -> Exercise:
    return Exercise(
        family="numbers",
        combination=combination,
        prompt=f"// Returns {words}.\nint solve(int n) {{\n",
        solution=solution,
        draw=draw,
        oracle=oracle,
        check=scalar_check,
        stubs=INT_STUBS,
        habit=habit,
    )
