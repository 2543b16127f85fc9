"""Look after a file of tasks.

rlvr-tasks check FILE [--out FILE]     which tasks an answer without work passes: zeros, NaN, the input handed back, ...

A task that one of them passes is weak: its tests say too little to pay a policy by. `--out` writes all tasks with what
was found, and a run that is given that file tells of it. FILE is in any shape that `tasks.source` may have.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlvr_cpp.runs.command import plain_main

RUN_SECONDS = 2.0  # an answer without work needs milliseconds


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; exit status 2 tells of a mistake in the input."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlvr-tasks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    check = commands.add_parser("check", help="name the tasks whose tests say too little")
    check.add_argument("source", metavar="FILE", help="a .jsonl, .json or .parquet file, or a data set on the hub")
    check.add_argument("--out", type=Path, metavar="FILE", help="write the tasks with what was found, one a line")
    check.set_defaults(run=_check)
    return parser


def _check(call: argparse.Namespace) -> None:
    from rlvr_cpp.tasks.task import load_tasks, save_tasks
    from rlvr_cpp.tasks.weak import check_tasks, is_known
    from rlvr_cpp.verifier.verifier import Verifier

    tasks = load_tasks(call.source)
    with Verifier(timeout=RUN_SECONDS) as verifier:
        checked = check_tasks(tasks, verifier)
    weak = [task for task in checked if task.weak]
    for task in weak:
        print(f"{task.task_id}: weak: {'; '.join(task.weak or ())}")
    unknown = sum(not is_known(task) for task in checked)
    print(f"{len(weak)} of {len(checked)} tasks are weak, {unknown} open no plain function and were not tried")
    if call.out is not None:
        save_tasks(checked, call.out)


if __name__ == "__main__":
    sys.exit(main())
