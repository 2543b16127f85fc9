"""Eight families of verifiable C++ exercises, their split, and two more that are not shipped.

Held-out exercises are combinations that neither the base model's corpus nor the training tasks contain: a policy
can pass them only by having learnt the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from rlvr_cpp.tasks.families import (
    bits,
    callgraphs,
    chains,
    classes,
    numbers,
    programs,
    recurrences,
    reductions,
    strings,
    windows,
)
from rlvr_cpp.tasks.families.exercise import Exercise

VERSION = 1  # raise it when any exercise changes: shipped tasks and the shipped base model depend on it

FAMILIES: dict[str, Callable[[], list[Exercise]]] = {
    "reductions": reductions.exercises,
    "windows": windows.exercises,
    "strings": strings.exercises,
    "bits": bits.exercises,
    "numbers": numbers.exercises,
    "recurrences": recurrences.exercises,
    "classes": classes.exercises,
    "callgraphs": callgraphs.exercises,
}
ABLATION_FAMILIES: dict[str, Callable[[], list[Exercise]]] = {
    "chains": chains.exercises,
    "programs": programs.exercises,
}
"""Families that are not shipped; `make chains` and `make programs` make their tasks and base models."""
HELD_OUT_SHARE = 0.2


def split_exercises(family: str, seed: int) -> tuple[list[Exercise], list[Exercise]]:
    """Shuffle a family's exercises and set a fifth aside: `(train, held out)`."""
    exercises = (FAMILIES | ABLATION_FAMILIES)[family]()
    Random(f"{VERSION}:{family}:{seed}").shuffle(exercises)
    cut = round(len(exercises) * HELD_OUT_SHARE)
    return exercises[cut:], exercises[:cut]
