"""Judge an output by a program of the task's, as testlib has it: files input, output, answer; a status that says.

The program is built once and kept; each output is looked at in a jail of its own, when the candidate has ended. What a
candidate printed lies before it as a file that is no longer than a program may print. A checker that crashes on it,
meets a limit or ends with a status that is none of testlib's is asked about the expected output, too: where it takes
that one, the candidate's has broken it and is no answer, else the failure is the checker's own and nobody's score.
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

SOURCE = "checker.cpp"
INPUT, OUTPUT, ANSWER = "input", "output", "answer"
LIMITS = RunLimits(time=10.0, memory=1024, stack=256)
RIGHT, WRONG, FAILED = (0,), (1, 2, 7), 3
"""Statuses of testlib's: `_ok`; `_wa`, `_pe` and `_points`, of which none is a full pass; `_fail`, by which a checker
says itself that its answer is worse than the candidate's, or that it is at fault."""
HARDENED = (
    *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-D_GLIBCXX_ASSERTIONS", "-fstack-protector-strong"),
    *("-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"),
)
"""What makes a crash of an output that would be written over what it is compared with. None of it makes an algorithm
slower than its author counted on, as the library's debug mode does: there `std::lower_bound` looks at every element."""


def check_testlib(program: Program, workshop: Workshop) -> None:
    """Raise UserError where a program of the task's includes testlib and nobody said where that is."""
    if program.needs_testlib and workshop.toolchain.testlib is None:
        raise UserError(
            f"a checker program includes {TESTLIB}, which is not shipped: set verifier.testlib to the folder it is in"
        )


def build_judge(program: Program, workshop: Workshop) -> Path:
    """What judges a program's outputs or its talk, built once for all answers: optimised, in the task's standard and
    with GNU's extensions, as testlib's users build theirs. Raises CheckerError where it does not compile."""
    files, testlib = {SOURCE: program.judge_program or ""}, workshop.toolchain.testlib
    if program.needs_testlib and testlib is not None:
        files[TESTLIB] = Path(testlib, TESTLIB).read_text(errors="replace")
    std = program.std.replace("c++", "gnu++") if program.std.startswith("c++") else program.std
    flags = ("-w", *workshop.trusted_flags(std), "-O2", *HARDENED, "-I.")
    arguments = [*flags, SOURCE, "-o", PROGRAM, *workshop.link_flags]
    built = workshop.built_once(PROGRAM, files, arguments)
    if built is None:
        name = "checker_program" if program.interactor is None else "interactor"
        raise CheckerError(f"{name} does not compile: {workshop.complaint(PROGRAM, files, arguments)}")
    return built


def accepts(checker: Path, case: Case, output: bytes, workshop: Workshop) -> bool | None:
    """Whether the built checker takes an output for an answer to the case; None where the output wore it out.

    Raises CheckerError where it fails and would do so whatever the output is, or where nobody can tell.
    """
    run = _look(checker, case, output, workshop)
    if (said := opinion(run)) is not None:
        return said
    if says_it_failed(run) or not _takes_expected(checker, case, workshop):
        raise failure("checker_program", run)
    return None if run.ended in ("cpu", "wall") else False


def _takes_expected(checker: Path, case: Case, workshop: Workshop) -> bool:
    return bool(case.stdout.strip()) and opinion(_look(checker, case, case.stdout, workshop)) is True


def _look(checker: Path, case: Case, output: str | bytes, workshop: Workshop) -> Finished:
    """A checker's run over an output."""
    files: dict[str, str | bytes] = {INPUT: case.stdin, OUTPUT: output, ANSWER: case.stdout}
    with workshop.scratch(files) as folder:
        return workshop.run(judge_command(checker, folder, (INPUT, OUTPUT, ANSWER), workshop))


def judge_command(program: Path, folder: Path, arguments: tuple[str, ...], workshop: Workshop) -> Command:
    """What runs a program of the task's beside the files in a folder."""
    usual = workshop.program(folder, host=program)
    limits = LIMITS.within(usual.limits)
    return replace(usual, argv=(str(program), *arguments), limits=limits, kill_at_output_limit=False)


def opinion(run: Finished) -> bool | None:
    """What the status says: right, or not. None where it says nothing."""
    has_said = run.ended == "exit" and run.returncode in (*RIGHT, *WRONG)
    return run.returncode in RIGHT if has_said else None


def says_it_failed(run: Finished) -> bool:
    """It has ended in its own words: no crash, that an output may have caused."""
    return run.ended == "exit" and run.returncode == FAILED


def failure(name: str, run: Finished) -> CheckerError:
    """What is said of a run that has no opinion."""
    said = run.stderr.decode(errors="replace").strip().partition("\n")[0][:200]
    how = f"ended with status {run.returncode}" if run.ended == "exit" else f"was ended ({run.ended}, {run.returncode})"
    return CheckerError(f"{name} {how}{': ' * bool(said)}{said}")
