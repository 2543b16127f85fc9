"""What is judged: a candidate, the tests it is put to, and the language standard."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import PurePosixPath

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.cases import Case
from rlvr_cpp.verifier.checkers import Checker, Tolerance, check_checker
from rlvr_cpp.verifier.limits import RunLimits
from rlvr_cpp.verifier.verdict import MAX_TESTS

STANDARD = re.compile(r"(c|gnu)\+\+(98|03|11|14|17|20|23|26|0x|1y|1z|2a|2b|2c)")
TESTLIB = "testlib.h"
CANDIDATE_FILE = "candidate.cpp"
"""What a candidate of one text is called."""
SOURCES = (".cpp", ".cc", ".cxx", ".C")
HEADERS = (".h", ".hpp", ".hh", ".hxx", ".ipp", ".inl", ".tpp")
MAX_FILES = 200
MAX_CHARACTERS = 4 << 20
MAX_NAME = 200
MAX_PARTS = 16
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")


@dataclass(frozen=True)
class Program:
    """What is judged."""

    code: str | Mapping[str, str]
    """The candidate: the text that a policy is answerable for, or the texts of its files by name."""
    test: str | None = None
    """A harness that prints the marker, or a `main` of assertions; None where the task has no tests of this kind."""
    tests_declared: int | None = None
    """How many tests the harness has; None where only it knows."""
    std: str = "c++17"
    _: KW_ONLY
    declaration: str | None = None
    """Trusted C++ that declares what the harness calls, such as a task's prompt; None where the harness does itself."""
    reference: str | None = None
    """A whole candidate that passes, or None: what it says about types decides how tests are taken apart."""
    hidden_test: str | None = None
    """More tests, whose inputs no prompt shows, so that special-casing the visible ones does not pay."""
    hidden_tests_declared: int | None = None
    cases: tuple[Case, ...] = ()
    """Pairs of standard input and expected output, instead of a test."""
    checker: Checker = "tokens"
    """How outputs are compared: a name (see `checkers.py`), or a function of input, expected and actual output."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    """For the checker `float`."""
    checker_program: str | None = None
    """C++ that compares, instead of a named checker: testlib's interface, see `tiers/checker_program.py`."""
    interactor: str | None = None
    """C++ that talks to the candidate and judges it: testlib's interface, see `tiers/interactive.py`."""
    limits: RunLimits = field(default_factory=RunLimits)
    """What a run may use, where the task says so."""

    @property
    def files(self) -> dict[str, str]:
        """The candidate's files; a single text is `candidate.cpp`."""
        return {CANDIDATE_FILE: self.code} if isinstance(self.code, str) else dict(self.code)

    @property
    def sources(self) -> list[str]:
        """The names of its translation units."""
        return sorted(name for name in self.files if PurePosixPath(name).suffix in SOURCES)

    @property
    def identity(self) -> tuple[object, ...]:
        """Everything that a verdict about it depends on."""
        others = (getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "code")
        return (tuple(sorted(self.files.items())), *others)

    @property
    def judge_program(self) -> str | None:
        """What judges its outputs or its talk; None where they are compared here."""
        return self.checker_program if self.interactor is None else self.interactor

    @property
    def needs_testlib(self) -> bool:
        """What judges its outputs includes testlib."""
        return TESTLIB in (self.judge_program or "")

    @property
    def optimization(self) -> str:
        """How it is compiled: nobody waits for the optimizer where nobody set a time for what comes out of it."""
        return "-O0" if self.limits.time is None else "-O2"

    @property
    def is_empty(self) -> bool:
        """There is no code in it at all."""
        return not any(text.strip("\0 \t\r\n\v\f") for text in self.files.values())


def check_program(program: Program) -> None:
    """Raise UserError where a text is no text, or the standard or the number of tests makes no sense.

    What a candidate may have chosen itself, such as the names of its files, is not a user's mistake: see `refusal`.
    """
    code = program.code
    if not isinstance(code, str) and not (isinstance(code, Mapping) and all(map(_is_text, [*code, *code.values()]))):
        raise UserError(f"code is a {type(code).__name__}: it must be C++ text, or texts by file name")
    for name in ("test", "hidden_test", "declaration", "reference", "checker_program", "interactor"):
        text = getattr(program, name)
        if text is not None and not isinstance(text, str):
            raise UserError(f"{name} is a {type(text).__name__}: it must be C++ text")
    if not isinstance(program.std, str) or not STANDARD.fullmatch(program.std):
        raise UserError(f"std is {program.std!r}: it must be a C++ standard such as c++17 or gnu++20")
    check_checker(program.checker)
    _check_judge(program)
    if program.cases and program.test is not None:
        raise UserError(f"cases holds {len(program.cases)} cases but there is test code as well: give one of them")
    if program.judge_program is None and not all(case.stdout.strip() for case in program.cases):
        raise UserError("a case expects nothing, and no program judges what is printed: leave the case out")
    for name, test in (("tests_declared", program.test), ("hidden_tests_declared", program.hidden_test)):
        declared = getattr(program, name)
        if declared is None:
            continue
        if test is None:
            raise UserError(f"{name} is {declared} but there is no test code: give both or neither")
        if not 1 <= declared <= MAX_TESTS:
            raise UserError(f"{name} is {declared}: it must be between 1 and {MAX_TESTS}")


def _check_judge(program: Program) -> None:
    name = "checker_program" if program.interactor is None else "interactor"
    if program.judge_program is not None and not program.cases:
        raise UserError(f"{name} is given but there are no cases that it could judge: give both or neither")
    if program.checker_program is not None and program.interactor is not None:
        raise UserError("there are both a checker_program and an interactor: leave one of them out")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def refusal(program: Program) -> str | None:
    """Why a candidate cannot even be given to the compiler; None where it can."""
    files = program.files
    if program.is_empty:
        return "there is no code to judge"
    if (size := sum(map(len, files.values()))) > MAX_CHARACTERS:
        return f"the code has {size} characters, more than {MAX_CHARACTERS}"
    if len(files) > MAX_FILES:
        return f"the code has {len(files)} files, more than {MAX_FILES}"
    if not any(PurePosixPath(name).suffix in SOURCES for name in files):
        return f"the code has no source file among {sorted(files)[:5]!r}: one must end in {', '.join(SOURCES)}"
    for name in files:
        short = len(name) <= MAX_NAME and name.count("/") < MAX_PARTS
        known = short and PurePosixPath(name).suffix in SOURCES + HEADERS and FILE_NAME.fullmatch(name)
        if not known or any(part.startswith("rlvr_") for part in name.split("/")) or _is_folder(name, files):
            return f"the code has a file named {name[:MAX_NAME]!r}: it must be a short relative path with a C++ suffix"
    return None


def _is_folder(name: str, files: Mapping[str, str]) -> bool:
    return any(other.startswith(name + "/") for other in files)


POLICY_VERSION = 12
"""Raised when the same program may be judged otherwise than before, so that old cached verdicts are not believed."""
