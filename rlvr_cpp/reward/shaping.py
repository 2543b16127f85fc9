"""A reward that also looks at how a program is written: the terms of `CompilerRewardShaper` and how they add up.

Shaping may reorder equally correct programs and no others. Let v(k) = compile + run + test * k/n, in whole hundredths
rounded down, for k of n tests. A failure has v(k), from which warnings take at most v(k) - v(k-1), the share of its
last passed test (with k = 0, at most run). A pass has v(n) and what speed, sanitizer and tidy give, and warnings take
at most that. So v(k-1) <= value(k) <= v(k) for a failure, and value(n) >= v(n) >= v(k) + 0.01 for every k < n because
test * k/n < test: more tests never score lower, a pass always outranks a failure, and no n makes a cliff: a failure's
warnings fade as one test's share does, a pass's do not depend on n. All of it is done in hundredths, so nothing is
rounded or clamped afterwards and the terms add up to the value.

A pass has full credit for a term that was not measured (`unmeasured`): a term is measured for all passes of a group,
which share a prompt and are compared with each other, or for none, so a clean pass is worth 1.00 where nothing is.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from rlvr_cpp.errors import UserError
from rlvr_cpp.reward.terms import (
    WEIGHTS,
    Measured,
    Reward,
    ShapingWeights,
    _is_number,
    is_pass,
    is_sampled,
    shaped_reward,
)
from rlvr_cpp.verifier.cpp.lexemes import readings
from rlvr_cpp.verifier.judge import judge
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.toolchain.store import content_key
from rlvr_cpp.verifier.toolchain.tidy import UNREADABLE, check_tidy, find_tidy, tidy_notes
from rlvr_cpp.verifier.toolchain.toolchain import MAX_SECONDS
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_cpp.verifier.verifier import Verifier
from rlvr_sandbox import Stopper

SHORTEST = 0.02
"""CPU seconds below which a run says nothing about speed. Medians of three of one and the same program, on a busy
machine, were more than a quarter apart in 19 % of pairs at 0.8 ms (an empty program), 0.3 % at 3 ms, none at 10 ms."""
MEASUREMENTS = 3
SANITIZE = "-fsanitize=address,undefined"
SLOWDOWN = 3.0  # what a sanitized program may need more, in time
UNDECIDED = ("sandbox_error", "timeout", "compile_limit", "memory_limit", "output_limit")
"""Endings of a sanitized run that say nothing about the program: its limits are not the plain one's."""
EVASION = re.compile(
    r"no_sanitize|no_address_safety_analysis|disable_sanitizer|__SANITIZE_|__(?:asan|ubsan|sanitizer)_|"
    r"(?:address|undefined_behavior)_sanitizer"
)
"""Words by which code escapes the sanitizers or finds out that they are there. A program with one counts as unclean."""
REMEMBERED = 10_000  # programs

T = TypeVar("T")


def comparable(measured: Mapping[int, T | None], groups: Sequence[str]) -> dict[int, T]:
    """What was measured, by position, without the groups in which a measurement failed: None."""
    lost = {groups[i] for i, value in measured.items() if value is None}
    return {i: value for i, value in measured.items() if value is not None and groups[i] not in lost}


