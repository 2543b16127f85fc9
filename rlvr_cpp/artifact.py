"""The adapter artifact of a finished run: `python -m rlvr_cpp.artifact <run folder> <folder>`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlvr_cpp.runs.command import plain_main


def main(argv: Sequence[str] | None = None) -> int:
    """Make an artifact of what a finished training run left; exit status 2 tells of a mistake in the input."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rlvr_cpp.artifact", description="Make an artifact of what a finished training run left."
    )
    parser.add_argument("source", metavar="run", type=Path, help="the run's folder")
    parser.add_argument("folder", type=Path, help="where to write the artifact; it must not exist")
    parser.set_defaults(run=_make)
    return parser


def _make(call: argparse.Namespace) -> None:
    from rlvr_cpp.adapters.from_run import save_run_artifact

    metadata = save_run_artifact(call.source, call.folder)
    print(f"adapter {metadata.adapter_hash[:12]} of {metadata.base_model} in {call.folder}")


if __name__ == "__main__":
    sys.exit(main())
