"""Judge one program here and now: choose how, have it built and run, and tell the result.

How a verdict is obtained depends on the tests, strongest first. Inputs and outputs are compared outside the process
(`cases`, in `outside.py`). A harness that can call the candidate from a process of its own does (`oracle`, in
`two_processes.py`). One that needs objects of the candidate or is called back by it asks for its expressions from a
process of its own (`observer`, in the folder of that name). What cannot be taken apart shares the candidate's process
(`sealed` and `marker`, in `in_process.py`) and is worth a full pass or nothing: there a counter can be written to.
"""

from __future__ import annotations

import contextlib
import dataclasses

from rlvr_cpp.verifier.blame import BadTest, as_its_own, check_test, check_with_compiler, is_in_answer
from rlvr_cpp.verifier.checkers import CheckerError
from rlvr_cpp.verifier.cpp.assertions import count_assertions, count_declared
from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic, error_class, render_diagnostics
from rlvr_cpp.verifier.cpp.loops import counts_what_an_answer_repeats
from rlvr_cpp.verifier.program import Program, refusal
from rlvr_cpp.verifier.result import BAD_TEST, VALUE_TYPE, VerifyResult
from rlvr_cpp.verifier.status import IN_PROCESS, Status
from rlvr_cpp.verifier.tiers.checker_program import build_judge
from rlvr_cpp.verifier.tiers.in_process import judge_apart, judge_as_one
from rlvr_cpp.verifier.tiers.observer.planner import plan_for
from rlvr_cpp.verifier.tiers.observer.run import WRONG_TYPE, build_oracle, judge_by_plan
from rlvr_cpp.verifier.tiers.outside import judge_alone, judge_by_cases
from rlvr_cpp.verifier.tiers.two_processes import judge_in_two, prepare_oracle, split_of
from rlvr_cpp.verifier.toolchain.bench import Bench, open_bench
from rlvr_cpp.verifier.toolchain.built import TEXT_LIMIT, Judged
from rlvr_cpp.verifier.toolchain.uncover import count_own_warnings, uncover
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_cpp.verifier.verdict import ENDED_BY
from rlvr_sandbox import SandboxError, Stopped


def judge(program: Program, workshop: Workshop) -> VerifyResult:
    """Build and run one program; infrastructure trouble is tried once more, then reported. Raises Stopped."""
    if (reason := refusal(program)) is not None:  # nothing would compile: an answer without text earns no such tier
        return VerifyResult(
            "compile_error",
            compile_ok=False,
            run_ok=False,
            stderr=reason,
            tests_total=_known_total(program),
            error_class="extraction_failed",
            toolchain=workshop.toolchain.version,
        )
    for last_try in (False, True):
        try:
            return _judge_once(program, workshop)
        except Stopped:
            raise
        except (SandboxError, OSError) as error:
            if last_try:
                return sandbox_failure(str(error))
        except CheckerError as error:
            return sandbox_failure(str(error))
        except BadTest as error:
            return dataclasses.replace(sandbox_failure(str(error)), error_class=BAD_TEST)
        except Exception as error:  # a bug of ours: it must not take the batch with it
            return sandbox_failure(f"sandbox: {type(error).__name__}: {error}")
    raise AssertionError("unreachable")


def prepare(program: Program, workshop: Workshop) -> None:
    """Build what judging any answer to this program's task takes, so that the first answer need not wait for it.

    That is the oracle's and the worker's part of a task that declares what is called, the plan by which its test is
    taken apart, or a checker program. Trouble is left to the judging.
    """
    if program.judge_program is not None:
        with contextlib.suppress(SandboxError, OSError, CheckerError):
            build_judge(program, workshop)
    if program.test is None or program.declaration is None:
        return
    counted = _with_counted_assertions(program)
    prepare_oracle(counted, workshop)
    if split_of(counted) is None:
        with contextlib.suppress(SandboxError, OSError):
            plan = plan_for(program, workshop)
            if not plan.reason:
                build_oracle(program.std, workshop, plan)


def sandbox_failure(reason: str) -> VerifyResult:
    """The result of a program that could not be judged."""
    return VerifyResult("sandbox_error", False, False, stderr=reason, error_class="sandbox_error")


def _judge_once(program: Program, workshop: Workshop) -> VerifyResult:
    result = _judge_tests(program, workshop, "test")
    if program.hidden_test is None or result.status not in ("ok", "wrong"):
        return result
    hidden = dataclasses.replace(
        program,
        test=program.hidden_test,
        tests_declared=program.hidden_tests_declared,
        hidden_test=None,
        hidden_tests_declared=None,
    )
    return _with_hidden(result, _judge_tests(hidden, workshop, "hidden_test"))


def _judge_tests(program: Program, workshop: Workshop, field: str) -> VerifyResult:
    """The result by the tests of a field. A share of tests that the candidate could count itself is no partial pass.

    Raises BadTest where it is they that are wrong.
    """
    try:
        if program.test is not None:
            check_test(program.test)
        with open_bench(_with_counted_assertions(program), workshop) as bench:
            judged = _judge_strongest(bench, program)
            if judged.built.failure in ("compile_error", "link_error") and program.test is not None:
                if not is_in_answer(program, judged.built):
                    check_with_compiler(program, workshop)
                judged = dataclasses.replace(judged, built=as_its_own(bench, judged.built))
            result = _result(bench, judged, _known_total(program))
    except BadTest as mistake:
        raise BadTest(f"{field} {mistake}") from None
    chosen = program.test is not None and counts_what_an_answer_repeats(program.test)
    return dataclasses.replace(result, tests_passed=0) if chosen and result.status == "wrong" else result


