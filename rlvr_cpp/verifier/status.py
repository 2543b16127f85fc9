"""The words by which a result is told: how a program ended, how its verdict was obtained, which limit ended it."""

from __future__ import annotations

from typing import Literal, get_args

Status = Literal[
    "ok",  # everything that was asked for happened: compiled, ran, passed all tests there are
    "wrong",  # ran to its end and failed tests
    "compile_error",
    "compile_limit",  # the compiler itself ran out of time, memory or disk
    "link_error",
    "run_error",  # a signal, or a failing exit status without a verdict
    "timeout",
    "memory_limit",
    "output_limit",
    "forged",  # a verdict that contradicts the exit status, the number of tests, or itself
    "ambiguous",  # more than one verdict
    "policy",  # its object code could tamper with a verdict in the same process, so it was not run
    "sandbox_error",  # the machine's or the task's failure, not the program's
]
STATUSES: tuple[Status, ...] = get_args(Status)
CHEATS: tuple[Status, ...] = ("forged", "ambiguous", "policy")
"""Statuses of programs that claimed a verdict or could have tampered with one: a rate worth watching."""

Failure = Literal["compile_error", "compile_limit", "link_error"]
"""Why there is no program."""

Tier = Literal[
    "cases",  # outputs compared outside
    "oracle",  # the harness ran in another process
    "observer",  # the harness ran in another process, the candidate's objects stayed in its own
    "sealed",  # in the same process, but apart
    "marker",  # one text
    "none",  # there were no tests
]
"""How a verdict was obtained, strongest first."""
IN_PROCESS: tuple[Tier, ...] = ("sealed", "marker")
"""Tiers in which the tests share the candidate's process: a full pass or nothing."""

Limit = Literal["cpu", "wall", "memory", "output", "signal"]
"""What ended a command before its time."""
