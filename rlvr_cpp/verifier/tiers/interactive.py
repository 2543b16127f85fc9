"""Judge a program that talks to one of the task's, the interactor, through a pair of pipes (testlib's interface).

Each runs in a jail of its own and sees nothing of the other but what comes through its pipe. The interactor has the
input and perhaps an answer, and its exit status is the verdict. The candidate's clock always ends first, so that two
who wait for each other are a timeout of the candidate; and a candidate that fails by itself has lost the case, whatever
that does to the interactor. An interactor that has no verdict is started once more before somebody who never says a
word: where it waits for one without trouble, what the candidate said, or that it went, has broken it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from rlvr_cpp.verifier.cases import Case
from rlvr_cpp.verifier.tiers.checker_program import (
    ANSWER,
    INPUT,
    failure,
    judge_command,
    opinion,
    says_it_failed,
)
from rlvr_cpp.verifier.toolchain.bench import Bench
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_cpp.verifier.verdict import LIMITS
from rlvr_sandbox import Command, Finished

NOTHING = "/dev/null"  # testlib's output of an interactor is for a checker behind it, and there is none
PATIENCE = 5.0  # seconds that an interactor has beyond its candidate's clock
AFTERWARDS = 2.0  # seconds that it has for its verdict when the candidate has ended
SILENCE = 4.0  # seconds for which an interactor that is asked once more hears nothing
BUSY = 1.0  # CPU seconds that it has before it waits for a word; on a busy machine one that never waits uses them, too


def talk(bench: Bench, interactor: Path, case: Case) -> tuple[Finished, bool | None]:
    """The candidate's run, and whether the built interactor was content; None where the candidate has broken it.

    Raises CheckerError where the interactor fails by itself.
    """
    candidate = bench.command()
    with bench.workshop.scratch({INPUT: case.stdin, ANSWER: case.stdout}) as folder:
        judge = judge_command(interactor, folder, (INPUT, NOTHING, ANSWER), bench.workshop)
        longest = candidate.limits.wall + PATIENCE
        judge = replace(judge, limits=replace(judge.limits, cpu=longest, wall=longest))
        said, run = bench.workshop.run_split(*_connected(judge, candidate), AFTERWARDS)
        if opinion(said) is None and not _has_failed(run):
            if says_it_failed(said) or not _bears_silence(judge, bench.workshop):
                raise failure("interactor", said)
            return run, None
    return read_talk(said, run)


def _connected(judge: Command, candidate: Command) -> tuple[Command, Command]:
    """Each one's standard output is the other one's standard input."""
    (asked, asks), (answered, answers) = os.pipe(), os.pipe()
    return (
        replace(judge, descriptors=((answered, 0), (asks, 1))),
        replace(candidate, descriptors=((asked, 0), (answers, 1))),
    )


def _bears_silence(judge: Command, workshop: Workshop) -> bool:
    """Whether the interactor waits for a first word, or has a verdict without one."""
    listens, never_speaks = os.pipe()
    try:
        alone = replace(judge, descriptors=((listens, 0),), limits=replace(judge.limits, wall=SILENCE, cpu=BUSY))
        run = workshop.run(alone)
    finally:
        os.close(never_speaks)
    return opinion(run) is not None or run.ended == "wall"


def _has_failed(candidate: Finished) -> bool:
    """By itself: not one that went on when the interactor had ended and nothing was left to talk about."""
    return candidate.ended in LIMITS or (candidate.returncode != 0 and candidate.ended != "killed")


def read_talk(interactor: Finished, candidate: Finished) -> tuple[Finished, bool]:
    """The candidate's run as it counts, and whether the case was passed."""
    is_content = opinion(interactor) is True and not _has_failed(candidate)
    if is_content and candidate.ended == "killed":
        return replace(candidate, ended="wall"), False
    return candidate, is_content
