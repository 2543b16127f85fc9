"""One command with many under it: the list of them, and the way to each."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from rlvr_cpp.runs.completion import SHELLS, completion
from rlvr_cpp.runs.options import BAD_INPUT, INSTALL

Commands = Mapping[str, tuple[str, str]]
"""By name: the module whose `main` it is, and what it is for."""


def dispatch(usage: str, version: str, commands: Commands, argv: Sequence[str]) -> int:
    """Call the command that the first word names with the rest as its command line; gives its exit status."""
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_page(usage, commands))
    elif name == "--version":
        print(f"rlvr-cpp {version}")
    elif name == "completion" and rest and rest[0] in SHELLS:
        print("\n".join(completion(rest[0], commands)))
    elif name in commands:
        return _call(name, commands[name][0], rest)
    else:
        print(f"error: {_unknown(name, commands)}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _call(name: str, module: str, rest: Sequence[str]) -> int:
    argv = sys.argv
    sys.argv = ["doctor", "doctor", *rest] if name == "doctor" else [f"rlvr {name}", *rest]
    try:
        try:
            return int(import_module(module).main() or 0)
        finally:
            sys.stdout.flush()
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is missing: {INSTALL}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # whoever reads has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        sys.argv = argv


def _unknown(name: str, commands: Commands) -> str:
    if name == "completion":
        return "completion is for a shell: rlvr completion bash, zsh or fish"
    near = difflib.get_close_matches(name, commands, 1)
    return f"there is no command {name!r}: " + (
        f"did you mean {near[0]}?" if near else f"it is one of {', '.join(commands)}"
    )


def _page(usage: str, commands: Commands) -> str:
    listed = "\n".join(f"    {name:<12}{words}" for name, (_, words) in commands.items())
    return f"{usage.strip()}\n\n{listed}\n\nrlvr --version prints the version."
