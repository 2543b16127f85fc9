"""How a command with options alone begins and ends: a mistake is one sentence. Needs no extra."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from rlvr_cpp.errors import UserError, first_line

BAD_INPUT = 2
INSTALL = "pip install 'rlvr-cpp[train]'"


def plain_main(make_parser: Callable[[], argparse.ArgumentParser], argv: Sequence[str] | None = None) -> int:
    """Call the function `run` that the parsed command line brings along, with the parsed line; gives the exit status.

    2 tells of a mistake in the input or of an extra that is not installed.
    """
    try:
        call = make_parser().parse_args(argv)
        call.run(call)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        place = error.filename2 or error.filename
        told = first_line(error) if place is None else f"{str(place)!r} cannot be used ({error.strerror}): give another"
        print(f"error: {told}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is missing: {INSTALL}", file=sys.stderr)
        return BAD_INPUT
    return 0
