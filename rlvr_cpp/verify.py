"""Judge programs and answers from the command line: `rlvr-verify`, whose help tells all of it.

rlvr-verify file.cpp --tests tests.cpp
rlvr-verify --jsonl FILE|-
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rlvr_cpp.verifier import command
from rlvr_cpp.verifier.program import Program


def main(argv: Sequence[str] | None = None) -> int:
    """Judge what the command line names; exit status 0, 1 or 2."""
    return command.main(argv, _read_row)


def _read_row(row: Mapping[str, Any]) -> Program:
    from rlvr_cpp.reward.lines import program_in_line  # a single program does without all that reads tasks

    return program_in_line(row)


if __name__ == "__main__":
    sys.exit(main())
