"""Judge a harness that calls the candidate over a wire, from a process that the candidate cannot reach (`oracle.py`).

What the harness's side and the candidate's `main` take is the same for every answer to a task: it is built once.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace

from rlvr_cpp.verifier.cpp.arrays import FENCE
from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic
from rlvr_cpp.verifier.cpp.marker import signed, unsigned
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.tiers.loadable import PAYS_AFTER, build_host, build_loadable, build_loadable_oracle
from rlvr_cpp.verifier.tiers.oracle import (
    ORACLE_CHANNEL,
    WORKER_CHANNEL,
    Split,
    differs,
    is_open,
    mentions_all,
    split,
)
from rlvr_cpp.verifier.tiers.sealed import between
from rlvr_cpp.verifier.toolchain.bench import OWN_MAIN, Bench
from rlvr_cpp.verifier.toolchain.built import Built, Judged
from rlvr_cpp.verifier.toolchain.store import content_key
from rlvr_cpp.verifier.toolchain.workshop import PROGRAM, Oracle, Workshop
from rlvr_cpp.verifier.verdict import read_oracle
from rlvr_sandbox import Finished, SandboxError

WORKER = "rlvr_worker.o"


def judge_in_two(bench: Bench) -> Judged | None:
    """The harness in one process, the candidate in another. None where this harness cannot be split.

    That is for the task to say: whatever a candidate's own functions are like, it is not handed on to a weaker tier.
    """
    program, parts = bench.program, split_of(bench.program)
    judged = _judge_split(bench, parts) if parts is not None else None
    is_owed = judged is None and is_open(program.test or "", program.declaration, program.reference)
    return _ask_for_declaration(bench) if is_owed and not _stays_whole(bench) else judged


def _stays_whole(bench: Bench) -> bool:
    """The test cannot be split from the reference either: it wants a constant of it, which no wire brings."""
    program = bench.program
    if program.reference is None:
        return False
    parts = split(program.test or "", program.declaration, program.reference, program.reference)
    return parts is not None and build_oracle(program.std, bench.workshop, parts) is None


def prepare_oracle(program: Program, workshop: Workshop) -> None:
    """Build the oracle's and the worker's part. Trouble is left to the judging."""
    parts = split_of(program)
    if parts is not None:
        with contextlib.suppress(SandboxError, OSError):
            build_oracle(program.std, workshop, parts)
            if workshop.pays(parts.worker, PAYS_AFTER, uses=PAYS_AFTER + 1):
                build_host(program.std, workshop, parts)


def split_of(program: Program) -> Split | None:
    """How a program's harness is split from its candidate."""
    code = "\n".join(program.files.values())
    return split(program.test or "", program.declaration, code, program.reference)


def _ask_for_declaration(bench: Bench) -> Judged:
    """The test calls functions that nothing declares, and what the candidate made of them cannot be believed."""
    built = bench.compile("-c") if len(bench.program.sources) > 1 else bench.compile_object()
    if built.failure is None:
        why = "the test calls what was not declared: give `declaration`, C++ that declares what an answer has to define"
        built = built.refused(Diagnostic("", 0, None, "error", why, None))
    return Judged(tier="oracle", built=built)


def _judge_split(bench: Bench, parts: Split) -> Judged | None:
    oracle = build_oracle(bench.program.std, bench.workshop, parts)
    built = build_worker(bench, parts) if oracle is not None else None
    if oracle is None or built is None:
        return None
    if built.failure is not None:
        return Judged(tier="oracle", built=built)
    harness, candidate = run_in_two(bench, oracle)
    return Judged(
        tier="oracle",
        built=built,
        verdict=read_oracle(harness, candidate, bench.program.tests_declared),
        run=candidate,
        seconds=max(harness.seconds, candidate.seconds),
        marker=harness.stdout,
    )


def run_in_two(bench: Bench, oracle: Oracle) -> tuple[Finished, Finished]:
    """Run the harness and the candidate that it calls."""
    ask, answer = (end.detach() for end in socket.socketpair())
    workshop = bench.workshop
    harness, candidate = workshop.run_split(
        workshop.program(
            oracle.folder, host=oracle.host, descriptors=((ask, ORACLE_CHANNEL),), is_fenced=oracle.is_fenced
        ),
        bench.command(descriptors=((answer, WORKER_CHANNEL),)),
    )
    if oracle.is_signed:
        harness = replace(harness, stdout=unsigned(harness.stdout, workshop.signature))
    return harness, candidate


def build_worker(bench: Bench, parts: Split) -> Built | None:
    """Make the program that serves the candidate's functions. None where the part that is ours does not compile."""
    code, *more = bench.program.files.values()
    if not more and differs(parts, code):
        return _compile_together(bench, parts)
    built = build_loadable(bench, parts) or _link_whole(bench, parts)
    if built is None or built.failure != "link_error" or more or not mentions_all(parts, code):
        return built
    together = _compile_together(bench, parts)
    return together if together.failure is None else built


def _compile_together(bench: Bench, parts: Split) -> Built:
    """Make one text of the candidate and the worker, for candidates that no linker could tell from others."""
    [name], [code] = bench.program.files, bench.program.files.values()
    own = f'#define main {OWN_MAIN}\n#include "{name}"\n{between(code, parts.behind)}'
    return bench.compile("-o", PROGRAM, *bench.workshop.link_flags, text=parts.before + own + parts.behind)


def _link_whole(bench: Bench, parts: Split) -> Built | None:
    """Link the candidate with the worker, compiled once. None where the worker does not compile."""
    compile_it = ["-w", *bench.trusted_flags, "-c", "worker.cpp", "-o", WORKER]
    worker = bench.workshop.built_once(WORKER, {"worker.cpp": parts.worker}, compile_it)
    if worker is None:
        return None
    bench.write({WORKER: parts.with_names(worker.read_bytes())})
    return bench.build(WORKER)


def build_oracle(std: str, workshop: Workshop, parts: Split) -> Oracle | None:
    """The oracle, built once for all answers. None where it does not compile."""
    key = content_key(std, parts.oracle)
    known = workshop.oracles.get(key)
    if known is not None and workshop.still_has(known.folder) and workshop.still_has(known.host):
        return known
    parts = replace(parts, oracle=signed(parts.oracle, workshop.signature))
    loadable = build_loadable_oracle(std, workshop, parts) if FENCE not in parts.oracle else None
    built = loadable or link_oracle(std, workshop, parts.oracle)
    if built is not None:
        workshop.oracles[key] = built
    return built


def link_oracle(std: str, workshop: Workshop, oracle: str) -> Oracle | None:
    """A test that was made a program of its own; None where it does not compile.

    A compiler without an AddressSanitizer builds it without a fence.
    """
    for is_fenced in (True, False) if FENCE in oracle else (False,):
        flags = [*workshop.oracle_flags(std), *(workshop.fence_flags if is_fenced else ())]
        arguments = [*flags, "oracle.cpp", "-o", PROGRAM, *workshop.link_flags]
        whole = workshop.built_once(PROGRAM, {"oracle.cpp": oracle}, arguments)
        if whole is not None:
            return Oracle(whole.parent, None, workshop.signature in oracle, is_fenced)
    return None
