"""Judge one program here and now: build it, run it, read the verdict.

The candidate stands in `candidate.cpp` and its harness in `harness.cpp`; `main.cpp` includes one after the other, so
the compiler's diagnostics name the candidate's own lines. Each judgement has a temporary directory of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rlvr_cpp.diagnostics import (
    Diagnostic,
    count_warnings,
    error_class,
    is_link_failure,
    lacks_only_main,
    parse_diagnostics,
    toolchain_trouble,
)
from rlvr_cpp.errors import UserError
from rlvr_cpp.result import VerifyResult
from rlvr_cpp.verdict import MAX_TESTS, read_verdict
from rlvr_sandbox import Finished, SandboxError, run

CANDIDATE, HARNESS, MAIN = "candidate.cpp", "harness.cpp", "main.cpp"
OBJECT, PROGRAM = "candidate.o", "program"
MAX_SECONDS = 86_400
STANDARD = re.compile(r"(c|gnu)\+\+(98|03|11|14|17|20|23|26|0x|1y|1z|2a|2b|2c)")


@dataclass(frozen=True)
class Program:
    """What is judged."""

    code: str
    """The candidate: the text that a policy is answerable for."""
    test: str | None = None
    """A harness that is compiled after the candidate and prints the marker; None where the task has no tests."""
    tests_declared: int | None = None
    """How many tests the harness has; None where only it knows."""
    std: str = "c++17"


@dataclass(frozen=True)
class Toolchain:
    """How programs are built and how long they may take."""

    compiler: str = "g++"
    extra_flags: tuple[str, ...] = ()
    timeout: float = 10.0
    """Wall seconds of the run."""
    compile_timeout: float = 30.0
    """Wall seconds of the build."""


def make_toolchain(compiler: str, extra_flags: Sequence[str], timeout: float, compile_timeout: float) -> Toolchain:
    """The toolchain with its compiler found on PATH now, so that what was checked is what is run.

    Raises UserError where the compiler is missing or does not start, or an argument makes no sense.
    """
    if isinstance(extra_flags, str):
        raise UserError(f"extra_flags is {extra_flags!r}: it must be a list of flags, such as ['-O2']")
    for name, seconds in (("timeout", timeout), ("compile_timeout", compile_timeout)):
        if not (isinstance(seconds, int | float) and 0 < seconds <= MAX_SECONDS):
            raise UserError(f"{name} is {seconds!r}: it must be a number of seconds above 0, at most {MAX_SECONDS}")
    found = shutil.which(compiler)
    if found is None:
        raise UserError(
            f"compiler {compiler!r} was not found on PATH: install it (apt-get install g++ or clang) "
            "or name another one"
        )
    toolchain = Toolchain(os.path.abspath(found), tuple(extra_flags), timeout, compile_timeout)
    try:
        compiler_version(toolchain.compiler)
    except (SandboxError, OSError) as error:
        raise UserError(f"compiler {compiler!r} cannot be run ({error}): mend it or name another one") from error
    return toolchain


def check_program(program: Program) -> None:
    """Raise UserError where a text is no text, or the standard or the number of tests makes no sense."""
    for name, text in (("code", program.code), ("test", program.test)):
        if not isinstance(text, str) and (name == "code" or text is not None):
            raise UserError(f"{name} is a {type(text).__name__}: it must be C++ text")
    if not STANDARD.fullmatch(program.std):
        raise UserError(f"std is {program.std!r}: it must be a C++ standard such as c++17 or gnu++20")
    declared = program.tests_declared
    if declared is None:
        return
    if program.test is None:
        raise UserError(f"tests_declared is {declared} but there is no test code: give both or neither")
    if not 1 <= declared <= MAX_TESTS:
        raise UserError(f"tests_declared is {declared}: it must be between 1 and {MAX_TESTS}")


def judge(program: Program, toolchain: Toolchain) -> VerifyResult:
    """Build and run one program here and now; infrastructure trouble is tried once more, then reported."""
    if not program.code.strip():  # it would compile: an answer without text must not earn that tier
        return VerifyResult(
            "compile_error",
            compile_ok=False,
            run_ok=False,
            stderr="there is no code to judge",
            tests_total=program.tests_declared or 0,
            error_class="extraction_failed",
            toolchain=compiler_version(toolchain.compiler),
        )
    try:
        return _judge_once(program, toolchain)
    except (SandboxError, OSError):
        try:
            return _judge_once(program, toolchain)
        except (SandboxError, OSError) as error:
            return sandbox_failure(str(error))


def sandbox_failure(reason: str) -> VerifyResult:
    """The result of a program that could not be judged."""
    return VerifyResult("sandbox_error", False, False, stderr=reason, error_class="sandbox_error")


def _judge_once(program: Program, toolchain: Toolchain) -> VerifyResult:
    scratch = tempfile.TemporaryDirectory(prefix="rlvr_verify_", ignore_cleanup_errors=True)
    try:
        directory = Path(scratch.name)
        build = _build(program, toolchain, directory)
        executed = None
        if (directory / PROGRAM).exists() and build.returncode == 0:
            executed = run([f"./{PROGRAM}"], directory, timeout=toolchain.timeout, kill_at_output_limit=True)
        return _result(program, toolchain, build, executed)
    finally:
        _remove(scratch)


def _remove(scratch: tempfile.TemporaryDirectory[str]) -> None:
    """Delete what a program left; it may have nested folders deeper than Python's own recursion goes."""
    try:
        scratch.cleanup()
    except RecursionError:
        run(["rm", "-rf", scratch.name], Path("/"), timeout=60.0)


