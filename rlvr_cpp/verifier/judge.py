"""Judge one program here and now: choose how, build it, run it, read the verdict.

How a verdict is obtained depends on the tests, strongest first. Inputs and outputs are compared outside the process
(`cases`). A harness that can call the candidate from a process of its own does (`oracle`). One that can be compiled
apart from the candidate is sealed off from it (`sealed`). Only one that needs the candidate's own types is compiled
with it into one text (`marker`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from pathlib import Path

from rlvr_cpp.verifier.cases import CheckerError, outputs_match
from rlvr_cpp.verifier.cpp.assertions import count_assertions, count_declared
from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic, error_class, lacks_only_main, render_diagnostics
from rlvr_cpp.verifier.program import Program, refusal
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.tiers.in_process import judge_apart, judge_as_one
from rlvr_cpp.verifier.tiers.loadable import PAYS_AFTER, build_host, build_loadable, build_loadable_oracle
from rlvr_cpp.verifier.tiers.oracle import ORACLE_CHANNEL, WORKER_CHANNEL, Split, keeps_its_word, split
from rlvr_cpp.verifier.toolchain.build import (
    CANDIDATE_OBJECT,
    Built,
    Outcome,
    build_candidate,
    compile_candidate,
    count_own_warnings,
    link_candidate,
    sources,
    uncover,
)
from rlvr_cpp.verifier.toolchain.store import content_key
from rlvr_cpp.verifier.toolchain.workshop import PROGRAM, Workshop, write_files
from rlvr_cpp.verifier.verdict import LIMITS, Verdict, read_oracle, read_verdict
from rlvr_sandbox import SandboxError, Stopped

WORKER = "rlvr_worker.o"


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
        except Exception as error:  # a bug of ours: it must not take the batch with it
            return sandbox_failure(f"sandbox: {type(error).__name__}: {error}")
    raise AssertionError("unreachable")


def prepare(program: Program, workshop: Workshop) -> None:
    """Build what judging any answer to this program's task takes, so that the first answer need not wait for it.

    That is the oracle's and the worker's part of a task that declares what is called. Trouble is left to the judging.
    """
    if program.test is None or program.declaration is None:
        return
    program = _with_counted_assertions(program)
    parts = _split(program, program.declaration)
    if parts is not None:
        with contextlib.suppress(SandboxError, OSError):
            _build_oracle(program.std, workshop, parts)
            if workshop.pays(parts.worker, PAYS_AFTER, uses=PAYS_AFTER + 1):
                build_host(program.std, workshop, parts)


def sandbox_failure(reason: str) -> VerifyResult:
    """The result of a program that could not be judged."""
    return VerifyResult("sandbox_error", False, False, stderr=reason, error_class="sandbox_error")


def _judge_once(program: Program, workshop: Workshop) -> VerifyResult:
    result = _result(program, workshop, _outcome(program, workshop))
    if program.hidden_test is None or result.status not in ("ok", "wrong"):
        return result
    hidden = dataclasses.replace(
        program,
        test=program.hidden_test,
        tests_declared=program.hidden_tests_declared,
        hidden_test=None,
        hidden_tests_declared=None,
    )
    return _with_hidden(result, _result(hidden, workshop, _outcome(hidden, workshop)))


def _with_hidden(visible: VerifyResult, hidden: VerifyResult) -> VerifyResult:
    """One result for both sets of tests: the hidden ones count like the visible ones and are reported apart, too."""
    telling = visible if visible.status == "wrong" and hidden.status in ("ok", "wrong") else hidden
    return dataclasses.replace(
        telling,
        tests_passed=visible.tests_passed + hidden.tests_passed,
        tests_total=visible.tests_total + hidden.tests_total,
        hidden_passed=hidden.tests_passed,
        hidden_total=hidden.tests_total,
        run_ok=visible.run_ok and hidden.run_ok,
        timings={name: visible.timings[name] + hidden.timings.get(name, 0.0) for name in visible.timings},
    )


def _outcome(program: Program, workshop: Workshop) -> Outcome:
    if program.cases:
        return _by_cases(program, workshop)
    if program.test is None:
        return _alone(program, workshop)
    program = _with_counted_assertions(program)
    return _by_oracle(program, workshop) or judge_apart(program, workshop) or judge_as_one(program, workshop)


def _with_counted_assertions(program: Program) -> Program:
    test = program.test or ""
    counted, declared = count_assertions(test), program.tests_declared
    if declared is None and counted != test:
        declared = count_declared(test)
    return dataclasses.replace(program, test=counted, tests_declared=declared)


def _alone(program: Program, workshop: Workshop) -> Outcome:
    """No tests: the program judges itself by its exit status; one without a `main` is compiled only."""
    with workshop.scratch(program.files) as folder:
        single = len(sources(program)) == 1
        compiled = compile_candidate(program, workshop, folder, ["-c", "-o", CANDIDATE_OBJECT] if single else ["-c"])
        if compiled.failure is not None:
            return Outcome("none", compiled)
        if single:
            linked = link_candidate(workshop, folder, compiled, [CANDIDATE_OBJECT])
        else:
            linked = build_candidate(program, workshop, folder)
        if linked.failure is not None:
            without_main = lacks_only_main(linked.finished.stderr.decode(errors="replace"))
            return Outcome("none", compiled if without_main else linked)
        run = workshop.run(workshop.program(folder))
        return Outcome("none", linked, read_verdict(run, False, None), run, run.seconds)


def _by_cases(program: Program, workshop: Workshop) -> Outcome:
    """Feed each input and compare what comes out here, where the candidate has no say. A limit ends it."""
    with workshop.scratch(program.files) as folder:
        built = build_candidate(program, workshop, folder)
        if built.failure is not None:
            return Outcome("cases", built)
        passed, seconds, cpu, total = 0, 0.0, 0.0, len(program.cases)
        for case in program.cases:
            run = workshop.run(workshop.program(folder, stdin=case.stdin.encode(errors="replace")))
            seconds, cpu = seconds + run.seconds, cpu + run.cpu_seconds
            run = dataclasses.replace(run, cpu_seconds=cpu)
            verdict = read_verdict(run, False, None)
            if run.ended in LIMITS:
                return Outcome("cases", built, Verdict(verdict.status, total=total), run, seconds)
            passed += verdict.status == "ok" and outputs_match(program.checker, case, run.stdout)
        return Outcome("cases", built, Verdict("ok" if passed == total else "wrong", passed, total), run, seconds)


def _by_oracle(program: Program, workshop: Workshop) -> Outcome | None:
    """The harness in one process, the candidate in another. None where this harness cannot be split."""
    parts = _split(program, program.declaration)
    if parts is None:
        return None
    outcome = _run_split(program, workshop, parts)
    if outcome is None or outcome.built.failure != "link_error" or program.declaration is None:
        return outcome
    if not keeps_its_word(program.declaration, "\n".join(program.files.values())):
        return outcome
    # Other parameter types than the prompt's, which the harness can call as well. Never a weaker tier.
    own = _split(program, None)
    return (_run_split(program, workshop, own) if own is not None and own != parts else None) or outcome


def _split(program: Program, declaration: str | None) -> Split | None:
    return split(program.test or "", declaration, "\n".join(program.files.values()))


def _run_split(program: Program, workshop: Workshop, parts: Split) -> Outcome | None:
    oracle = _build_oracle(program.std, workshop, parts)
    if oracle is None:
        return None
    with workshop.scratch(program.files) as folder:
        built = build_loadable(program, workshop, folder, parts) or _link_whole(program, workshop, folder, parts)
        if built is None:
            return None
        if built.failure is not None:
            return Outcome("oracle", built)
        ask, answer = (end.detach() for end in socket.socketpair())
        harness, candidate = workshop.run_split(
            workshop.program(oracle[0], host=oracle[1], descriptors=((ask, ORACLE_CHANNEL),)),
            workshop.program(folder, descriptors=((answer, WORKER_CHANNEL),)),
        )
    verdict = read_oracle(harness, candidate, program.tests_declared)
    return Outcome("oracle", built, verdict, candidate, max(harness.seconds, candidate.seconds), harness.stdout)


def _build_oracle(std: str, workshop: Workshop, parts: Split) -> tuple[Path, Path | None] | None:
    """The oracle's folder and, where that is not in it, the program."""
    key = content_key(std, parts.oracle)
    known = workshop.oracles.get(key)
    if known is not None and all(workshop.still_has(path) for path in known):
        return known
    built = _compile_oracle(std, workshop, parts)
    if built is not None:
        workshop.oracles[key] = built
    return built


