"""Look after a file of tasks.

rlvr-tasks convert FILE --out FILE     rows of any known shape into tasks of ours; which were left out, and why
rlvr-tasks show FILE [TASK]            one task as a model will see it, in a completion and in a chat
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
    convert = commands.add_parser("convert", help="rows of any known shape into tasks of ours")
    convert.add_argument("source", metavar="FILE", help="a .jsonl, .json or .parquet file, or a data set on the hub")
    convert.add_argument("--out", type=Path, metavar="FILE", required=True, help="write the tasks there, one a line")
    convert.add_argument("--config", help="the data set's configuration")
    convert.add_argument("--split", help="the data set's split; train without it")
    convert.set_defaults(run=_convert)
    show = commands.add_parser("show", help="one task as a model will see it")
    show.add_argument("source", metavar="FILE", help="a .jsonl, .json or .parquet file, or a data set on the hub")
    show.add_argument("task", metavar="TASK", nargs="?", help="its task_id; the first one without it")
    show.set_defaults(run=_show)
    return parser


def _convert(call: argparse.Namespace) -> None:
    from rlvr_cpp.tasks.conversion import convert_rows
    from rlvr_cpp.tasks.rows import read_source
    from rlvr_cpp.tasks.task import save_tasks

    rows = read_source(call.source, config=call.config, split=call.split, usual="train")
    converted = convert_rows(rows)
    for line in converted.report():
        print(line)
    save_tasks(converted.tasks, call.out)


def _show(call: argparse.Namespace) -> None:
    from rlvr_cpp.policy.policy import chat_messages
    from rlvr_cpp.tasks.conversion import describe_task, find_task
    from rlvr_cpp.tasks.task import load_tasks

    task = find_task(load_tasks(call.source), call.task, call.source)
    print(describe_task(task))
    print(f"--- in a completion\n{task.prompt}\n--- in a chat\n{chat_messages(task)[-1]['content']}")


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
