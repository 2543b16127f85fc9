"""Make tasks and a base model's corpus from the families, the shipped ones or one alone.

rlvr-families tasks --out families.jsonl       draft, judge and keep what passes the quality gate
rlvr-families corpus --out corpus.jsonl        imperfect solutions for supervised fine-tuning
rlvr-families tasks --family chains --out chains.jsonl    of one family, which need not be shipped
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rlvr_cpp.errors import Parser, UserError
from rlvr_cpp.runs.console import console, progress_bar
from rlvr_cpp.runs.files import replace_text
from rlvr_cpp.runs.options import plain_main
from rlvr_cpp.tasks.families import ABLATION_FAMILIES, FAMILIES, split_exercises
from rlvr_cpp.tasks.families.corpus import corpus_rows
from rlvr_cpp.tasks.families.exercise import Exercise
from rlvr_cpp.tasks.families.gate import admit, draft_task
from rlvr_cpp.tasks.task import Task, save_tasks
from rlvr_cpp.verifier.verifier import Verifier
from rlvr_sandbox import SandboxError

TRAIN_PER_FAMILY, HELD_OUT_PER_FAMILY = 60, 12
TRAIN_ALONE, HELD_OUT_ALONE = 240, 48  # of a family that is built alone
RUN_SECONDS = 2.0  # a right solution needs milliseconds; some mutants never end
BATCH = 8  # drafts judged together: some are refused, and more are drawn until there are enough


def build_tasks(families: Sequence[str], seed: int, train: int, held_out: int, verifier: Verifier) -> list[Task]:
    """`train` and `held_out` tasks of every one of the families, each admitted by the gate.

    Raises UserError where a family has too few combinations that pass it.
    """
    tasks = []
    for family in families:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Write tasks or a corpus; exit status 2 tells of a mistake in the input."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="rlvr-families", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tasks", "corpus"))
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl file to write")
    parser.add_argument("--family", choices=(*FAMILIES, *ABLATION_FAMILIES), help="one family; default: all shipped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--train", type=int, help=f"training tasks of each family ({TRAIN_PER_FAMILY}, or {TRAIN_ALONE} of one alone)"
    )
    parser.add_argument(
        "--held-out", type=int, help=f"held-out tasks likewise ({HELD_OUT_PER_FAMILY}, or {HELD_OUT_ALONE})"
    )
    parser.add_argument("--rows", type=int, default=24_000, help="rows of the corpus")
    parser.set_defaults(run=_build)
    return parser


def _build(arguments: argparse.Namespace) -> None:
    for name in ("train", "held_out", "rows"):
        if (count := getattr(arguments, name)) is not None and count < 0:
            raise UserError(f"--{name.replace('_', '-')} is {count}: it must be at least 0")
    out = arguments.out.absolute()
    if out.is_dir() or not next(place for place in out.parents if place.exists()).is_dir():
        raise UserError(f"--out is {str(arguments.out)!r}, where no file can be: name the .jsonl file to write")
    try:
        _write_tasks(arguments) if arguments.what == "tasks" else _write_corpus(arguments)
    except SandboxError as error:
        raise UserError(str(error)) from error


def _write_tasks(arguments: argparse.Namespace) -> None:
    train, held_out = (TRAIN_ALONE, HELD_OUT_ALONE) if arguments.family else (TRAIN_PER_FAMILY, HELD_OUT_PER_FAMILY)
    train = train if arguments.train is None else arguments.train
    held_out = held_out if arguments.held_out is None else arguments.held_out
    with Verifier(timeout=RUN_SECONDS) as verifier:
        tasks = build_tasks(_families(arguments), arguments.seed, train, held_out, verifier)
    save_tasks(tasks, arguments.out)
    console.print(f"{len(tasks)} tasks in {arguments.out}")


def _write_corpus(arguments: argparse.Namespace) -> None:
    rows = corpus_rows(_families(arguments), arguments.seed, arguments.rows)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    replace_text(arguments.out, "".join(json.dumps(row) + "\n" for row in rows))
    console.print(f"{arguments.rows} rows in {arguments.out}")


def _families(arguments: argparse.Namespace) -> list[str]:
    return [arguments.family] if arguments.family else list(FAMILIES)


if __name__ == "__main__":
    sys.exit(main())
