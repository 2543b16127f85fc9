"""Judge one program here and now: build it, run it, read the verdict.

The candidate stands in `candidate.cpp` and its harness in `harness.cpp`; `main.cpp` includes one after the other, so
the compiler's diagnostics name the candidate's own lines. Each judgement has a temporary directory of its own.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rlvr_cpp.diagnostics import (
    count_warnings,
    error_class,
    is_link_failure,
    lacks_only_main,
    parse_diagnostics,
)
from rlvr_cpp.errors import UserError
from rlvr_cpp.result import VerifyResult
from rlvr_cpp.verdict import MAX_TESTS, read_verdict
from rlvr_sandbox import Finished, SandboxError, run

CANDIDATE, HARNESS, MAIN = "candidate.cpp", "harness.cpp", "main.cpp"
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


def check_toolchain(toolchain: Toolchain) -> None:
    """Raise UserError where the compiler cannot be found or a timeout is no time."""
    if shutil.which(toolchain.compiler) is None:
        raise UserError(
            f"compiler {toolchain.compiler!r} was not found on PATH: install it (apt-get install g++ or clang) "
            "or name another one"
        )
    for name in ("timeout", "compile_timeout"):
        seconds = getattr(toolchain, name)
        if not seconds > 0:
            raise UserError(f"{name} is {seconds}: it must be a positive number of seconds")


def check_program(program: Program) -> None:
    """Raise UserError where the standard or the number of tests makes no sense."""
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
    if not program.code.strip():  # it would compile: an answer without code must not earn that tier
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
    with tempfile.TemporaryDirectory(prefix="rlvr_verify_") as name:
        directory = Path(name)
        build = _build(program, toolchain, directory)
        built = build.returncode == 0 and not build.timed_out
        executed = _execute(toolchain, directory) if built else None
    return _result(program, toolchain, build, executed)


def _build(program: Program, toolchain: Toolchain, directory: Path) -> Finished:
    (directory / CANDIDATE).write_bytes(program.code.encode(errors="replace"))
    source = CANDIDATE
    if program.test is not None:
        (directory / HARNESS).write_bytes(program.test.encode(errors="replace"))
        (directory / MAIN).write_text(f'#include "{CANDIDATE}"\n#include "{HARNESS}"\n')
        source = MAIN
    flags = (f"-std={program.std}", "-O0", "-Wall", "-Wextra", *toolchain.extra_flags)
    command = [toolchain.compiler, *flags, source, "-o", "program"]
    return run(command, directory, timeout=toolchain.compile_timeout)


def _execute(toolchain: Toolchain, directory: Path) -> Finished:
    return run(["./program"], directory, timeout=toolchain.timeout, kill_at_output_limit=True)


def _result(program: Program, toolchain: Toolchain, build: Finished, executed: Finished | None) -> VerifyResult:
    stderr = build.stderr.decode(errors="replace")
    diagnostics = parse_diagnostics(stderr)
    common: dict[str, Any] = {
        "warnings": count_warnings(diagnostics, CANDIDATE),
        "diagnostics": diagnostics,
        "toolchain": compiler_version(toolchain.compiler),
    }
    if executed is None:
        status = _build_status(program, build, stderr)
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


def _build_status(program: Program, build: Finished, stderr: str) -> str:
    """Why there is no program to run."""
    if build.timed_out:
        return "compile_limit"
    if program.test is None and lacks_only_main(stderr):
        return "ok"
    return "link_error" if is_link_failure(stderr) else "compile_error"


@cache
def compiler_version(compiler: str) -> str:
    """The first line of `<compiler> --version`."""
    with tempfile.TemporaryDirectory(prefix="rlvr_verify_") as directory:
        finished = run([compiler, "--version"], Path(directory), timeout=30.0)
    return finished.stdout.decode(errors="replace").partition("\n")[0]
