"""A guess where there is no compiler: `python -m rlvr_cpp.proxy train | measure | score`.

What a proxy verifier is and what it is not for: `rlvr_cpp.search.proxy.model`. Scoring needs neither a compiler nor
torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rlvr_cpp.runs.options import plain_main


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure or ask a proxy; exit status 2 tells of a mistake in the input."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    from rlvr_cpp.search.proxy.commands import parser

    return parser()


if __name__ == "__main__":
    sys.exit(main())
