"""Compile and link a candidate, and say what became of it: its diagnostics, its warnings, why there is no program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from rlvr_cpp.verifier.cpp.diagnostics import (
    Diagnostic,
    add_chains,
    compile_limit_reason,
    count_warnings,
    diagnostic_flags,
    is_link_failure,
    parse_diagnostics,
    render_diagnostics,
)
from rlvr_cpp.verifier.cpp.lint import lint_copy
from rlvr_cpp.verifier.program import SOURCES, Program
from rlvr_cpp.verifier.toolchain.workshop import PROGRAM, Workshop
from rlvr_cpp.verifier.verdict import LIMITS, Verdict
from rlvr_sandbox import Finished

TEXT_LIMIT = 64 << 10
LINT_LIMIT = 256 << 10  # characters; reading more for attempts to silence warnings takes seconds of the caller's time
SANITIZER = "rlvr_sanitizer.o"
CANDIDATE_OBJECT = "rlvr_candidate.o"
# Linked into every sanitized program, so that a candidate that defines these, to silence what it did, does not link.
# The leak checker needs ptrace, which the sandbox refuses; the sanitizers read no environment here.
SANITIZER_OPTIONS = """
extern "C" const char* __asan_default_options() { return "detect_leaks=0:exitcode=99"; }
extern "C" const char* __ubsan_default_options() { return "halt_on_error=1:exitcode=99"; }
"""


@dataclass(frozen=True)
class Built:
    """What the compiler said."""

    finished: Finished
    """Of the last step: the compiler's run, or the linker's."""
    diagnostics: tuple[Diagnostic, ...]
    text: str
    """What it said, for people."""
    failure: str | None
    """`compile_error`, `compile_limit` or `link_error`; None where there is what was asked for."""
    limit: str | None
    """Which limit ended the compiler: `cpu`, `wall`, `memory` (or the size of a file) or `signal`."""


@dataclass(frozen=True)
class Outcome:
    """What building and running a program showed."""

    tier: str
    built: Built
    verdict: Verdict | None = None
    """None where nothing was run."""
    run: Finished | None = None
    """The process in which the candidate's code ran."""
    seconds: float = 0.0
    """On the clock, of all runs."""
    marker: bytes = b""
    """What the harness printed, where it has a process of its own."""
    why: str = ""
    """The reasons why a program that compiled was not run."""


def sources(program: Program) -> list[str]:
    """The files of a program that are translation units."""
    return sorted(name for name in program.files if PurePosixPath(name).suffix in SOURCES)


def build_candidate(
    program: Program, workshop: Workshop, folder: Path, objects: Sequence[str] = (), main: str | None = None
) -> Built:
    """Make the program of the candidate's sources, or of `main`, which includes them, and of `objects`."""
    toolchain = workshop.toolchain
    if toolchain.link_driver == toolchain.compiler or len(sources(program)) > 1:
        arguments = [*objects, "-o", PROGRAM, *workshop.link_flags]
        return compile_candidate(program, workshop, folder, arguments, main)
    built = compile_candidate(program, workshop, folder, ["-c", "-o", CANDIDATE_OBJECT], main)
    return built if built.failure is not None else link_candidate(workshop, folder, built, [CANDIDATE_OBJECT, *objects])


def link_candidate(workshop: Workshop, folder: Path, built: Built, arguments: Sequence[str]) -> Built:
    """Link what was compiled; the compiler's diagnostics stay, its time is added."""
    linked = workshop.link(folder, [*arguments, *_sanitizer_options(workshop, folder), "-o", PROGRAM])
    both = replace(
        linked,
        seconds=linked.seconds + built.finished.seconds,
        cpu_seconds=linked.cpu_seconds + built.finished.cpu_seconds,
    )
    result = _built(both)
    failure = "link_error" if result.failure == "compile_error" else result.failure
    return replace(result, diagnostics=built.diagnostics, failure=failure)