def _build(program: Program, toolchain: Toolchain, directory: Path) -> Finished:
    """Compile and link; a candidate without tests is linked only if it compiles, and need not have a `main`."""
    (directory / CANDIDATE).write_bytes(program.code.encode(errors="replace"))
    command = [toolchain.compiler, f"-std={program.std}", "-O0", "-Wall", "-Wextra", *toolchain.extra_flags]
    if program.test is not None:
        (directory / HARNESS).write_bytes(program.test.encode(errors="replace"))
        (directory / MAIN).write_text(f'#include "{CANDIDATE}"\n#include "{HARNESS}"\n')
        return _compile([*command, MAIN, "-o", PROGRAM], toolchain, directory)
    compiled = _compile([*command, "-c", CANDIDATE, "-o", OBJECT], toolchain, directory)
    if compiled.returncode != 0:
        return compiled
    linked = _compile([*command, OBJECT, "-o", PROGRAM], toolchain, directory)
    without_main = linked.returncode > 0 and lacks_only_main(linked.stderr.decode(errors="replace"))
    return compiled if linked.returncode == 0 or without_main else linked


def _compile(command: Sequence[str], toolchain: Toolchain, directory: Path) -> Finished:
    """Run the compiler. Raises SandboxError where the machine failed it, which its exit status does not tell apart."""
    finished = run(command, directory, timeout=toolchain.compile_timeout)
    trouble = toolchain_trouble(finished.stderr.decode(errors="replace")) if finished.returncode != 0 else None
    if trouble is not None:
        raise SandboxError(trouble)
    return finished


def _result(program: Program, toolchain: Toolchain, build: Finished, executed: Finished | None) -> VerifyResult:
    stderr = build.stderr.decode(errors="replace")
    diagnostics = parse_diagnostics(stderr)
    common: dict[str, Any] = {
        "warnings": count_warnings(diagnostics, CANDIDATE),
        "diagnostics": diagnostics,
        "toolchain": compiler_version(toolchain.compiler),
    }
    if executed is None:
        status = _build_status(build, diagnostics)
        return VerifyResult(
            status,
            compile_ok=status == "ok",
            run_ok=False,
            stderr=stderr,
            tests_total=program.tests_declared or 0,
            error_class={"ok": None, "compile_error": error_class(diagnostics)}.get(status, status),
            timings={"compile": build.seconds},
            **common,
        )
    verdict = read_verdict(executed, program.test is not None, program.tests_declared)
    return VerifyResult(
        verdict.status,
        compile_ok=True,
        run_ok=executed.returncode == 0 and not executed.timed_out,
        returncode=executed.returncode,
        stdout=executed.stdout.decode(errors="replace"),
        stderr=executed.stderr.decode(errors="replace"),
        tests_passed=verdict.passed,
        tests_total=verdict.total,
        error_class=None if verdict.status == "ok" else verdict.status,
        timings={"compile": build.seconds, "run": executed.seconds},
        **common,
    )


def _build_status(build: Finished, diagnostics: tuple[Diagnostic, ...]) -> str:
    """Why there is no program to run."""
    if build.timed_out:
        return "compile_limit"
    if build.returncode == 0:
        return "ok"  # a library: it compiles, and there is nothing to run
    # Only where the compiler found no error is its output the linker's own, and no text of the candidate's.
    if any(diagnostic.severity.endswith("error") for diagnostic in diagnostics):
        return "compile_error"
    return "link_error" if is_link_failure(build.stderr.decode(errors="replace")) else "compile_error"


@cache
def compiler_version(compiler: str) -> str:
    """The first line of `<compiler> --version`."""
    with tempfile.TemporaryDirectory(prefix="rlvr_verify_") as directory:
        finished = run([compiler, "--version"], Path(directory), timeout=30.0)
    return finished.stdout.decode(errors="replace").partition("\n")[0]
