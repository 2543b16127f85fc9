"""Look after a file of tasks.

rlvr-tasks convert FILE --out FILE     rows of any known shape into tasks of ours; which were left out, and why
rlvr-tasks show FILE [TASK]            one task as a model will see it
rlvr-tasks check FILE [--out FILE]     which tasks an answer without work passes: zeros, NaN, the input handed back, ...

A task that one of them passes is weak: its tests say too little to pay a policy by. `--out` writes all tasks with what
was found, and a run that is given that file tells of it. `--benchmark FILE` names tasks that say what a problem of a
benchmark says. FILE is in any shape that `tasks.source` may have.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlvr_cpp.errors import Parser
from rlvr_cpp.runs.options import plain_main
from rlvr_cpp.tasks import commands


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; exit status 2 tells of a mistake in the input."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="rlvr-tasks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace], None], words: str) -> argparse.ArgumentParser:
        added = named.add_parser(name, help=words)
        added.add_argument("source", metavar="FILE", help="a .jsonl, .json or .parquet file, or a data set on the hub")
        added.set_defaults(run=run)
        return added

    convert = command("convert", commands.convert, "rows of any known shape into tasks of ours")
    convert.add_argument("--out", type=Path, metavar="FILE", required=True, help="write the tasks there, one a line")
    convert.add_argument("--config", help="the data set's configuration")
    convert.add_argument("--split", help="the data set's split; train without it")
    show = command("show", commands.show, "one task as a model will see it")
    show.add_argument("task", metavar="TASK", nargs="?", help="its task_id; the first one without it")
    check = command("check", commands.check, "name the tasks whose tests say too little")
    for one in (convert, check):
        one.add_argument(
            "--benchmark",
            metavar="FILE",
            action="append",
            default=[],
            help="name the tasks that share 13 words in a row with a problem of this file; may be given again",
        )
    check.add_argument("--out", type=Path, metavar="FILE", help="write the tasks with what was found, one a line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
