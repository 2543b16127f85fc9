"""Judge programs and answers from the command line: `rlvr-verify`, whose help tells all of it.

rlvr-verify file.cpp --tests tests.cpp
rlvr-verify --jsonl FILE|-
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rlvr_cpp.reward.lines import program_in_line
from rlvr_cpp.verifier import command


def main(argv: Sequence[str] | None = None) -> int:
    """Judge what the command line names; exit status 0, 1 or 2."""
    return command.main(argv, program_in_line)


if __name__ == "__main__":
    sys.exit(main())
