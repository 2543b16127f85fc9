"""Judge a harness that calls the candidate over a wire, from a process that the candidate cannot reach (`oracle.py`).

What the harness's side and the candidate's `main` take is the same for every answer to a task: it is built once.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.tiers.loadable import PAYS_AFTER, build_host, build_loadable, build_loadable_oracle
from rlvr_cpp.verifier.tiers.oracle import ORACLE_CHANNEL, WORKER_CHANNEL, Split, keeps_its_word, split
from rlvr_cpp.verifier.toolchain.bench import Bench
from rlvr_cpp.verifier.toolchain.built import Built, Judged
from rlvr_cpp.verifier.toolchain.store import content_key
from rlvr_cpp.verifier.toolchain.workshop import PROGRAM, Workshop
from rlvr_cpp.verifier.verdict import read_oracle
from rlvr_sandbox import Finished, SandboxError

WORKER = "rlvr_worker.o"
Oracle = tuple[Path, Path | None]
"""The folder that it is run in and, where that is not in it, the program."""


def judge_in_two(bench: Bench) -> Judged | None:
    """The harness in one process, the candidate in another. None where this harness cannot be split.

    A candidate that does not link in any split ends here as a `link_error`: it is not handed on to a weaker tier.
    """
    judged = None
    for parts in splits(bench.program):
        judged = _judge_split(bench, parts) or judged
        if judged is None or judged.built.failure != "link_error":
            break
    return judged


def prepare_oracle(program: Program, workshop: Workshop) -> None:
    """Build the oracle's and the worker's part. Trouble is left to the judging."""
    parts = next(splits(program), None)
    if parts is not None:
        with contextlib.suppress(SandboxError, OSError):
            build_oracle(program.std, workshop, parts)
            if workshop.pays(parts.worker, PAYS_AFTER, uses=PAYS_AFTER + 1):
                build_host(program.std, workshop, parts)


def splits(program: Program) -> Iterator[Split]:
    """The ways to split a harness from its candidate, the second for those whom the first one does not link.

    That is by the types of parameters that the task declares, then by the candidate's own, which the harness can call
    as well where it kept its word otherwise.
    """
    test, code = program.test or "", "\n".join(program.files.values())
    declared = split(test, program.declaration, code)
    if declared is None:
        return
    yield declared
    if program.declaration is not None and keeps_its_word(program.declaration, code):
        own = split(test, None, code)
        if own is not None and own != declared:
            yield own


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
    folder, host = oracle
    return bench.workshop.run_split(
        bench.workshop.program(folder, host=host, descriptors=((ask, ORACLE_CHANNEL),)),
        bench.command(descriptors=((answer, WORKER_CHANNEL),)),
    )


def build_worker(bench: Bench, parts: Split) -> Built | None:
    """Make the program that serves the candidate's functions. None where the part that is ours does not compile."""
    return build_loadable(bench, parts) or _link_whole(bench, parts)


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
    if known is not None and all(workshop.still_has(path) for path in known):
        return known
    built = build_loadable_oracle(std, workshop, parts) or _link_oracle(std, workshop, parts)
    if built is not None:
        workshop.oracles[key] = built
    return built


def _link_oracle(std: str, workshop: Workshop, parts: Split) -> tuple[Path, None] | None:
    arguments = ["-w", *workshop.trusted_flags(std), "oracle.cpp", "-o", PROGRAM, *workshop.link_flags]
    whole = workshop.built_once(PROGRAM, {"oracle.cpp": parts.oracle}, arguments)
    return None if whole is None else (whole.parent, None)
