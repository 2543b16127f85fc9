"""Judge programs while others are still being written: hand them in one by one, ask for all results at the end.

A program is on its way to a worker as soon as it is submitted. One that equals an earlier one of the stream, judged or
still in flight, is not judged again, and what is judged is remembered for everybody at once, so that an interruption
loses no more than what was running. A batch (`Verifier.verify_many`) is a stream whose programs all come at once.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from rlvr_cpp.verifier.cache import ResultCache
from rlvr_cpp.verifier.judge import judge, sandbox_failure
from rlvr_cpp.verifier.program import POLICY_VERSION, Program, check_program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.tiers.checker_program import check_testlib
from rlvr_cpp.verifier.toolchain.store import content_key
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_sandbox import Stopped, Stopper


class VerificationStream:
    """The programs of one `Verifier.stream`, their judging and their results. For one thread, except `stop`."""

    def __init__(
        self,
        workshop: Workshop,
        cache: ResultCache,
        pool: Callable[[], ThreadPoolExecutor],
        endings: Counter[str],
        deadline: float | None,
    ) -> None:
        """`pool` gives the threads that judge, or raises RuntimeError; `endings` counts the statuses given."""
        self.deadline = deadline
        self._stopper = Stopper()
        self._workshop = workshop.stopped_by(self._stopper)
        self._context = (dataclasses.astuple(workshop.toolchain), workshop.memory, POLICY_VERSION)
        self._cache = cache
        self._pool = pool
        self._endings = endings
        self._clock = _BusyClock()
        self._lock = threading.Lock()  # between `stop` and `close`
        self._closed = False
        self._given = False
        self._programs: list[Program] = []  # kept alive: a checker's address is part of its program's key
        self._keys: list[str] = []
        self._known: dict[str, VerifyResult] = {}
        self._judging: dict[str, Future[VerifyResult]] = {}

    @property
    def seconds(self) -> float:
        """Seconds on the clock, so far, during which at least one of the programs was being judged."""
        return self._clock.seconds

    def submit(self, program: Program) -> None:
        """Have a program judged, and return at once.

        Raises UserError for one that makes no sense, RuntimeError on a closed verifier or after `results`.
        """
        self.submit_many([program])

    def submit_many(self, programs: Iterable[Program]) -> None:
        """The same for many programs, for which the cache is asked once."""
        batch = list(programs)
        for program in batch:
            check_program(program)
            check_testlib(program, self._workshop)
        if self._given:
            raise RuntimeError("the stream has given its results: open another one")
        pool = self._pool()
        # A function has no content to address: it is told apart within the stream and never remembered.
        keys = [content_key(program.identity, *self._context) for program in batch]
        self._known |= self._cache.find(key for key in keys if key not in self._judging)
        self._programs += batch
        self._keys += keys
        known = self._known.keys() | self._judging.keys()
        new = {key: program for key, program in zip(keys, batch, strict=True) if key not in known}
        for program in new.values():
            self._workshop.announce(program)
        for key, program in new.items():
            self._judging[key] = pool.submit(self._judge, key, program)

    def results(self, on_result: Callable[[], None] = lambda: None) -> list[VerifyResult]:
        """Wait for all results and return them in the order of submission. The stream takes no more programs.

        `on_result` is called for each as it is known. What the deadline, counted from now, or a closing verifier has
        stopped is a `sandbox_error`. Raises RuntimeError where the results were given before.
        """
        if self._given:
            raise RuntimeError("the stream has given its results already")
        self._given = True
        judged = self._collect(on_result)
        fresh = set(judged)
        results = []
        for key in self._keys:
            result = self._known.get(key) or judged[key]
            results.append(result if key in fresh else dataclasses.replace(result, cache_hit=True))
            fresh.discard(key)
        self._endings.update(result.status for result in results)
        return results

    def known(self) -> list[VerifyResult | None]:
        """What is judged by now, in the order of submission; None for what is still on its way."""
        return [self._known.get(key) or self._outcome_of(key) for key in self._keys]

    def _outcome_of(self, key: str) -> VerifyResult | None:
        future = self._judging[key]
        return _outcome(future) if future.done() and not future.cancelled() else None

    def stop(self) -> None:
        """End what is running, now and from now on; any thread may ask for it, at any time."""
        with self._lock:
            if not self._closed:
                self._stopper.stop()

    def close(self) -> None:
        """End what is running and wait until nothing is left."""
        self.stop()
        for future in self._judging.values():
            future.cancel()
        wait(self._judging.values())
        with self._lock:
            self._closed = True
            self._stopper.close()

    def _judge(self, key: str, program: Program) -> VerifyResult:
        with self._clock:
            result = judge(program, self._workshop)
        if not callable(program.checker):
            self._cache.keep({key: result})
        return result

    def _collect(self, on_result: Callable[[], None]) -> dict[str, VerifyResult]:
        """The results of what was not known, by key."""
        end = None if self.deadline is None else time.monotonic() + self.deadline
        keys = {future: key for key, future in self._judging.items()}
        times = Counter(self._keys)
        for _ in range(sum(times[key] for key in self._known)):
            on_result()
        judged: dict[str, VerifyResult] = {}
        waiting = set(keys)
        while waiting:
            left = None if end is None else max(0.0, end - time.monotonic())
            done, waiting = wait(waiting, left, FIRST_COMPLETED)
            if not done:
                return judged | self._give_up({keys[future]: future for future in waiting})
            for future in done:
                judged[keys[future]] = _outcome(future)
                for _ in range(times[keys[future]]):
                    on_result()
        return judged

    def _give_up(self, late: dict[str, Future[VerifyResult]]) -> dict[str, VerifyResult]:
        self.stop()
        for future in late.values():
            future.cancel()
        return dict.fromkeys(late, sandbox_failure(f"the batch was not done after its {self.deadline} s"))


class _BusyClock:
    """Adds up the time during which at least one thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0
        self._sum = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._since = time.monotonic()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._sum += time.monotonic() - self._since

    @property
    def seconds(self) -> float:
        with self._lock:
            return self._sum + (time.monotonic() - self._since if self._inside else 0.0)


def _outcome(future: Future[VerifyResult]) -> VerifyResult:
    try:
        return future.result()
    except Stopped as error:
        return sandbox_failure(str(error))