def _with_hidden(visible: VerifyResult, hidden: VerifyResult) -> VerifyResult:
    """One result for both sets of tests: the hidden ones count like the visible ones and are reported apart, too."""
    telling = visible if visible.status == "wrong" and hidden.status in ("ok", "wrong") else hidden
    whole = dataclasses.replace(
        telling,
        tests_passed=visible.tests_passed + hidden.tests_passed,
        tests_total=visible.tests_total + hidden.tests_total,
        hidden_passed=hidden.tests_passed,
        hidden_total=hidden.tests_total,
        run_ok=visible.run_ok and hidden.run_ok,
        timings={name: visible.timings[name] + hidden.timings.get(name, 0.0) for name in visible.timings},
        why_in_process=visible.why_in_process or hidden.why_in_process,
        self_judged=visible.self_judged + hidden.self_judged,
    )
    return _without_partial_credit(whole) if whole.why_in_process else whole


def _without_partial_credit(result: VerifyResult) -> VerifyResult:
    """Tests in the candidate's process are a full pass or nothing: how many it passed could be its own invention."""
    return result if result.status == "ok" else dataclasses.replace(result, tests_passed=0, hidden_passed=0)


def _judge_strongest(bench: Bench, program: Program) -> Judged:
    """`program` is the one on the bench, with its test as it was written."""
    if bench.program.cases:
        return judge_by_cases(bench)
    if bench.program.test is None:
        return judge_alone(bench)
    return judge_in_two(bench) or _judge_objects(bench, program)


def _judge_objects(bench: Bench, program: Program) -> Judged:
    """By what is asked of the candidate's objects; in one process where the test cannot be taken apart."""
    plan = plan_for(program, bench.workshop)
    oracle = build_oracle(program.std, bench.workshop, plan) if not plan.reason else None
    if oracle is not None:
        return dataclasses.replace(judge_by_plan(bench, plan, oracle), self_judged=plan.self_judged)
    judged = judge_apart(bench) or judge_as_one(bench)
    return dataclasses.replace(judged, why_in_process=plan.reason or "the test does not compile when it is taken apart")


def _with_counted_assertions(program: Program) -> Program:
    if program.test is None:
        return program
    counted, declared = count_assertions(program.test), program.tests_declared
    if declared is None and counted != program.test:
        declared = count_declared(program.test)
    return dataclasses.replace(program, test=counted, tests_declared=declared)


def _result(bench: Bench, judged: Judged, known_total: int) -> VerifyResult:
    built, verdict, run = judged.built, judged.verdict, judged.run
    diagnostics, suppressions = uncover(bench, built)
    status: Status = verdict.status if verdict else built.failure or "ok"
    result = VerifyResult(
        status,
        compile_ok=built.failure is None,
        run_ok=run is not None and run.ended == "exit" and run.returncode == 0,
        returncode=None if run is None else run.returncode,
        stdout="" if run is None else (run.stdout[:TEXT_LIMIT] + judged.marker).decode(errors="replace"),
        stderr=_said(judged, diagnostics),
        tests_passed=verdict.passed if verdict else 0,
        tests_total=(verdict.total if verdict else 0) or known_total,
        warnings=count_own_warnings(bench.program, diagnostics),
        error_class=_error_class(status, diagnostics),
        diagnostics=diagnostics,
        suppressions=suppressions,
        tier=judged.tier,
        isolation=bench.workshop.controls.names,
        limit=built.limit if run is None else ENDED_BY.get(run.ended),
        timings=_timings(judged),
        toolchain=bench.workshop.toolchain.version,
        why_in_process=judged.why_in_process,
        self_judged=judged.self_judged,
    )
    return _without_partial_credit(result) if result.tier in IN_PROCESS else result


def _error_class(status: Status, diagnostics: tuple[Diagnostic, ...]) -> str | None:
    """A word for the failure; None where there is none."""
    if status != "compile_error":
        return None if status == "ok" else status
    is_of_value = any(WRONG_TYPE in diagnostic.message for diagnostic in diagnostics)
    return VALUE_TYPE if is_of_value else error_class(diagnostics)


def _said(judged: Judged, diagnostics: tuple[Diagnostic, ...]) -> str:
    """What there is to read: of the run, or of the compiler, with the places as they really are."""
    if judged.run is not None:
        return judged.run.stderr[:TEXT_LIMIT].decode(errors="replace")
    if judged.why:
        return judged.why
    built = judged.built
    return built.text if diagnostics == built.diagnostics else render_diagnostics(diagnostics)


def _known_total(program: Program) -> int:
    return len(program.cases) or program.tests_declared or 0


def _timings(judged: Judged) -> dict[str, float]:
    timings = {"compile": judged.built.finished.seconds, "compile_cpu": judged.built.finished.cpu_seconds}
    if judged.run is not None:
        timings |= {"run": judged.seconds, "run_cpu": judged.run.cpu_seconds}
    return timings
