"""Whose mistake it is that a program was not judged, and where.

A test that is empty, that reports nothing or that does not compile with anything is its author's mistake: it is found
in trusted text alone (the test, and the reference or the declaration), whatever the answer is, and nobody's score. What
an answer does wrong is told at its own lines, by a compiler that sees nothing else where it can be, and in no name of
ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from rlvr_cpp.verifier.cpp.assertions import count_assertions
from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic, diagnostic_flags, error_class, parse_diagnostics
from rlvr_cpp.verifier.cpp.lexemes import lexemes
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.tiers.observer.planner import QUOTED_INCLUDE, closed
from rlvr_cpp.verifier.toolchain.bench import CANDIDATE_OBJECT, Bench
from rlvr_cpp.verifier.toolchain.built import Built
from rlvr_cpp.verifier.toolchain.workshop import Workshop

TRUSTED, TESTS, BOTH = "trusted.cpp", "tests.cpp", "both.cpp"
OWN_NAME = re.compile(r"(?:\./)?\brlvr(?:_|::)[\w:.]*\w")
WANTED = "it must print `PASSED n/m`, or be a main of assertions"
FROM_TESTS = "the tests"
"""What stands for every name of ours."""


class BadTest(Exception):
    """The task's test can judge nobody; the text says why, without a subject: `is empty`."""


def check_test(test: str) -> None:
    """Raise BadTest for a text that can judge nobody, as far as it says so itself."""
    if mistake := _mistake_in(test):
        raise BadTest(mistake)


@lru_cache(maxsize=512)
def _mistake_in(test: str) -> str:
    if "\0" in test:
        return "is no text: it holds a zero byte"
    words = [one.text for one in lexemes(test) if one.kind == "word"]
    if not words:
        return f"is empty: {WANTED}"
    if QUOTED_INCLUDE.search(test):
        return ""
    if "main" not in words:
        return f"has no main: {WANTED}"
    reports = "PASSED" in test or count_assertions(test) != test
    return "" if reports else f"reports nothing: {WANTED}"


def check_with_compiler(program: Program, workshop: Workshop) -> None:
    """Raise BadTest where the test compiles with nothing: not with the reference, or not even by itself."""
    test = program.test or ""
    if QUOTED_INCLUDE.search(test) or test.lstrip().startswith("}"):
        return
    trusted = program.reference or closed(program.declaration) or ""
    error = _first_error(test, trusted, program.std, workshop)
    is_certain = program.reference is not None or (error is not None and error_class((error,)) in ("syntax", "include"))
    if error is not None and error.file == TESTS and is_certain:
        raise BadTest(f"does not compile: line {error.line}: {error.message}")


@lru_cache(maxsize=512)
def _first_error(test: str, trusted: str, std: str, workshop: Workshop) -> Diagnostic | None:
    """Of trusted text and the test as one."""
    files = {TRUSTED: trusted, TESTS: test, BOTH: f'#include "{TRUSTED}"\n#include "{TESTS}"\n'}
    machine = diagnostic_flags(workshop.toolchain.version)
    with workshop.scratch(files) as folder:
        done = workshop.compile(folder, ["-w", *workshop.trusted_flags(std), *machine, "-fsyntax-only", BOTH])
    return first_error(parse_diagnostics(done.stderr.decode(errors="replace")))


def first_error(diagnostics: Iterable[Diagnostic]) -> Diagnostic | None:
    """The first diagnostic that is an error."""
    return next((one for one in diagnostics if one.severity.endswith("error")), None)


def is_in_answer(program: Program, built: Built) -> bool:
    """Whether what was not built has its first error in the answer's own lines."""
    error = first_error(built.diagnostics)
    return error is not None and error.file in program.files


def as_its_own(bench: Bench, built: Built) -> Built:
    """What is told of an answer that was not built: its own errors where it has any, and none of our names."""
    if built.failure == "compile_error" and not is_in_answer(bench.program, built):
        alone = bench.compile_object() if len(bench.program.sources) == 1 else bench.compile("-c")
        built = replace(built, diagnostics=alone.diagnostics, text=alone.text) if alone.failure else built
    return replace(built, diagnostics=tuple(map(_told, built.diagnostics)), text=_without_own_names(built.text, bench))


def _told(one: Diagnostic) -> Diagnostic:
    is_ours = OWN_NAME.match(one.file) is not None
    message, chain = OWN_NAME.sub(FROM_TESTS, one.message), tuple(OWN_NAME.sub(FROM_TESTS, line) for line in one.chain)
    if not is_ours:
        return replace(one, message=message, chain=chain)
    return replace(one, file="", line=0, column=None, message=f"{message} (asked for by {FROM_TESTS})", chain=chain)


def _without_own_names(text: str, bench: Bench) -> str:
    sources = bench.program.sources
    own = text.replace(CANDIDATE_OBJECT, sources[0]) if len(sources) == 1 else text
    return OWN_NAME.sub(FROM_TESTS, own)
