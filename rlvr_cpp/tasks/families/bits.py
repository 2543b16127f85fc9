"""Bit tricks on an unsigned 32-bit word: set, clear, flip, keep, rotate and count bits."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from rlvr_cpp.tasks.families.exercise import Exercise

WORD = 0xFFFFFFFF


def exercises() -> list[Exercise]:
    """Every operation at every position."""
    return [operation(k) for k in range(1, 25) for operation in OPERATIONS]


def _one_bit(verb: str, cpp: str, apply: Callable[[int, int], int], habit: str | None) -> Callable[[int], Exercise]:
    def make(k: int) -> Exercise:
        return _on_word((verb, "bit"), k, f"x with bit {k} {verb}", cpp, lambda x: apply(x, 1 << k), habit)

    return make


def _low_bits(verb: str, cpp: str, apply: Callable[[int, int], int], habit: str | None) -> Callable[[int], Exercise]:
    def make(k: int) -> Exercise:
        words = f"x with its {k} lowest bits {verb}"
        return _on_word((verb, "low"), k, words, cpp, lambda x: apply(x, (1 << k) - 1), habit)

    return make


def _rotated(side: str, cpp: str, turn: Callable[[int], int]) -> Callable[[int], Exercise]:
    def make(k: int) -> Exercise:
        def oracle(x: int) -> int:
            left = turn(k)
            return (x << left | x >> (32 - left)) & WORD

        habit = cpp.replace("32 - ", "31 - ")
        return _on_word(("rotate", side), k, f"x rotated {side} by {k}", cpp, oracle, habit)

    return make


def _ones(k: int) -> Exercise:
    body = (
        f"    unsigned r = 0;\n    for (int i = 0; i < {k}; ++i)\n        r += (x >> i) & 1u;\n    return r * x;\n}}\n"
    )
    return _on_word(
        ("ones", "times"),
        k,
        f"x times the number of ones among its {k} lowest bits",
        None,
        lambda x: (x & ((1 << k) - 1)).bit_count() * x & WORD,
        body=body,
    )


OPERATIONS: tuple[Callable[[int], Exercise], ...] = (
    _one_bit("set", "x | (1u << {k})", lambda x, m: x | m, "x | {k}u"),
    _one_bit("cleared", "x & ~(1u << {k})", lambda x, m: x & ~m, "x & (1u << {k})"),
    _one_bit("flipped", "x ^ (1u << {k})", lambda x, m: x ^ m, None),
    _low_bits("kept", "x & ((1u << {k}) - 1)", lambda x, m: x & m, None),
    _low_bits("cleared", "x & ~((1u << {k}) - 1)", lambda x, m: x & ~m, None),
    _low_bits("set", "x | ((1u << {k}) - 1)", lambda x, m: x | m, "x | (1u << {k})"),
    _low_bits("flipped", "x ^ ((1u << {k}) - 1)", lambda x, m: x ^ m, None),
    _rotated("left", "(x << {k}) | (x >> (32 - {k}))", lambda k: k),
    _rotated("right", "(x >> {k}) | (x << (32 - {k}))", lambda k: 32 - k),
    _ones,
)


def _on_word(
    kind: tuple[str, str],
    k: int,
    words: str,
    cpp: str | None,
    oracle: Callable[[int], int],
    habit: str | None = None,
    body: str | None = None,
) -> Exercise:
    return Exercise(
        family="bits",
        combination=(*kind, str(k)),
        prompt=f"// Returns {words}.\nunsigned solve(unsigned x) {{\n",
        solution=body or _return((cpp or "").format(k=k)),
        draw=_draw_word,
        oracle=lambda x: oracle(x) & WORD,
        check=lambda x, expected: f"passed += solve({x}u) == {expected}u;",
        stubs=tuple(_return(stub) for stub in ("0", "1", "~0u")),
        habit=_return(habit.format(k=k)) if habit else None,
    )


def _return(expression: str) -> str:
    return f"    return {expression};\n}}\n"


def _draw_word(rng: Random) -> int:
    return rng.choice((rng.getrandbits(32), rng.getrandbits(32), rng.getrandbits(16), WORD - rng.getrandbits(12)))
