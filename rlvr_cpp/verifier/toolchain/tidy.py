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
from rlvr_cpp.verifier.cpp.lint import lint_copy
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.toolchain.build import sources
from rlvr_cpp.verifier.toolchain.toolchain import SYSTEM
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
"""The check of a finding that says that clang does not take the code for C++, whatever the compiler thought."""
FINDING = re.compile(
    r"(?P<file>[^\s:][^:\n]*):(?P<line>[0-9]{1,9}):[0-9]{1,9}: (?P<severity>warning|error): (?P<message>.*) "
    r"\[(?P<check>[a-zA-Z][\w.,-]*)\]"
)
WORK = "/work"  # where a jail with a file system of its own shows the scratch folder


@dataclass(frozen=True)
class Finding:
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
    findings = tidy_findings(Program("#include <vector>\nstd::vector<int>* none = 0;\n"), workshop, tidy)
    if findings is None or [finding.check for finding in findings] != ["modernize-use-nullptr"]:
        raise UserError(f"clang-tidy {tidy!r} does not see a plain `0` for a pointer: install one that works")


def tidy_findings(program: Program, workshop: Workshop, tidy: str) -> tuple[Finding, ...] | None:
    """What clang-tidy finds in a program that compiles: each line and check once, in order.

    None where it could not do its work: the machine failed, it crashed or ran out of its limits (those of the
    compiler), or it stumbled over a header that is not the candidate's, such as one that only g++ has.
    """
    copies = {name: lint_copy(text).code for name, text in program.files.items()}
    command = [tidy, "--quiet", f"--config={{Checks: '{CHECKS}'}}", "--header-filter=.*", *sources(program), "--"]
    try:
        with workshop.scratch(copies) as folder:
            run = workshop.run_tool(
                folder, [*command, *_flags(program, workshop)], workshop.toolchain.compile_timeout, _home(tidy)
            )
    except (SandboxError, OSError):
        return None
    if run.ended != "exit" or run.returncode not in (0, 1):
        return None
    return _own_findings(run.stdout.decode(errors="replace"), [WORK, str(folder)], set(copies))


def _flags(program: Program, workshop: Workshop) -> list[str]:
    """Those of the compiler's that change what a program says; clang may not know the others."""
    chosen = [flag for flag in workshop.toolchain.extra_flags if flag.startswith(("-D", "-U", "-stdlib"))]
    return [f"-std={program.std}", *chosen]


def _home(tidy: str) -> tuple[str, ...]:
    """Where clang-tidy is and where its own headers are, if the compiler's jail does not show that anyway."""
    folder = Path(tidy).parent
    own = (str(folder), str(folder.parent / "lib"))
    return tuple(path for path in own if os.path.isdir(path) and not path.startswith(SYSTEM))


def _own_findings(text: str, folders: Sequence[str], names: set[str]) -> tuple[Finding, ...] | None:
    found: dict[tuple[str, int, str], Finding] = {}
    for match in filter(None, map(FINDING.fullmatch, text.split("\n"))):
        file = _name(match["file"], folders)
        if match["severity"] == "error" and (file not in names or "file not found" in match["message"]):
            return None
        if file in names:
            for check in match["check"].split(","):
                finding = Finding(file, int(match["line"]), check, match["message"])
                found.setdefault((file, finding.line, check), finding)
    return tuple(sorted(found.values(), key=lambda finding: (finding.file, finding.line, finding.check)))


def _name(path: str, folders: Iterable[str]) -> str:
    """The candidate's name for a file that clang-tidy names in full."""
    path = os.path.normpath(path)
    for folder in folders:
        if path.startswith(f"{folder}/"):
            return path.removeprefix(f"{folder}/")
    return path
