"""Judge by what a program does, with no harness near it: its exit status, or what it prints for each input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rlvr_cpp.verifier.cases import Case
from rlvr_cpp.verifier.checkers import outputs_match
from rlvr_cpp.verifier.cpp.diagnostics import lacks_only_main
from rlvr_cpp.verifier.tiers.checker_program import accepts, build_judge
from rlvr_cpp.verifier.tiers.interactive import talk
from rlvr_cpp.verifier.toolchain.bench import CANDIDATE_OBJECT, Bench
from rlvr_cpp.verifier.toolchain.built import Judged
from rlvr_cpp.verifier.verdict import LIMITS, Verdict, read_verdict
from rlvr_sandbox import Command, Finished


def judge_alone(bench: Bench) -> Judged:
    """No tests: the program judges itself by its exit status; one without a `main` is compiled only."""
    is_single = len(bench.program.sources) == 1
    compiled = bench.compile_object() if is_single else bench.compile("-c")
    if compiled.failure is not None:
        return Judged(tier="none", built=compiled)
    built = bench.link(compiled, CANDIDATE_OBJECT) if is_single else bench.build()
    if built.failure is not None:
        without_main = lacks_only_main(built.finished.stderr.decode(errors="replace"))
        return Judged(tier="none", built=compiled if without_main else built)
    run = bench.run()
    return Judged(tier="none", built=built, verdict=read_verdict(run, False, None), run=run, seconds=run.seconds)


def judge_by_cases(bench: Bench) -> Judged:
    """Feed each input and compare what comes out here, where the candidate has no say.

    A run that a limit ends is the last one: the cases after it are not tried, and those before it do not count. So is
    one that broke or wore out what judges it, which would take as long again; there those before it do count.
    """
    built = bench.build()
    if built.failure is not None:
        return Judged(tier="cases", built=built)
    passed, seconds, cpu, total = 0, 0.0, 0.0, len(bench.program.cases)
    attempt = _attempt(bench)
    for case in bench.program.cases:
        run, is_right = attempt(case)
        seconds, cpu = seconds + run.seconds, cpu + run.cpu_seconds
        run = replace(run, cpu_seconds=cpu)
        if run.ended in LIMITS:
            limited = Verdict(LIMITS[run.ended], total=total)
            return Judged(tier="cases", built=built, verdict=limited, run=run, seconds=seconds)
        if is_right is None:
            break
        passed += is_right
    verdict = Verdict("ok" if passed == total else "wrong", passed, total)
    return Judged(tier="cases", built=built, verdict=verdict, run=run, seconds=seconds)


def _attempt(bench: Bench) -> Callable[[Case], tuple[Finished, bool | None]]:
    """How a case is tried: to its run, and whether it is passed; None where it is lost and the last one.

    It raises CheckerError where that cannot be told.
    """
    if bench.program.interactor is not None:
        interactor = build_judge(bench.program, bench.workshop)
        return lambda case: talk(bench, interactor, case)
    is_right = _comparison(bench)

    def run(case: Case) -> tuple[Finished, bool | None]:
        run = bench.workshop.run(_with_room(bench.command(stdin=case.stdin.encode(errors="replace")), case))
        return run, read_verdict(run, False, None).status == "ok" and is_right(case, run.stdout)

    return run


def _comparison(bench: Bench) -> Callable[[Case, bytes], bool | None]:
    """How this program's outputs are compared. It raises CheckerError where that cannot be told.

    A checker program is not shown output with a zero byte: where a C string ends, it reads less than there is.
    """
    program, workshop = bench.program, bench.workshop
    if program.checker_program is None:
        return lambda case, output: outputs_match(program.checker, case, output, program.tolerance)
    checker = build_judge(program, workshop)
    return lambda case, output: (
        bool(output.strip()) and b"\0" not in output and accepts(checker, case, output, workshop)
    )


def _with_room(command: Command, case: Case) -> Command:
    """The command that may print what is expected, and as much again: numbers may have more digits."""
    room = max(command.limits.output, 2 * len(case.stdout.encode()))
    return replace(command, limits=replace(command.limits, output=room))
