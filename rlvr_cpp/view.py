"""Look at what a run wrote, and at how each of it was judged: `rlvr view RUN`.

RUN is the folder of a training, an evaluation or a best-of-N search. Its samples are written as one page, which needs
neither a network nor a server (`samples.html` in the folder): prompts, completions, diagnostics at their lines, tests,
rewards, and the others of a group beside them. Trainings and evaluations that end leave the page by themselves.
"""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rlvr_cpp.errors import Parser
from rlvr_cpp.evaluation.view import view
from rlvr_cpp.runs.options import plain_main


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; exit status 2 tells of a mistake in the input."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="rlvr view", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument("--open", action="store_true", help="show it in the browser, too")
    parser.set_defaults(run=_run)
    return parser


def _run(call: argparse.Namespace) -> None:
    page = view(call.folder)
    print(page)
    if call.open:
        webbrowser.open(page.resolve().as_uri())


if __name__ == "__main__":
    sys.exit(main())
