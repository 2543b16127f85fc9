"""The corpus of a base model: solutions as an imperfect author would write them.

Two kinds of mistake. Some combinations carry a *habit*, a wrong idiom that most of their samples show, so that greedy
decoding is wrong there although the right idiom keeps a fair share: that is what reinforcement learning can flip; or
a habit for each of their lines, shown independently. And some samples have a random slip, a swapped operator or a lost
semicolon. Held-out exercises never occur.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from rlvr_cpp.tasks.families import split_exercises
from rlvr_cpp.tasks.families.exercise import Exercise
from rlvr_cpp.tasks.families.mutation import breakages, mutants

HABIT_SHARE = 0.65
LINE_HABIT_SHARE = 0.58
SLIP_SHARE = 0.15


def corpus_rows(families: Sequence[str], seed: int, count: int) -> Iterator[dict[str, str]]:
    """`count` rows `{prompt, completion}`, every one of the families equally often."""
    rng = Random(f"corpus:{seed}")
    training = {family: split_exercises(family, seed)[0] for family in families}
    for _ in range(count):
        exercise = rng.choice(training[rng.choice(families)])
        yield {"prompt": exercise.prompt, "completion": imperfect_solution(exercise, rng)}


def imperfect_solution(exercise: Exercise, rng: Random) -> str:
    """The solution, or the habit where there is one, of the whole or of each line, now and then with a slip."""
    body = _with_line_habits(exercise, rng) if exercise.line_habits else exercise.solution
    if exercise.habit is not None and rng.random() < HABIT_SHARE:
        body = exercise.habit
    if rng.random() < SLIP_SHARE:
        body = rng.choice(mutants(body) + breakages(body))
    return body


def _with_line_habits(exercise: Exercise, rng: Random) -> str:
    lines = exercise.solution.splitlines(keepends=True)
    for place, habit in enumerate(exercise.line_habits):
        if rng.random() < LINE_HABIT_SHARE:
            lines[place] = habit
    return "".join(lines)