def _compile_oracle(std: str, workshop: Workshop, parts: Split) -> tuple[Path, Path | None] | None:
    if (loadable := build_loadable_oracle(std, workshop, parts)) is not None:
        return loadable
    arguments = ["-w", *workshop.trusted_flags(std), "oracle.cpp", "-o", PROGRAM, *workshop.link_flags]
    whole = workshop.built_once(PROGRAM, {"oracle.cpp": parts.oracle}, arguments)
    return None if whole is None else (whole.parent, None)


def _link_whole(program: Program, workshop: Workshop, folder: Path, parts: Split) -> Built | None:
    flags = ("-w", *workshop.trusted_flags(program.std))
    worker = workshop.built_once(WORKER, {"worker.cpp": parts.worker}, [*flags, "-c", "worker.cpp", "-o", WORKER])
    if worker is None:
        return None
    write_files(folder, {WORKER: parts.with_names(worker.read_bytes())})
    return build_candidate(program, workshop, folder, [WORKER])


def _result(program: Program, workshop: Workshop, outcome: Outcome) -> VerifyResult:
    built, verdict, run = outcome.built, outcome.verdict, outcome.run
    diagnostics, suppressions = uncover(program, workshop, built)
    status = verdict.status if verdict else built.failure or "ok"
    limit = built.limit if run is None else run.ended if run.ended in (*LIMITS, "signal") else None
    return VerifyResult(
        status,
        compile_ok=built.failure is None,
        run_ok=run is not None and run.ended == "exit" and run.returncode == 0,
        returncode=None if run is None else run.returncode,
        stdout="" if run is None else (run.stdout + outcome.marker).decode(errors="replace"),
        stderr=_said(outcome, diagnostics),
        tests_passed=verdict.passed if verdict else 0,
        tests_total=(verdict.total if verdict else 0) or _known_total(program),
        warnings=count_own_warnings(program, diagnostics),
        error_class=error_class(diagnostics) if status == "compile_error" else None if status == "ok" else status,
        diagnostics=diagnostics,
        suppressions=suppressions,
        tier=outcome.tier,
        isolation=workshop.controls.names,
        limit=limit,
        timings=_timings(outcome),
        toolchain=workshop.toolchain.version,
    )


def _said(outcome: Outcome, diagnostics: tuple[Diagnostic, ...]) -> str:
    """What there is to read: of the run, or of the compiler, with the places as they really are."""
    if outcome.run is not None:
        return outcome.run.stderr.decode(errors="replace")
    if outcome.why:
        return outcome.why
    return _compiler_text(outcome.built, diagnostics)


def _compiler_text(built: Built, diagnostics: tuple[Diagnostic, ...]) -> str:
    return built.text if diagnostics == built.diagnostics else render_diagnostics(diagnostics)


def _known_total(program: Program) -> int:
    return len(program.cases) or program.tests_declared or 0


def _timings(outcome: Outcome) -> dict[str, float]:
    timings = {"compile": outcome.built.finished.seconds, "compile_cpu": outcome.built.finished.cpu_seconds}
    if outcome.run is not None:
        timings |= {"run": outcome.seconds, "run_cpu": outcome.run.cpu_seconds}
    return timings
