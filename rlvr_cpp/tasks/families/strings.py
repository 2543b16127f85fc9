"""Strings: count, find or measure the characters of a C string that belong to a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from random import Random

from rlvr_cpp.tasks.families.exercise import Exercise

ALPHABET = "abcdefghxyzABCDEFGH0123456789 _"


@dataclass(frozen=True)
class CharClass:
    """A set of characters in English, C++ and Python."""

    words: str
    cpp: str
    holds: Callable[[str], bool]


def char_classes() -> list[CharClass]:
    """Ranges, single characters and the complements of single characters."""
    return [
        _between("digits", "0", "9"),
        _between("uppercase letters", "A", "Z"),
        _between("lowercase letters", "a", "z"),
        *(make(x) for x in "abcdefghxyz_" for make in (_equal_to, _other_than)),
    ]


def _between(words: str, lowest: str, highest: str) -> CharClass:
    return CharClass(words, f"s[i] >= '{lowest}' && s[i] <= '{highest}'", lambda c: lowest <= c <= highest)


def _equal_to(x: str) -> CharClass:
    return CharClass(f"characters equal to '{x}'", f"s[i] == '{x}'", lambda c: c == x)


def _other_than(x: str) -> CharClass:
    return CharClass(f"characters other than '{x}'", f"s[i] != '{x}'", lambda c: c != x)


def exercises() -> list[Exercise]:
    """Every question about every class of characters."""
    return [
        make(char_class) for char_class in char_classes() for make in (_count, _first, _last, _longest_run, _index_sum)
    ]


def _count(chars: CharClass) -> Exercise:
    body = f"    int r = 0;\n    for (int i = 0; s[i]; ++i)\n        if ({chars.cpp}) ++r;\n    return r;\n}}\n"
    return _on_string("number", f"the number of {chars.words}", chars, body, lambda s: sum(map(chars.holds, s)))


def _first(chars: CharClass) -> Exercise:
    body = f"    for (int i = 0; s[i]; ++i)\n        if ({chars.cpp}) return i;\n    return -1;\n}}\n"
    where = f"the first index among {chars.words}, or -1"
    return _on_string("first", where, chars, body, lambda s: next(iter(_indices(chars, s)), -1))


def _last(chars: CharClass) -> Exercise:
    body = f"    int r = -1;\n    for (int i = 0; s[i]; ++i)\n        if ({chars.cpp}) r = i;\n    return r;\n}}\n"
    where = f"the last index among {chars.words}, or -1"
    habit = body.replace("int r = -1;", "int r = 0;")
    return _on_string("last", where, chars, body, lambda s: max(_indices(chars, s), default=-1), habit)


def _index_sum(chars: CharClass) -> Exercise:
    body = f"    int r = 0;\n    for (int i = 0; s[i]; ++i)\n        if ({chars.cpp}) r += i;\n    return r;\n}}\n"
    where = f"the sum of the indices of {chars.words}"
    return _on_string("index sum", where, chars, body, lambda s: sum(_indices(chars, s)))


def _longest_run(chars: CharClass) -> Exercise:
    body = (
        "    int run = 0, best = 0;\n"
        "    for (int i = 0; s[i]; ++i) {\n"
        f"        run = {chars.cpp} ? run + 1 : 0;\n"
        "        if (run > best) best = run;\n"
        "    }\n    return best;\n}\n"
    )
    return _on_string(
        "run",
        f"the length of the longest run of {chars.words}",
        chars,
        body,
        lambda s: max((len(list(run)) for ok, run in groupby(s, chars.holds) if ok), default=0),
        habit=body.replace("run + 1 : 0", "run + 1 : run"),
    )


def _indices(chars: CharClass, s: str) -> list[int]:
    return [i for i, c in enumerate(s) if chars.holds(c)]


def _on_string(
    question: str,
    words: str,
    chars: CharClass,
    body: str,
    oracle: Callable[[str], int],
    habit: str | None = None,
) -> Exercise:
    return Exercise(
        family="strings",
        combination=(question, chars.words),
        prompt=f"// Returns {words}.\nint solve(const char* s) {{\n",
        solution=body,
        draw=lambda rng: _draw_string(rng, chars),
        oracle=oracle,
        check=lambda s, expected: f'passed += solve("{s}") == {expected};',
        stubs=tuple(f"    return {stub};\n}}\n" for stub in ("0", "1", "-1", "s[0]")),
        habit=habit,
    )


def _draw_string(rng: Random, chars: CharClass) -> str:
    """Stretches inside and outside the class, so that every question has many answers."""
    inside = [c for c in ALPHABET if chars.holds(c)]
    outside = [c for c in ALPHABET if not chars.holds(c)]
    text = ""
    for _ in range(rng.randint(0, 4)):
        text += "".join(rng.choice(outside) for _ in range(rng.randint(0, 7)))
        text += "".join(rng.choice(inside) for _ in range(rng.randint(0, 7)))
    return text + "".join(rng.choice(outside) for _ in range(rng.randint(0, 3)))
