"""What is wrong with a command line that Hydra refuses, in one sentence.

Hydra tells it in several lines that are about Hydra, and asks for an environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, NoReturn, get_type_hints

from rlvr_cpp.errors import UserError, first_line

NO_KEY = re.compile(r"Could not override '([^']+)'")
ADD = re.compile(r"To append to your default list use (\S+)")
OPTIONS = re.compile(r"Available options in '[^']*':\n((?:\t.+\n?)+)")


def check_options(argv: Sequence[str]) -> None:
    """Raise UserError for what begins with a dash and is no option of Hydra's."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}: settings are given as key=value, --help lists them")

    parser: Any = get_args_parser()
    parser.error = refuse
    parser.parse_intermixed_args(argv)


def what_is_wrong(error: Exception, kind: type) -> str:
    """The sentence for an error of Hydra's, with the setting of `kind` that is nearest to what was written."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"the run folder cannot be made ({first_line(error)}): choose another hydra.run.dir"
    if add := ADD.search(text):
        return f"{first_line(error).rstrip('.')}: use {add[1]}"
    if missing := NO_KEY.search(text):
        near = get_close_matches(missing[1], [*_keys(kind)], 1, 0.7)
        return f"there is no setting {missing[1]!r}: {f'do you mean {near[0]!r}? ' if near else ''}--help lists all"
    if options := OPTIONS.search(text):
        return f"{first_line(error)}: it must be one of {', '.join(options[1].split())}"
    return f"{first_line(error).rstrip('.')}: settings are given as key=value, --help lists them"


def _keys(kind: type, group: str = "") -> Iterator[str]:
    """Every setting, its groups before it."""
    types = get_type_hints(kind)
    for field in fields(kind):
        key = f"{group}{field.name}"
        yield key
        if is_dataclass(inner := types[field.name]) and isinstance(inner, type):
            yield from _keys(inner, f"{key}.")
