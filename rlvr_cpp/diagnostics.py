"""Compiler output as data: what kind of failure it was, and each warning and error with its place.

Reads the plain text of g++ and clang++, whose first lines agree: `file:line:column: severity: message [flag]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DIAGNOSTIC = re.compile(
    r"^(?P<file>[^\s:]+):(?P<line>\d+):(?:(?P<column>\d+):)? "
    r"(?P<severity>fatal error|error|warning|note): (?P<message>.*?)(?: \[(?P<flag>-W[^\]]+)\])?$",
    re.MULTILINE,
)
LINK_FAILURE = re.compile(
    r"undefined reference to|undefined symbol|multiple definition of|ld returned \d|linker command failed"
)
UNDEFINED = re.compile(r"undefined (?:reference to|symbol:)")
UNDEFINED_MAIN = re.compile(r"undefined (?:reference to|symbol:) [`']?main\b")

TROUBLE = re.compile(
    r"^[^\n]*(?:No space left on device|Killed signal terminated program|cannot execute|Cannot allocate memory|"
    r"Resource temporarily unavailable|Disk quota exceeded|out of memory allocating)[^\n]*$",
    re.MULTILINE,
)

ERROR_CLASSES = tuple(
    (name, re.compile("|".join(phrases)))
    for name, phrases in (
        ("syntax", ("expected ", "stray ", "missing terminating", "unterminated", "extraneous ")),
        (
            "undeclared",
            (
                "was not declared",
                "undeclared",
                "not a member of",
                "no member named",
                "has no member",
                "unknown type",
                "does not name a type",
            ),
        ),
        ("type", ("cannot convert", "invalid conversion", "no match", "no viable", "incompatible", "invalid operands")),
        ("redefinition", ("redefinition", "redeclar", "conflicting declaration", "previously defined")),
        ("include", ("No such file or directory", "file not found")),
    )
)


@dataclass(frozen=True)
class Diagnostic:
    """One warning, error or note."""

    file: str
    line: int
    """1-based; the candidate's own lines are those of `candidate.cpp`."""
    column: int | None
    severity: str
    """`fatal error`, `error`, `warning` or `note`."""
    message: str
    flag: str | None
    """The warning's option, `-Wunused-variable` and the like."""


def parse_diagnostics(stderr: str) -> tuple[Diagnostic, ...]:
    """Every diagnostic of a g++ or clang++ run, in order."""
    return tuple(
        Diagnostic(
            file=match["file"],
            line=int(match["line"]),
            column=int(match["column"]) if match["column"] else None,
            severity=match["severity"],
            message=match["message"],
            flag=match["flag"],
        )
        for match in DIAGNOSTIC.finditer(stderr)
    )


def error_class(diagnostics: tuple[Diagnostic, ...]) -> str:
    """A word for the first error: `syntax`, `undeclared`, `type`, `redefinition`, `include` or `other`."""
    for diagnostic in diagnostics:
        if diagnostic.severity.endswith("error"):
            matching = (name for name, pattern in ERROR_CLASSES if pattern.search(diagnostic.message))
            return next(matching, "other")
    return "other"


def count_warnings(diagnostics: tuple[Diagnostic, ...], file: str) -> int:
    """Warnings in one file, each place and option once."""
    found = {(d.line, d.flag or d.message) for d in diagnostics if d.severity == "warning" and d.file == file}
    return len(found)


def is_link_failure(stderr: str) -> bool:
    """The compiler was content and the linker was not."""
    return LINK_FAILURE.search(stderr) is not None


def lacks_only_main(stderr: str) -> bool:
    """The one thing missing is a `main`: the program compiles, there is nothing to run."""
    return len(UNDEFINED.findall(stderr)) == 1 and UNDEFINED_MAIN.search(stderr) is not None


def toolchain_trouble(stderr: str) -> str | None:
    """The line in which the driver, the compiler or a tool says that the machine failed it; None where none does.

    Lines with the place of a diagnostic or the echo of a source line may hold the candidate's own words and are not
    looked at.
    """
    for match in TROUBLE.finditer(stderr):
        line = match.group()
        if not DIAGNOSTIC.match(line) and not re.match(r"\s*\d* \|", line):
            return line
    return None
