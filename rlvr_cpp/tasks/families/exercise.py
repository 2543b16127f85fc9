"""An exercise: one combination of one family, in a form that a generator can vary and an oracle can check.

A family is a grammar of small C++ functions ("the sum of squares of odd elements"). Each combination yields a
prompt that ends where the model takes over, the right completion, plausible wrong ones, and a Python oracle that
says what the function must return for any arguments. Nothing here compiles anything: see `gate.py` for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from rlvr_cpp.verifier.cases import Case

Arguments = Any  # what `draw` makes and `oracle` and `check` read; each family has its own shape

MAX_SAME_ANSWER = 2  # tests that may expect one value: a constant stub must fail most of them
MAX_DRAWS = 600


@dataclass(frozen=True)
class Exercise:
    """One combination of one family."""

    family: str
    combination: tuple[str, ...]
    """What was combined, e.g. `("sum", "squares", "odd")`; unique within the family."""
    prompt: str
    """C++ up to the place where the model takes over; it leaves braces open."""
    solution: str
    """The completion that closes them and is right."""
    draw: Callable[[Random], Arguments]
    oracle: Callable[[Arguments], int]
    check: Callable[[Arguments, int], str]
    """A C++ statement that does `passed += <call> == <expected>;`, or what a whole program reads."""
    stubs: tuple[str, ...]
    """Completions that do no work; each must fail most tests."""
    habit: str | None = None
    """A wrong completion that a careless corpus would teach for this combination."""
    line_habits: tuple[str, ...] = ()
    """Wrong lines for the first lines of the solution, which a careless corpus shows each on its own."""
    entry_point: str = "solve"
    callees: tuple[str, ...] = ()
    support: str = ""
    """C++ that defines the callees; it stands with the tests, so that only a call can know what they return."""
    is_program: bool = False
    """It is a `main` that reads its arguments and prints its answer."""

    @property
    def key(self) -> str:
        """A stable name: the family and the combination."""
        return "/".join((self.family, *self.combination))


@dataclass(frozen=True)
class TestSet:
    """C++ that judges a completion: a `main` that prints `PASSED n/count`."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    code: str
    count: int


def make_tests(exercise: Exercise, count: int, seed: str) -> TestSet:
    """`count` tests of a function. Raises ValueError where the exercise's answers are too few for that."""
    statements = [statement for statement, _ in _drawn(exercise, count, seed)]
    return TestSet(exercise.support + render_main(statements), count)


def make_cases(exercise: Exercise, count: int, seed: str) -> tuple[Case, ...]:
    """`count` cases of a program. Raises ValueError where the exercise's answers are too few for that."""
    return tuple(Case(text, f"{answer}\n") for text, answer in _drawn(exercise, count, seed))


def _drawn(exercise: Exercise, count: int, seed: str) -> list[tuple[str, int]]:
    """`count` checks with their answers, which differ enough that no constant passes many."""
    rng = Random(f"{exercise.key}:{seed}")
    checks: dict[str, int] = {}
    answers: Counter[int] = Counter()
    for _ in range(MAX_DRAWS):
        if len(checks) == count:
            break
        arguments = exercise.draw(rng)
        answer = exercise.oracle(arguments)
        check = exercise.check(arguments, answer)
        if answers[answer] < MAX_SAME_ANSWER and check not in checks:
            answers[answer] += 1
            checks[check] = answer
    if len(checks) < count:
        raise ValueError(f"{exercise.key}: only {len(checks)} of {count} tests with varied answers were found")
    return list(checks.items())


def render_main(statements: Sequence[str]) -> str:
    """The harness around the statements: one marker, on a line of its own, and exit status 0 on a full pass only."""
    count = len(statements)
    body = "\n".join(f"    {statement}" for statement in statements)
    return (
        "#include <cstdio>\n\n"
        "int main() {\n"
        "    int passed = 0;\n"
        f"{body}\n"
        f'    std::printf("\\nPASSED %d/{count}\\n", passed);\n'
        f"    return passed == {count} ? 0 : 1;\n"
        "}\n"
    )


def array_check(values: Sequence[int], expected: int) -> str:
    """A test of `int solve(const int* v, int n)`."""
    body = ", ".join(map(str, values)) or "0"
    return f"{{ const int v[] = {{{body}}}; passed += solve(v, {len(values)}) == {expected}; }}"


def scalar_check(argument: int, expected: int) -> str:
    """A test of `int solve(int n)`."""
    return f"passed += solve({argument}) == {expected};"


INT_STUBS = ("    return 0;\n}\n", "    return 1;\n}\n", "    return -1;\n}\n", "    return n;\n}\n")


@dataclass(frozen=True)
class Predicate:
    """A condition on one int, in English, in C++ (with `{x}` for the operand) and in Python."""

    words: str
    cpp: str
    holds: Callable[[int], bool]


def predicates(constants: Sequence[int]) -> list[Predicate]:
    """Parity and, for each constant, order and divisibility."""
    parity = [
        Predicate("even", "{x} % 2 == 0", lambda x: x % 2 == 0),
        Predicate("odd", "{x} % 2 != 0", lambda x: x % 2 != 0),
    ]
    return parity + [predicate for k in constants for predicate in _against(k)]


def _against(k: int) -> list[Predicate]:
    order = [
        Predicate(f"greater than {k}", f"{{x}} > {k}", lambda x: x > k),
        Predicate(f"less than {k}", f"{{x}} < {k}", lambda x: x < k),
    ]
    divisibility = [
        Predicate(f"divisible by {k}", f"{{x}} % {k} == 0", lambda x: x % k == 0),
        Predicate(f"not divisible by {k}", f"{{x}} % {k} != 0", lambda x: x % k != 0),
    ]
    return order + divisibility if k > 2 else order
