"""The adapter artifact of a finished run, and its way to the Hugging Face hub.

`python -m rlvr_cpp.artifact <run folder> <folder>` makes one, with `--push OWNER/NAME` it is sent there as well, and
`python -m rlvr_cpp.artifact <artifact> --push OWNER/NAME` sends one that exists.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlvr_cpp.errors import Parser, UserError
from rlvr_cpp.runs.options import plain_main


def main(argv: Sequence[str] | None = None) -> int:
    """Make an artifact of what a finished training run left; exit status 2 tells of a mistake in the input."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rlvr_cpp.artifact", description="Make an artifact of what a finished training run left."
    )
    parser.add_argument("source", metavar="run", type=Path, help="the run's folder, or an artifact that is pushed")
    parser.add_argument("folder", type=Path, nargs="?", help="where to write the artifact; it must not exist")
    parser.add_argument("--push", metavar="OWNER/NAME", help="commit it to this repository on the Hugging Face hub")
    parser.add_argument("--private", action="store_true", help="a repository that --push makes is private")
    parser.add_argument("--evidence", type=Path, help="evaluation.json whose numbers the pushed model card shows")
    parser.set_defaults(run=_make_and_push)
    return parser


def _make_and_push(call: argparse.Namespace) -> None:
    if call.folder is None and call.push is None:
        raise UserError("neither a folder for the artifact nor --push is given: say where it goes")
    if call.folder is not None:
        _make(call)
    if call.push is not None:
        from rlvr_cpp.adapters.hub import push_artifact

        artifact = call.folder or call.source
        print(f"pushed to {push_artifact(artifact, call.push, evidence=call.evidence, private=call.private)}")


def _make(call: argparse.Namespace) -> None:
    from rlvr_cpp.adapters.from_run import save_run_artifact

    metadata = save_run_artifact(call.source, call.folder)
    print(f"adapter {metadata.adapter_hash[:12]} of {metadata.base_model} in {call.folder}")


if __name__ == "__main__":
    sys.exit(main())
