"""The copy of a program on which no attempt to silence the compiler is left, and what the compiler says about it."""

from __future__ import annotations

from dataclasses import replace

from rlvr_cpp.verifier.cpp.diagnostics import (
    Diagnostic,
    add_chains,
    count_warnings,
    diagnostic_flags,
    parse_diagnostics,
)
from rlvr_cpp.verifier.cpp.lint import lint_copy
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.toolchain.bench import Bench, open_bench
from rlvr_cpp.verifier.toolchain.built import Built

LINT_LIMIT = 256 << 10  # characters; reading more for attempts to silence warnings takes seconds of the caller's time


def unsuppressed(program: Program) -> tuple[Program, int]:
    """The program with every attempt to silence or move diagnostics undone, and how many there were."""
    copies = {name: lint_copy(text) for name, text in program.files.items()}
    code = {name: copy.code for name, copy in copies.items()}
    return replace(program, code=code), sum(copy.suppressions for copy in copies.values())


def uncover(bench: Bench, built: Built) -> tuple[tuple[Diagnostic, ...], int]:
    """The diagnostics with every attempt of the candidate to silence or move them undone, and how many there were."""
    program, workshop = bench.program, bench.workshop
    if sum(map(len, program.files.values())) > LINT_LIMIT:
        return built.diagnostics, 0
    copy, suppressions = unsuppressed(program)
    if not suppressions or built.failure == "compile_limit":
        return built.diagnostics, suppressions
    with open_bench(copy, workshop) as clean:
        machine, plain = diagnostic_flags(workshop.toolchain.version), [*bench.flags, "-fsyntax-only"]
        linted = workshop.compile(clean.folder, [*plain, *clean.own_headers, *machine, *copy.sources])
        diagnostics = parse_diagnostics(linted.stderr.decode(errors="replace"))
        if machine and built.failure == "compile_error":
            again = workshop.compile(clean.folder, [*plain, *clean.own_headers, *copy.sources])
            diagnostics = add_chains(diagnostics, again.stderr.decode(errors="replace"))
    return diagnostics or built.diagnostics, suppressions


def count_own_warnings(program: Program, diagnostics: tuple[Diagnostic, ...]) -> int:
    """Warnings in the candidate's own lines, each place and option once."""
    return sum(count_warnings(diagnostics, name) for name in program.files)