class CompilerRewardShaper:
    """Rewards with all terms. A context manager, for the verifier of its own that builds for the sanitizers."""

    def __init__(
        self,
        verifier: Verifier,
        weights: ShapingWeights = WEIGHTS,
        *,
        seed: int = 0,
        sanitizer_fraction: float = 0.1,
        tidy_fraction: float = 0.1,
    ) -> None:
        """The fractions are of groups. One of 0, as a weight of 0, means never, and needs nothing installed.

        Raises UserError where a fraction makes no sense, or the sanitizers or clang-tidy are missing or do not work.
        """
        self.verifier = verifier
        self.weights = weights
        self.seed = seed
        self.fractions = {
            "sanitizer": _fraction("sanitizer_fraction", sanitizer_fraction, self.weights.sanitizer),
            "tidy": _fraction("tidy_fraction", tidy_fraction, self.weights.tidy),
        }
        self.left_out: Counter[str] = Counter()
        """How often each term could not be measured and so was left out for a whole group."""
        self._workshop = verifier.workshop
        self._tidy_costs: dict[str, int] = {}
        self._medians: dict[str, float] = {}
        self._tidy = _tidy_here(self._workshop) if self.fractions["tidy"] else ""
        self._sanitizing = _sanitizing(verifier) if self.fractions["sanitizer"] else None

    def __enter__(self) -> CompilerRewardShaper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the verifier that runs the sanitizers."""
        if self._sanitizing is not None:
            self._sanitizing.close()

    def __call__(self, program: Program, reference: Program | None = None) -> Reward:
        """Judge one program and measure every term of it, whatever the fractions are (unless 0)."""
        references = {"": reference} if reference is not None else {}
        return self._score([program], [self.verifier.verify(program)], [""], references, True)[0]

    def score_many(
        self,
        programs: Sequence[Program],
        results: Sequence[VerifyResult],
        groups: Sequence[str],
        references: Mapping[str, Program] | None = None,
    ) -> list[Reward]:
        """The rewards of programs that were judged, in order.

        `groups` names for each the group it is compared in: completions of one prompt. Seed and name decide whether a
        group is sampled; a name with the step in it gives a prompt another chance each time. `references` has each
        group's reference solution with the same tests; without one, or with one that fails or takes less than 20 ms,
        speed is not measured. CPU times are those of the whole run, user and system, as the verifier's flags build it.
        """
        return self._score(programs, results, groups, references or {}, False)

    def _score(
        self,
        programs: Sequence[Program],
        results: Sequence[VerifyResult],
        groups: Sequence[str],
        references: Mapping[str, Program],
        everything: bool,
    ) -> list[Reward]:
        passes = [i for i, (_, result, _) in enumerate(zip(programs, results, groups, strict=True)) if is_pass(result)]

        def due(term: str) -> dict[int, Program]:
            fraction = 1.0 if everything and self.fractions[term] else self.fractions[term]
            return {i: programs[i] for i in passes if is_sampled(self.seed, term, groups[i], fraction)}

        timed = {i: programs[i] for i in passes if self.weights.speed and groups[i] in references}
        speed = self._comparable("speed", self._time(timed, results, groups, references), groups)
        clean = self._comparable("sanitizer", self._sanitize(due("sanitizer")), groups)
        tidy = self._comparable("tidy", self._lint(due("tidy")), groups)
        measured = (Measured(speed.get(i), clean.get(i), tidy.get(i)) for i in range(len(results)))
        return [shaped_reward(result, found, self.weights) for result, found in zip(results, measured, strict=True)]

    def _comparable(self, term: str, measured: Mapping[int, T | None], groups: Sequence[str]) -> dict[int, T]:
        self.left_out[term] += len({groups[i] for i, value in measured.items() if value is None})
        return comparable(measured, groups)

    def _sanitize(self, programs: Mapping[int, Program]) -> dict[int, bool | None]:
        """Whether the sanitizers find nothing. A pass that fails when they look on is not clean, whatever it says."""
        if self._sanitizing is None or not programs:
            return {}
        results = self._sanitizing.verify_many(programs.values())
        return {
            i: None if result.status in UNDECIDED else is_pass(result) and not _evades(program)
            for (i, program), result in zip(programs.items(), results, strict=True)
        }

    def _lint(self, programs: Mapping[int, Program]) -> dict[int, int | None]:
        """What clang-tidy takes, in hundredths."""
        keys = {i: content_key(sorted(program.files.items()), program.std) for i, program in programs.items()}
        jobs = {keys[i]: partial(_tidy_cost, program, self._tidy) for i, program in programs.items()}
        costs = self._remembering(self._tidy_costs, jobs)
        return {i: costs[key] for i, key in keys.items()}

    def _time(
        self,
        timed: Mapping[int, Program],
        results: Sequence[VerifyResult],
        groups: Sequence[str],
        references: Mapping[str, Program],
    ) -> dict[int, float | None]:
        """How many times as fast as its reference each is; nothing about a group whose reference cannot tell."""
        names = list(dict.fromkeys(groups[i] for i in timed))
        base = dict(zip(names, self._cpu_seconds([(references[name], None) for name in names]), strict=True))
        told = {i: seconds for i in timed if (seconds := base[groups[i]]) is not None and seconds >= SHORTEST}
        times = self._cpu_seconds([(timed[i], results[i]) for i in told])
        return {i: told[i] / max(t, SHORTEST) if t is not None else None for i, t in zip(told, times, strict=True)}

    def _cpu_seconds(self, programs: Sequence[tuple[Program, VerifyResult | None]]) -> list[float | None]:
        """The median of each, with the result that there is as the first measurement."""
        keys = [content_key(program.identity) for program, _ in programs]
        jobs = {key: partial(_median_seconds, *program) for key, program in zip(keys, programs, strict=True)}
        medians = self._remembering(self._medians, jobs)
        return [medians[key] for key in keys]

    def _remembering(
        self, memory: dict[str, T], jobs: Mapping[str, Callable[[Workshop], T | None]]
    ) -> dict[str, T | None]:
        """Do what is not known yet, several at a time, and remember what comes of it unless it is None."""
        fresh = {key: job for key, job in jobs.items() if key not in memory}
        done = dict(zip(fresh, self._each(fresh.values()), strict=True))
        known = {key: memory.get(key, done.get(key)) for key in jobs}
        if len(memory) + len(done) > REMEMBERED:
            memory.clear()
        memory.update({key: value for key, value in done.items() if value is not None})
        return known

    def _each(self, jobs: Iterable[Callable[[Workshop], T]]) -> list[T]:
        stopper = Stopper()
        workshop = self._workshop.stopped_by(stopper)
        try:
            with ThreadPoolExecutor(self.verifier.workers, thread_name_prefix="rlvr-shape") as pool:
                try:
                    return list(pool.map(lambda job: job(workshop), jobs))
                finally:
                    stopper.stop()  # whatever interrupted us, nobody is left behind
        finally:
            stopper.close()


def _tidy_cost(program: Program, tidy: str, workshop: Workshop) -> int | None:
    """One hundredth for each finding, everything where clang cannot read the code."""
    findings = tidy_notes(program, workshop, tidy)
    if findings is None:
        return None
    return 100 if any(finding.check == UNREADABLE for finding in findings) else len(findings)


def _median_seconds(program: Program, first: VerifyResult | None, workshop: Workshop) -> float | None:
    """The median CPU time of three runs, of one where that is too short to measure; None where it is no pass."""
    results = [first or judge(program, workshop)]
    while is_pass(results[-1]):
        seconds = [result.timings["run_cpu"] for result in results]
        if len(seconds) == MEASUREMENTS or seconds[0] < SHORTEST:
            return statistics.median(seconds)
        results.append(judge(program, workshop))
    return None


def _sanitizing(verifier: Verifier) -> Verifier:
    """A verifier like this one that builds for the sanitizers. Raises UserError where they are not installed."""
    like = verifier.toolchain
    other = Verifier(
        compiler=like.compiler,
        timeout=min(MAX_SECONDS, SLOWDOWN * like.timeout),
        compile_timeout=min(MAX_SECONDS, SLOWDOWN * like.compile_timeout),
        extra_flags=(*like.extra_flags, SANITIZE),
        workers=verifier.workers,
        require=verifier.workshop.controls.names,
        testlib=like.testlib,
    )
    other.check(["c++17"])
    return other


def _tidy_here(workshop: Workshop) -> str:
    """A clang-tidy that works. Raises UserError without one."""
    tidy = find_tidy()
    if tidy is None:
        raise UserError(
            "tidy_fraction is above 0 but clang-tidy was not found on PATH: install it (apt-get install clang-tidy) "
            "or set tidy_fraction to 0"
        )
    check_tidy(tidy, workshop)
    return tidy


def _evades(program: Program) -> bool:
    return any(EVASION.search(reading) for text in program.files.values() for reading in readings(text))


def _fraction(name: str, value: float, weight: float) -> float:
    """0 where the term is worth nothing."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise UserError(f"{name} is {value!r}: it must be a fraction of the groups, between 0 and 1")
    return value if weight else 0.0
