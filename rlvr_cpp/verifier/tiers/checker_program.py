"""Judge an output by a program of the task's, as testlib has it: files input, output, answer; a status that says.

The program is built once and kept; each output is looked at in a jail of its own, when the candidate has ended. What a
candidate printed lies before it as a file that is no longer than a program may print. A status that is none of
testlib's, a crash or a limit is the checker's own failure, which is nobody's score.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.cases import Case
from rlvr_cpp.verifier.checkers import CheckerError
from rlvr_cpp.verifier.limits import RunLimits
from rlvr_cpp.verifier.program import TESTLIB, Program
from rlvr_cpp.verifier.toolchain.workshop import PROGRAM, Workshop
from rlvr_sandbox import Command, Finished

SOURCE, STANDARD = "checker.cpp", "gnu++17"
INPUT, OUTPUT, ANSWER = "input", "output", "answer"
LIMITS = RunLimits(time=10.0, memory=1024, stack=256)
RIGHT, WRONG = (0,), (1, 2, 7)
"""Statuses of testlib's: `_ok`; `_wa`, `_pe` and `_points`, of which none is a full pass. `_fail` is 3."""


def check_testlib(program: Program, workshop: Workshop) -> None:
    """Raise UserError where a program of the task's includes testlib and nobody said where that is."""
    if program.needs_testlib and workshop.toolchain.testlib is None:
        raise UserError(
            f"a checker program includes {TESTLIB}, which is not shipped: set verifier.testlib to the folder it is in"
        )


def build_judge(name: str, code: str, workshop: Workshop) -> Path:
    """The program of the field `name`, built once for all answers. Raises CheckerError where it does not compile."""
    files, testlib = {SOURCE: code}, workshop.toolchain.testlib
    if TESTLIB in code and testlib is not None:
        files[TESTLIB] = Path(testlib, TESTLIB).read_text(errors="replace")
    flags = ("-w", *workshop.trusted_flags(STANDARD), "-O2", "-I.")
    arguments = [*flags, SOURCE, "-o", PROGRAM, *workshop.link_flags]
    built = workshop.built_once(PROGRAM, files, arguments)
    if built is None:
        raise CheckerError(f"{name} does not compile: {workshop.complaint(PROGRAM, files, arguments)}")
    return built


def accepts(checker: Path, case: Case, output: bytes, workshop: Workshop) -> bool:
    """Whether the built checker takes an output for an answer to the case. Raises CheckerError where it cannot tell."""
    files: dict[str, str | bytes] = {INPUT: case.stdin, OUTPUT: output, ANSWER: case.stdout}
    with workshop.scratch(files) as folder:
        run = workshop.run(judge_command(checker, folder, (INPUT, OUTPUT, ANSWER), workshop))
    return says_yes("checker_program", run)


def judge_command(program: Path, folder: Path, arguments: tuple[str, ...], workshop: Workshop) -> Command:
    """What runs a program of the task's beside the files in a folder."""
    usual = workshop.program(folder, host=program)
    limits = LIMITS.within(usual.limits)
    return replace(usual, argv=(str(program), *arguments), limits=limits, kill_at_output_limit=False)


def says_yes(name: str, run: Finished) -> bool:
    """What the status says. Raises CheckerError where it says nothing."""
    if run.ended == "exit" and run.returncode in (*RIGHT, *WRONG):
        return run.returncode in RIGHT
    said = run.stderr.decode(errors="replace").strip().partition("\n")[0][:200]
    how = f"ended with status {run.returncode}" if run.ended == "exit" else f"was ended ({run.ended}, {run.returncode})"
    raise CheckerError(f"{name} {how}{': ' * bool(said)}{said}")
