"""Chains of small decisions, for the ablation of StepCoder's curriculum; no part of the shipped tasks or model.

The prompt names seven operations in order and the solution does one a line. Each line has a wrong habit, and the base
model's corpus shows it more often than not, independently of the other lines. So a completion is almost never right as
a whole and a group's rewards tie, while each line alone, behind the right beginning, has a fair chance: a prefix that
shrinks by a line at a time never asks for something that the policy cannot do. The last lines have no habit: with 0.7
of the characters given one decision is mostly left. `stop` leaves the function early where it goes wrong, so that the
lines behind it are not executed.

Lines begin with a tab: the base model's tokenizer joins a line break with the spaces behind it, and the end of a prefix
would cut that token in two, which the model has never seen.

Numbers are small and never negative. Every wrong line alone changes the answer for most n, which is tried for each
chain: rounding up after tripling, say, would forgive its habit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from rlvr_cpp.tasks.families.exercise import INT_STUBS, Exercise, scalar_check

CHAINS, LENGTH = 4000, 7
SMALLEST, LARGEST = 3, 60  # what n is drawn from
PROBES = range(SMALLEST, LARGEST + 1, 7)
MODULUS = 997
Operation = Callable[[int, int], int | None]
"""A line of the function: x after it, from x and n; None where it returns 0 at once."""
TAIL = f"\tconst int result = x % {MODULUS};\n\treturn result;\n}}\n"


@dataclass(frozen=True)
class Step:
    """One operation of a chain, the line that does it and the line that a careless author writes."""

    words: str
    right: str
    wrong: str
    apply: Operation
    misapply: Operation
    """The operation of the wrong line."""


def exercises() -> list[Exercise]:
    """Chains of different operations with random constants, always the same ones."""
    rng = Random("chains")
    chains: dict[tuple[str, ...], list[Step]] = {}
    while len(chains) < CHAINS:
        chosen = [(name, rng.choice(KINDS[name][1])) for name in rng.sample(list(KINDS), LENGTH)]
        steps = [KINDS[name][0](k) for name, k in chosen]
        if is_unforgiving(steps):
            chains[tuple(f"{name}_{k}" for name, k in chosen)] = steps
    return [_chain(combination, steps) for combination, steps in chains.items()]


def is_unforgiving(steps: Sequence[Step]) -> bool:
    """Whether each wrong line alone changes the answer for most n."""
    changed = [0] * len(steps)
    for n in PROBES:
        x: int | None = n
        answer = run_steps([step.apply for step in steps], n, n)
        for place, step in enumerate(steps):
            if x is None:
                break
            rest = [step.misapply, *(later.apply for later in steps[place + 1 :])]
            changed[place] += run_steps(rest, x, n) != answer
            x = step.apply(x, n)
    return 2 * min(changed) > len(PROBES)


def run_steps(operations: Iterable[Operation], x: int, n: int) -> int:
    """What the function returns that has come to `x` and still does the operations."""
    for operation in operations:
        result = operation(x, n)
        if result is None:
            return 0
        x = result
    return x % MODULUS


def _chain(combination: tuple[str, ...], steps: Sequence[Step]) -> Exercise:
    words = "; ".join(step.words for step in steps)
    return Exercise(
        family="chains",
        combination=combination,
        prompt=f"// Start with n; {words}; return it modulo {MODULUS}.\nint solve(int n) {{\n\tint x = n;\n",
        solution="".join(f"\t{step.right}\n" for step in steps) + TAIL,
        draw=lambda rng: rng.randint(SMALLEST, LARGEST),
        oracle=lambda n: run_steps([step.apply for step in steps], n, n),
        check=scalar_check,
        stubs=INT_STUBS,
        line_habits=tuple(f"\t{step.wrong}\n" for step in steps),
    )


def _multiple(k: int) -> Step:
    return Step(
        f"add {k} times n",
        f"x += {k} * n;",
        f"x += {k} + n;",
        lambda x, n: x + k * n,
        lambda x, n: x + k + n,
    )


def _double(k: int) -> Step:
    return Step(
        f"double it and add {k}",
        f"x = x * 2 + {k};",
        f"x = (x + {k}) * 2;",
        lambda x, n: x * 2 + k,
        lambda x, n: (x + k) * 2,
    )


def _triple(k: int) -> Step:
    return Step(
        f"add {k} and triple it",
        f"x = (x + {k}) * 3;",
        f"x = x + {k} * 3;",
        lambda x, n: (x + k) * 3,
        lambda x, n: x + k * 3,
    )


def _append(k: int) -> Step:
    return Step(
        f"append digit {k}",
        f"x = x * 10 + {k};",
        f"x = (x + {k}) * 10;",
        lambda x, n: x * 10 + k,
        lambda x, n: (x + k) * 10,
    )


def _round_up(k: int) -> Step:
    return Step(
        f"round up to a multiple of {k}",
        f"x = (x + {k - 1}) / {k} * {k};",
        f"x = x / {k} * {k};",
        lambda x, n: (x + k - 1) // k * k,
        lambda x, n: x // k * k,
    )


def _odd(k: int) -> Step:
    return Step(
        f"if odd add {k}",
        f"if (x % 2 != 0) x += {k};",
        f"if (x % 2 == 0) x += {k};",
        lambda x, n: x + k if x % 2 else x,
        lambda x, n: x if x % 2 else x + k,
    )


def _divisible(k: int) -> Step:
    return Step(
        f"if divisible by {k} add n",
        f"if (x % {k} == 0) x += n;",
        f"if (x % {k} != 0) x += n;",
        lambda x, n: x if x % k else x + n,
        lambda x, n: x + n if x % k else x,
    )


def _stop(k: int) -> Step:
    return Step(
        f"if divisible by {k} return 0",
        f"if (x % {k} == 0) return 0;",
        f"if (x % {k} != 0) return 0;",
        lambda x, n: x if x % k else None,
        lambda x, n: None if x % k else x,
    )


def _xor(k: int) -> Step:
    return Step(
        f"xor with {k}",
        f"x ^= {k};",
        f"x |= {k};",
        lambda x, n: x ^ k,
        lambda x, n: x | k,
    )


def _remainder(k: int) -> Step:
    return Step(
        f"add its remainder by {k}",
        f"x += x % {k};",
        f"x %= {k};",
        lambda x, n: x + x % k,
        lambda x, n: x % k,
    )


def _part(k: int) -> Step:
    return Step(
        f"add it divided by {k}",
        f"x += x / {k};",
        f"x /= {k};",
        lambda x, n: x + x // k,
        lambda x, n: x // k,
    )


def _square(k: int) -> Step:
    return Step(
        f"add n squared and {k}",
        f"x += n * n + {k};",
        f"x += n * 2 + {k};",
        lambda x, n: x + n * n + k,
        lambda x, n: x + n * 2 + k,
    )


KINDS: dict[str, tuple[Callable[[int], Step], Sequence[int]]] = {
    "multiple": (_multiple, range(2, 10)),
    "double": (_double, range(2, 10)),
    "triple": (_triple, range(2, 10)),
    "append": (_append, range(2, 10)),
    "round_up": (_round_up, range(3, 7)),
    "odd": (_odd, range(3, 10)),
    "divisible": (_divisible, range(3, 8)),
    "stop": (_stop, (31, 37, 41, 43, 47)),
    "xor": (_xor, (3, 5, 6, 7, 9)),
    "remainder": (_remainder, range(5, 10)),
    "part": (_part, range(2, 6)),
    "square": (_square, range(2, 10)),
}
