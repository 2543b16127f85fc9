"""Make the shipped tasks and the base model's corpus from the families.

rlvr-families tasks --out families.jsonl       draft, judge and keep what passes the quality gate
rlvr-families corpus --out corpus.jsonl        imperfect solutions for supervised fine-tuning
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rlvr_cpp.errors import UserError
from rlvr_cpp.families import FAMILIES, split_exercises
from rlvr_cpp.families.corpus import corpus_rows
from rlvr_cpp.families.exercise import Exercise
from rlvr_cpp.families.gate import admit, draft_task
from rlvr_cpp.progress import console, progress_bar
from rlvr_cpp.tasks import Task, save_tasks
from rlvr_cpp.verifier import Verifier
from rlvr_sandbox import SandboxError

TRAIN_PER_FAMILY, HELD_OUT_PER_FAMILY = 60, 12
RUN_SECONDS = 2.0  # a right solution needs milliseconds; some mutants never end
BATCH = 8  # drafts judged together: some are refused, and more are drawn until there are enough


def build_tasks(seed: int, train: int, held_out: int, verifier: Verifier) -> list[Task]:
    """`train` and `held_out` tasks of every family, each admitted by the gate.

    Raises UserError where a family has too few combinations that pass it.
    """
    tasks = []
    for family in FAMILIES:
        training, held = split_exercises(family, seed)
        tasks += _admitted(family, training, "train", train, verifier)
        tasks += _admitted(family, held, "held_out", held_out, verifier)
    return tasks


def _admitted(family: str, exercises: list[Exercise], split: str, wanted: int, verifier: Verifier) -> list[Task]:
    drafts = [(exercise, task) for exercise in exercises if (task := draft_task(exercise, split)) is not None]
    admitted: list[Task] = []
    with progress_bar(f"{family}, {split}", wanted) as advance:
        while len(admitted) < wanted:
            if not drafts:
                raise UserError(
                    f"family {family!r} has {len(admitted)} {split} tasks that pass the gate: ask for no more"
                )
            batch, drafts = drafts[:BATCH], drafts[BATCH:]
            passed = admit(batch, verifier)[: wanted - len(admitted)]
            admitted += passed
            for _ in passed:
                advance()
    return admitted


def main() -> None:
    """Write tasks or a corpus; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="rlvr-families", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("tasks", "corpus"))
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=TRAIN_PER_FAMILY, help="training tasks of each family")
    parser.add_argument("--held-out", type=int, default=HELD_OUT_PER_FAMILY, help="held-out tasks of each family")
    parser.add_argument("--rows", type=int, default=24_000, help="rows of the corpus")
    arguments = parser.parse_args()
    try:
        if arguments.what == "tasks":
            _write_tasks(arguments)
        else:
            _write_corpus(arguments)
    except (UserError, SandboxError) as error:
        sys.exit(f"error: {error}")


def _write_tasks(arguments: argparse.Namespace) -> None:
    with Verifier(timeout=RUN_SECONDS) as verifier:
        tasks = build_tasks(arguments.seed, arguments.train, arguments.held_out, verifier)
    save_tasks(tasks, arguments.out)
    console.print(f"{len(tasks)} tasks in {arguments.out}")


def _write_corpus(arguments: argparse.Namespace) -> None:
    rows = corpus_rows(arguments.seed, arguments.rows)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    console.print(f"{arguments.rows} rows in {arguments.out}")


if __name__ == "__main__":
    main()
