"""Is the difference real: `python -m rlvr_cpp.compare FIRST OTHER [OTHER ...]`.

The same problems, paired: differences with their intervals and p, from the records that evaluations leave.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlvr_cpp.errors import Parser
from rlvr_cpp.runs.options import plain_main


def main(argv: Sequence[str] | None = None) -> int:
    """Compare evaluations; exit status 2 where there is nothing to compare."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m rlvr_cpp.compare", description="Is the difference real?")
    parser.add_argument("first", type=Path, help="an evaluation's run folder, or its evaluation.json")
    parser.add_argument("others", type=Path, nargs="+", help="what is compared with it")
    parser.set_defaults(run=_compare)
    return parser


def _compare(call: argparse.Namespace) -> None:
    from rich.console import Console

    from rlvr_cpp.evaluation.compare import compare_records, load_record, print_comparison, remarks

    places = [call.first, *call.others]
    console = Console(highlight=False)
    records = [load_record(place) for place in places]
    names = [str(place) for place in places]
    print_comparison(compare_records(records, names), names[0], console)
    for remark in remarks(records, names):
        console.print(f"note: {remark}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
