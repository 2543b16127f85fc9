"""Judge a program that talks to one of the task's, the interactor, through a pair of pipes (testlib's interface).

Each runs in a jail of its own and sees nothing of the other but what comes through its pipe. The interactor has the
input and perhaps an answer, and its exit status is the verdict. The candidate's clock always ends first, so that two
who wait for each other are a timeout of the candidate; and a candidate that fails by itself has lost the case, whatever
that does to the interactor.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from rlvr_cpp.verifier.cases import Case
from rlvr_cpp.verifier.tiers.checker_program import ANSWER, INPUT, judge_command, says_yes
from rlvr_cpp.verifier.toolchain.bench import Bench
from rlvr_cpp.verifier.verdict import LIMITS
from rlvr_sandbox import Command, Finished

NOTHING = "/dev/null"  # testlib's output of an interactor is for a checker behind it, and there is none
PATIENCE = 5.0  # seconds that an interactor has beyond its candidate's clock


def talk(bench: Bench, interactor: Path, case: Case) -> tuple[Finished, bool]:
    """The candidate's run, and whether the built interactor was content. Raises CheckerError where it cannot tell."""
    candidate = bench.command()
    with bench.workshop.scratch({INPUT: case.stdin, ANSWER: case.stdout}) as folder:
        judge = judge_command(interactor, folder, (INPUT, NOTHING, ANSWER), bench.workshop)
        longest = candidate.limits.wall + PATIENCE
        judge = replace(judge, limits=replace(judge.limits, cpu=longest, wall=longest))
        said, run = bench.workshop.run_split(*_connected(judge, candidate))
    return read_talk(said, run)


def _connected(judge: Command, candidate: Command) -> tuple[Command, Command]:
    """Each one's standard output is the other one's standard input."""
    (asked, asks), (answered, answers) = os.pipe(), os.pipe()
    return (
        replace(judge, descriptors=((answered, 0), (asks, 1))),
        replace(candidate, descriptors=((asked, 0), (answers, 1))),
    )


def read_talk(interactor: Finished, candidate: Finished) -> tuple[Finished, bool]:
    """The candidate's run as it counts, and whether the case was passed. Raises CheckerError where nobody can tell."""
    went_on = candidate.ended == "killed"  # when the interactor had ended and nothing was left to talk about
    if candidate.ended in LIMITS or (candidate.returncode != 0 and not went_on):
        return candidate, False
    is_content = says_yes("interactor", interactor)
    if went_on and is_content:
        return replace(candidate, ended="wall"), False
    return candidate, is_content
