"""Which lines of a candidate its tests never ran, so that their tokens can be left out of the loss.

StepCoder's fine-grained optimisation (arXiv 2402.01391): a line that was not executed had no part in the verdict, and
the reward says nothing about it. Candidate and tests are one text here, compiled for gcov without optimisation and run
in the usual jail. There is no file that a program may write to: its counters go into memory that it is handed as a
descriptor. No verdict comes of it, so there is no seal. A candidate that forges its counters changes the mask of its
own tokens and nothing else.

Lines are executable where the compiler made code for them: a template that nobody instantiates, a member function
that nobody calls and what stands behind an unconditional `return` have none and are not reported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath

from rlvr_cpp.verifier.cpp.assertions import count_assertions
from rlvr_cpp.verifier.program import CANDIDATE_FILE, Program, check_program, refusal
from rlvr_cpp.verifier.tiers.sealed import between
from rlvr_cpp.verifier.toolchain.bench import ONE_TEXT, OWN_MAIN, Bench, open_bench
from rlvr_cpp.verifier.toolchain.workshop import PROGRAM, Workshop
from rlvr_cpp.verifier.verifier import Verifier
from rlvr_sandbox import SandboxError, Stopped, Stopper

HARNESS = "rlvr_harness.cpp"
OBJECT, COUNTERS, OPENER = "rlvr_coverage.o", "rlvr_coverage.gcda", "rlvr_opener.o"
COVERAGE_FLAGS = (
    "-w",
    "-O0",
    "--coverage",
    rf"-fprofile-filter-files=({CANDIDATE_FILE}|{HARNESS})$".replace(".", r"\."),
)
"""The standard library is not instrumented: it would take a fifth more time and make a megabyte of report."""
COUNTERS_SIZE = 1 << 20
"""Bytes that the counters may take; those of a usual program are some thousand."""
DESCRIPTOR = 3
OPEN_COUNTERS = f"""
#include <cstdarg>
#include <cstring>
#include <unistd.h>
extern "C" int __real_open(const char* path, int flags, ...);
extern "C" int __wrap_open(const char* path, int flags, ...) {{
    if (std::strstr(path, "{COUNTERS}") != nullptr)
        return lseek({DESCRIPTOR}, 0, SEEK_SET) == 0 ? dup({DESCRIPTOR}) : -1;
    va_list rest;
    va_start(rest, flags);
    const int mode = va_arg(rest, int);
    va_end(rest);
    return __real_open(path, flags, mode);
}}
"""
"""Takes the place of `open`, by which the compiler's runtime library opens the counters when a program ends."""
WRAP_FLAG = "-Wl,--wrap=open"
TOOL_SECONDS = 20.0
ROW = re.compile(r" *(?P<count>-|#####|=====|[0-9]+\*?): *(?P<line>[0-9]{1,9}):(?P<text>.*)")
NEVER = ("#####", "=====")
NO_STATEMENT = re.compile(r"(?:[\s{}();,]|\b(?:else|try|do)\b)*(?://.*)?")


def unexecuted_lines(program: Program, workshop: Workshop) -> frozenset[int] | None:
    """The lines of a program of one text that hold code and that neither its tests nor its hidden tests executed.

    They are 1-based and end with a newline each; lines of braces alone are left out. None where that could not be
    measured: the candidate is several files or talks to an interactor, does not build together with its tests, or was
    ended by a signal or a limit, or there is no gcov for this compiler, or the machine failed. Raises Stopped.
    """
    gcov = find_gcov(workshop)
    is_talk = program.interactor is not None  # which nobody leads here
    if not isinstance(program.code, str) or refusal(program) is not None or gcov is None or is_talk:
        return None
    unhurried = replace(program.limits, time=None)  # which is meant for a program without counters
    tests = [program.test] if program.hidden_test is None else [program.test, program.hidden_test]
    unexecuted = _all_lines(program.code)
    for test in tests:
        try:
            found = _measure(replace(program, test=test, limits=unhurried), workshop, gcov)
        except Stopped:
            raise
        except (SandboxError, OSError):
            return None
        if found is None:
            return None
        unexecuted &= found
    return unexecuted


def measure_coverage(programs: Iterable[Program], verifier: Verifier) -> list[frozenset[int] | None]:
    """`unexecuted_lines` of each program, in order, as many at a time as the verifier has workers; equal ones once.

    Raises UserError for a program that makes no sense. Interrupting it ends what it runs.
    """
    batch = list(programs)
    for program in batch:
        check_program(program)
    distinct = {program.identity: program for program in batch}
    stopper = Stopper()
    workshop = verifier.workshop.stopped_by(stopper)
    try:
        with ThreadPoolExecutor(verifier.workers, thread_name_prefix="rlvr-coverage") as pool:
            try:
                found = list(pool.map(lambda program: unexecuted_lines(program, workshop), distinct.values()))
            finally:
                stopper.stop()  # whatever interrupted us, nobody is left behind
    finally:
        stopper.close()
    lines = dict(zip(distinct, found, strict=True))
    return [lines[program.identity] for program in batch]


