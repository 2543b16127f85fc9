"""Judge programs and answers from the command line: `rlvr-verify`, whose help tells all of it.

rlvr-verify file.cpp --tests tests.cpp
rlvr-verify --jsonl FILE|-
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier import command
from rlvr_cpp.verifier.lines import program_in
from rlvr_cpp.verifier.program import Program


def main(argv: Sequence[str] | None = None) -> int:
    """Judge what the command line names; exit status 0, 1 or 2."""
    return command.main(argv, _read_row)


def _read_row(row: Mapping[str, Any]) -> Program:
    if row.get("code") is not None:
        return program_in(row)
    try:
        from rlvr_cpp.reward.lines import program_in_answer  # programs do without all that reads tasks
    except ModuleNotFoundError as error:
        raise UserError(
            f"an answer with its task needs {error.name}, of the extra 'train': pip install 'rlvr-cpp[train]'"
        ) from error
    return program_in_answer(row)


if __name__ == "__main__":
    sys.exit(main())