def compile_candidate(
    program: Program, workshop: Workshop, folder: Path, arguments: Sequence[str], main: str | None = None
) -> Built:
    """Run the compiler on the candidate's sources, or on `main`, which includes them, with `arguments` behind them."""
    names = [main] if main else sources(program)
    flags = workshop.flags(program.std)
    precompiled = workshop.precompiled(program.files[sources(program)[0]], flags) if len(sources(program)) == 1 else ()
    objects = _sanitizer_options(workshop, folder) if "-c" not in arguments else []
    machine = diagnostic_flags(workshop.toolchain.version)
    bounded = [*flags, "-ferror-limit=20" if workshop.toolchain.is_clang else "-fmax-errors=20", *precompiled, *names]
    finished = workshop.compile(folder, [*bounded, *machine, *objects, *arguments])
    if finished.returncode != 0 and precompiled and not Path(precompiled[-1]).parent.exists():
        return compile_candidate(program, workshop, folder, arguments, main)  # the header was removed meanwhile
    built = _built(finished)
    flooded = finished.output_cut and not built.diagnostics
    if machine and (built.failure == "compile_error" or flooded):
        return _with_text(built, workshop.compile(folder, [*bounded, "-fsyntax-only"]))
    return built


def _with_text(built: Built, again: Finished) -> Built:
    """What a run in plain text adds: g++'s machine-readable form is lost at the error limit or where a flood of it was
    cut, and leaves out how a template came to be instantiated."""
    raw = again.stderr.decode(errors="replace")
    if not (said := parse_diagnostics(raw)):
        return built
    return replace(built, diagnostics=add_chains(built.diagnostics, raw) or said, text=raw[:TEXT_LIMIT])


def _built(finished: Finished) -> Built:
    raw = finished.stderr.decode(errors="replace")
    diagnostics = parse_diagnostics(raw)
    text = _readable(raw, diagnostics)
    if finished.ended != "exit":
        limit = finished.ended if finished.ended in LIMITS else "signal"
        return Built(finished, diagnostics, text, "compile_limit", limit)
    if finished.returncode == 0:
        return Built(finished, diagnostics, text, None, None)
    if not finished.output_cut and compile_limit_reason(raw) is not None:
        return Built(finished, diagnostics, text, "compile_limit", "memory")
    # Only where the compiler found no error is its output the linker's own, and no text of the candidate's.
    errors = any(diagnostic.severity.endswith("error") for diagnostic in diagnostics)
    failure = "link_error" if not errors and is_link_failure(raw) else "compile_error"
    return Built(finished, diagnostics, text, failure, None)


def _readable(raw: str, diagnostics: tuple[Diagnostic, ...]) -> str:
    """What the compiler, the assembler and the linker said, with no machine-readable document in it."""
    rest = "".join(line for line in raw.splitlines(keepends=True) if not line.startswith(("[", '{"')))
    rendered = render_diagnostics(diagnostics) if rest != raw else ""
    return (rendered + rest)[:TEXT_LIMIT]


def _sanitizer_options(workshop: Workshop, folder: Path) -> list[str]:
    if not workshop.toolchain.is_sanitized:
        return []
    workshop.add_object(folder, SANITIZER, SANITIZER_OPTIONS, workshop.trusted_flags("c++17"))
    return [SANITIZER]


def uncover(program: Program, workshop: Workshop, built: Built) -> tuple[tuple[Diagnostic, ...], int]:
    """The diagnostics with every attempt of the candidate to silence or move them undone, and how many there were."""
    if sum(map(len, program.files.values())) > LINT_LIMIT:
        return built.diagnostics, 0
    copies = {name: lint_copy(text) for name, text in program.files.items()}
    suppressions = sum(copy.suppressions for copy in copies.values())
    if not suppressions or built.failure == "compile_limit":
        return built.diagnostics, suppressions
    with workshop.scratch({name: copy.code for name, copy in copies.items()}) as folder:
        machine, plain = diagnostic_flags(workshop.toolchain.version), [*workshop.flags(program.std), "-fsyntax-only"]
        linted = workshop.compile(folder, [*plain, *machine, *sources(program)])
        diagnostics = parse_diagnostics(linted.stderr.decode(errors="replace"))
        if machine and built.failure == "compile_error":
            again = workshop.compile(folder, [*plain, *sources(program)])
            diagnostics = add_chains(diagnostics, again.stderr.decode(errors="replace"))
    return diagnostics or built.diagnostics, suppressions


def count_own_warnings(program: Program, diagnostics: tuple[Diagnostic, ...]) -> int:
    """Warnings in the candidate's own lines, each place and option once."""
    return sum(count_warnings(diagnostics, name) for name in program.files)