def find_gcov(workshop: Workshop) -> tuple[str, ...] | None:
    """The command that reads the counters of what this compiler built: its neighbour; None where there is none."""
    toolchain = workshop.toolchain
    for path in (os.path.realpath(toolchain.compiler), toolchain.compiler):
        folder, name = os.path.split(path)
        tool = os.path.join(folder, "llvm-cov" if toolchain.is_clang else re.sub(r"[gc]\+\+", "gcov", name))
        if tool != path and os.access(tool, os.X_OK):
            return (tool, "gcov") if toolchain.is_clang else (tool,)
    return None


def _measure(program: Program, workshop: Workshop, gcov: Sequence[str]) -> frozenset[int] | None:
    """The unexecuted lines of a program without hidden tests."""
    with open_bench(program, workshop) as bench:
        if not _build(bench):
            return None
        counters = _run(bench)
        if not counters:
            return None
        bench.write({COUNTERS: counters})
        report = bench.run_tool([*gcov, "--stdout", COUNTERS], TOOL_SECONDS)
    if report.ended != "exit" or report.returncode != 0 or report.output_cut or b":Source:" not in report.stdout:
        return None
    return read_report(report.stdout.decode(errors="replace")) & _all_lines(program.files[CANDIDATE_FILE])


def _build(bench: Bench) -> bool:
    workshop, flags = bench.workshop, bench.trusted_flags  # a sanitizer would slow it down and change no line
    keep = () if workshop.toolchain.is_clang else ("-fkeep-static-functions",)
    arguments = [*flags, *COVERAGE_FLAGS, *keep, "-c", *ONE_TEXT, "-o", OBJECT]
    text = _with_tests(bench.program).encode(errors="replace")
    compiled = workshop.compile(bench.folder, arguments, header=_header(bench), stdin=text)
    if compiled.ended != "exit" or compiled.returncode != 0:
        return False
    bench.add_object(OPENER, OPEN_COUNTERS, flags)
    # By the compiler itself, whose own runtime library writes the counters.
    objects = [OPENER, OBJECT, WRAP_FLAG, "-o", PROGRAM]
    linked = workshop.compile(bench.folder, [*flags, "--coverage", *objects, *workshop.link_flags])
    return linked.ended == "exit" and linked.returncode == 0


def _with_tests(program: Program) -> str:
    """One text of candidate and harness, as the `marker` tier makes it."""
    included = f'#include "{CANDIDATE_FILE}"\n'
    if program.test is None:
        return included
    harness = count_assertions(program.test)
    undone = between(program.files[CANDIDATE_FILE], harness, program.declaration or "")
    return f'#define main {OWN_MAIN}\n{included}{undone}#line 1 "{HARNESS}"\n{harness}'


def _header(bench: Bench) -> tuple[str, ...]:
    """The header that the verifier uses for this candidate, unless it was made with flags that are not used here."""
    if any(flag.startswith(("-O", "-fsanitize")) for flag in bench.workshop.toolchain.extra_flags):
        return ()
    return bench.precompiled()


def _run(bench: Bench) -> bytes | None:
    """The counters after a run, or after one for each case; None where a run did not come to its own end."""
    counters = os.memfd_create("counters")
    try:
        for stdin in [case.stdin for case in bench.program.cases] or [""]:
            descriptors = ((os.dup(counters), DESCRIPTOR),)
            run = bench.run(stdin=stdin.encode(errors="replace"), descriptors=descriptors, file_size=COUNTERS_SIZE)
            if run.ended != "exit":
                return None
        return os.pread(counters, COUNTERS_SIZE, 0)
    finally:
        os.close(counters)


def read_report(report: str) -> frozenset[int]:
    """The lines of the candidate that a text of gcov's, or of `llvm-cov gcov`'s, says were never executed.

    A template has a section for each of its instances; executed in one of them is executed.
    """
    executed: set[tuple[int, str]] = set()
    never: set[tuple[int, str]] = set()
    ours = False
    for row in filter(None, map(ROW.fullmatch, report.split("\n"))):
        if row["line"] == "0":
            key, _, name = row["text"].partition(":")
            ours = PurePosixPath(name).name == CANDIDATE_FILE if key == "Source" else ours
        elif ours and row["count"] != "-":
            (never if row["count"] in NEVER else executed).add((int(row["line"]), row["text"]))
    return frozenset(line for line, text in never - executed if not NO_STATEMENT.fullmatch(text))


def _all_lines(code: str) -> frozenset[int]:
    return frozenset(range(1, code.count("\n") + 2))
