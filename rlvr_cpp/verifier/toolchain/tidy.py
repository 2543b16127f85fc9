"""What clang-tidy finds in a candidate: `modernize-*` and `bugprone-*`, in its own lines, each place once.

It reads the copy of the program on which nothing is suppressed (`lint`), in the same kind of jail as the compiler, so
NOLINT, pragmas and line markers change nothing. Four checks are left out. On 561 honest programs (161 reference
solutions of HumanEval-X C++ and 400 of MBXP's, `-std=c++17`) they made 682 of clang-tidy 14's 840 findings and as many
of clang-tidy 19's 823:

    modernize-use-trailing-return-type                   565   every function, `main` included: a taste
    bugprone-easily-swappable-parameters                  37   the signature, which is the prompt's
    bugprone-narrowing-conversions                        68   `int n = v.size()`: the cure is a cast that helps nobody
    bugprone-implicit-widening-of-multiplication-result   12   the same for `v[i * n]`

Of the rest `modernize-loop-convert` and `modernize-use-emplace` are the most. A run costs about as much as three or
four compilations, so it is for programs that pass their tests.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.toolchain.bench import Bench, open_bench
from rlvr_cpp.verifier.toolchain.toolchain import SYSTEM
from rlvr_cpp.verifier.toolchain.uncover import unsuppressed
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_sandbox import SandboxError

VERSIONS = range(30, 11, -1)
LEFT_OUT = (
    "modernize-use-trailing-return-type",
    "bugprone-easily-swappable-parameters",
    "bugprone-narrowing-conversions",
    "bugprone-implicit-widening-of-multiplication-result",
)
CHECKS = ",".join(["-*", "modernize-*", "bugprone-*", *(f"-{check}" for check in LEFT_OUT)])
UNREADABLE = "clang-diagnostic-error"
"""The check of a note that says that clang does not take the code for C++, whatever the compiler thought."""
FINDING = re.compile(
    r"(?P<file>[^\s:][^:\n]*):(?P<line>[0-9]{1,9}):[0-9]{1,9}: (?P<severity>warning|error): (?P<message>.*) "
    r"\[(?P<check>[a-zA-Z][\w.,-]*)\]"
)
WORK = "/work"  # where a jail with a file system of its own shows the scratch folder


@dataclass(frozen=True, kw_only=True)
class TidyNote:
    """One thing that clang-tidy has to say about a line of the candidate."""

    file: str
    """The candidate's name for it."""
    line: int
    """1-based."""
    check: str
    """`modernize-use-nullptr` and the like, or `UNREADABLE`."""
    message: str


def find_tidy() -> str | None:
    """The real path of clang-tidy on PATH, of the newest `clang-tidy-N` where there is no other; None without one."""
    names = ("clang-tidy", *(f"clang-tidy-{version}" for version in VERSIONS))
    found = next(filter(None, map(shutil.which, names)), None)
    return os.path.realpath(found) if found else None


def check_tidy(tidy: str, workshop: Workshop) -> None:
    """Raise UserError where clang-tidy does not find what is plainly there."""
    notes = tidy_notes(Program("#include <vector>\nstd::vector<int>* none = 0;\n"), workshop, tidy)
    if notes is None or [note.check for note in notes] != ["modernize-use-nullptr"]:
        raise UserError(f"clang-tidy {tidy!r} does not see a plain `0` for a pointer: install one that works")


def tidy_notes(program: Program, workshop: Workshop, tidy: str) -> tuple[TidyNote, ...] | None:
    """What clang-tidy finds in a program that compiles: each line and check once, in order.

    None where it could not do its work: the machine failed, it crashed or ran out of its limits (those of the
    compiler), or it stumbled over a header that is not the candidate's, such as one that only g++ has.
    """
    clean, _ = unsuppressed(program)
    command = [tidy, "--quiet", f"--config={{Checks: '{CHECKS}'}}", "--header-filter=.*", *clean.sources, "--"]
    try:
        with open_bench(clean, workshop) as bench:
            run = bench.run_tool([*command, *_flags(bench)], workshop.toolchain.compile_timeout, _home(tidy))
    except (SandboxError, OSError):
        return None
    if run.ended != "exit" or run.returncode not in (0, 1):
        return None
    return _own_notes(run.stdout.decode(errors="replace"), [WORK, str(bench.folder)], set(clean.files))


def _flags(bench: Bench) -> list[str]:
    """Those of the compiler's that change what a program says; clang may not know the others."""
    extra = bench.workshop.toolchain.extra_flags
    return [f"-std={bench.program.std}", *(flag for flag in extra if flag.startswith(("-D", "-U", "-stdlib")))]


def _home(tidy: str) -> tuple[str, ...]:
    """Where clang-tidy is and where its own headers are, if the compiler's jail does not show that anyway."""
    folder = Path(tidy).parent
    own = (str(folder), str(folder.parent / "lib"))
    return tuple(path for path in own if os.path.isdir(path) and not path.startswith(SYSTEM))


def _own_notes(text: str, folders: Sequence[str], names: set[str]) -> tuple[TidyNote, ...] | None:
    found: dict[tuple[str, int, str], TidyNote] = {}
    for match in filter(None, map(FINDING.fullmatch, text.split("\n"))):
        file = _name(match["file"], folders)
        if match["severity"] == "error" and (file not in names or "file not found" in match["message"]):
            return None
        if file in names:
            for check in match["check"].split(","):
                note = TidyNote(file=file, line=int(match["line"]), check=check, message=match["message"])
                found.setdefault((file, note.line, check), note)
    return tuple(sorted(found.values(), key=lambda note: (note.file, note.line, note.check)))


def _name(path: str, folders: Iterable[str]) -> str:
    """The candidate's name for a file that clang-tidy names in full."""
    path = os.path.normpath(path)
    for folder in folders:
        if path.startswith(f"{folder}/"):
            return path.removeprefix(f"{folder}/")
    return path
