"""Build and run a test that was taken apart: the oracle once for all answers, the observer with each candidate."""

from __future__ import annotations

import dataclasses

from rlvr_cpp.verifier.cpp.marker import signed
from rlvr_cpp.verifier.cpp.signature import read_unit
from rlvr_cpp.verifier.tiers.observer.plan import Plan
from rlvr_cpp.verifier.tiers.sealed import between
from rlvr_cpp.verifier.tiers.two_processes import link_oracle, run_in_two
from rlvr_cpp.verifier.toolchain.bench import CANDIDATE_OBJECT, OWN_MAIN, RENAME_MAIN, Bench
from rlvr_cpp.verifier.toolchain.built import Built, Judged
from rlvr_cpp.verifier.toolchain.workshop import Oracle, Workshop
from rlvr_cpp.verifier.verdict import read_oracle
from rlvr_sandbox import SandboxError

OBSERVER, OBSERVER_OBJECT, RUNTIME = "rlvr_observer.cpp", "rlvr_observer.o", "rlvr_runtime.o"
WRONG_TYPE = "the tests ask for a value of another type here"
"""What `observer.h` says of a candidate's value whose type is not the planned one."""


def build_oracle(std: str, workshop: Workshop, plan: Plan) -> Oracle | None:
    """The oracle; None where it does not compile."""
    return link_oracle(std, workshop, signed(plan.oracle, workshop.signature))


def build_apart(std: str, workshop: Workshop, observer: str) -> bytes | None:
    """The object of an observer that needs no candidate, built once for all answers; None where it needs one."""
    compile_it = ["-w", *workshop.trusted_flags(std), "-c", OBSERVER, "-o", OBSERVER_OBJECT]
    built = workshop.built_once(OBSERVER_OBJECT, {OBSERVER: observer}, compile_it)
    return None if built is None else built.read_bytes()


def judge_by_plan(bench: Bench, plan: Plan, oracle: Oracle) -> Judged:
    """Have the candidate observed by the test. One that does not fit the plan has not answered the task."""
    built = _build(bench, plan)
    if built.failure is not None:
        return Judged(tier="observer", built=built)
    harness, candidate = run_in_two(bench, oracle)
    return Judged(
        tier="observer",
        built=built,
        verdict=read_oracle(harness, candidate, bench.program.tests_declared or plan.total),
        run=candidate,
        seconds=max(harness.seconds, candidate.seconds),
        marker=harness.stdout,
    )


def _build(bench: Bench, plan: Plan) -> Built:
    """The candidate and what observes it as one program."""
    bench.add_object(RUNTIME, plan.runtime, ["-w", *bench.trusted_flags])
    if plan.apart and not _has_main(bench):
        return _build_apart(bench, plan)
    if len(bench.program.sources) > 1 or plan.quoted:
        return _build_files(bench, plan)
    return _build_together(bench, plan)


def _build_together(bench: Bench, plan: Plan) -> Built:
    """The candidate and what observes it as one text."""
    [name] = bench.program.sources
    built = bench.compile_object(_behind(bench, f'#include "{name}"\n', plan))
    return built if built.failure is not None else bench.link(built, CANDIDATE_OBJECT, RUNTIME)


def _behind(bench: Bench, included: str, plan: Plan) -> str:
    """The observer behind files of the candidate, whose `main` is called otherwise and whose macros end with them."""
    undone = between("\n".join(bench.program.files.values()), plan.observer, bench.program.declaration or "")
    return f'#define main {OWN_MAIN}\n{included}#undef main\n{undone}#line 1 "{OBSERVER}"\n{plan.observer}'


def _build_apart(bench: Bench, plan: Plan) -> Built:
    """The candidate, linked with what observes it."""
    observer = build_apart(bench.program.std, bench.workshop, plan.apart)
    if observer is None:
        raise SandboxError("sandbox: the observer of a plan does not compile any more")
    bench.write({OBSERVER_OBJECT: observer})
    built = bench.build(OBSERVER_OBJECT, RUNTIME)
    if built.failure != "link_error" or len(bench.program.sources) > 1:
        return built
    together = _build_together(bench, plan)  # what is `inline`, `static` or a template is seen by no linker
    return together if together.failure is None else built


def _build_files(bench: Bench, plan: Plan) -> Built:
    """The observer is a unit of its own, behind the candidate's headers that the test includes."""
    included = "".join(f"#include {path}\n" for path in plan.quoted)
    built = bench.compile("-c", "-o", OBSERVER_OBJECT, text=_behind(bench, included, plan))
    objects, diagnostics = [OBSERVER_OBJECT, RUNTIME], [*built.diagnostics]
    for number, source in enumerate(bench.program.sources):
        if built.failure is not None:
            break
        objects.append(f"rlvr_{number}.o")
        built = bench.compile(RENAME_MAIN, "-c", "-o", objects[-1], source=source)
        diagnostics += built.diagnostics
    built = dataclasses.replace(built, diagnostics=tuple(diagnostics))
    return built if built.failure is not None else bench.link(built, *objects)


def _has_main(bench: Bench) -> bool:
    return any(function.name == "main" for text in bench.program.files.values() for function in read_unit(text).defined)
