"""What an architecture builds: a table of its layers with their parameters and those that a token uses.

    python -m rlvr_pretrain.describe moe_e06

The table is `rlvr_model.describe`'s. The command stands outside that package, whose import registers the model with
transformers: seconds that --help need not wait.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rlvr_cpp.errors import Parser, UserError
from rlvr_cpp.runs.options import plain_main


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of a preset; exit status 2 tells of a mistake in the input."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rlvr_pretrain.describe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", help="an architecture of conf/architecture, such as scorecard or nam56r")
    parser.set_defaults(run=_describe)
    return parser


def _describe(call: argparse.Namespace) -> None:
    from rlvr_model.describe import layer_table
    from rlvr_model.presets import load_preset

    try:
        print(layer_table(load_preset(call.preset)))
    except ValueError as error:
        raise UserError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
