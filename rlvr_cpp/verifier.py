"""Judge C++ with a real compiler: `verify_cpp` for one program, `Verifier` for batches.

A program is a candidate and, where the task has them, tests. It is compiled once, inside the sandbox, and run there.
Everything that a trainer may want to know about that is in the `VerifyResult`, plain data. The work is done by child
processes that the sandbox starts, so threads that wait for them are enough: nothing is forked from the trainer, and
its memory does not matter. Infrastructure trouble (no process, no disk, a killed launcher) is tried once more and then
reported as `sandbox_error`; it is never a score.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from rlvr_cpp.cache import DiskCache, MemoryCache, ResultCache
from rlvr_cpp.errors import UserError
from rlvr_cpp.judge import judge, sandbox_failure
from rlvr_cpp.program import Program, check_program
from rlvr_cpp.result import CHEATS, VerifyResult
from rlvr_cpp.store import content_key
from rlvr_cpp.think import strip_think_blocks
from rlvr_cpp.toolchain import Toolchain, make_toolchain
from rlvr_cpp.workshop import PROGRAM_MEMORY, Workshop
from rlvr_sandbox import Controls, SandboxError, Stopped, Stopper, require_controls

POLICY_VERSION = 1
"""Raised when the same program may be judged otherwise than before, so that old cached verdicts are not believed."""


def verify_cpp(
    code: str | Mapping[str, str],
    test_code: str | None = None,
    timeout: float = 10.0,
    std: str = "c++17",
    extra_flags: Sequence[str] = (),
    return_structured: bool = False,
    strip_think: bool = True,
    *,
    compiler: str = "g++",
    compile_timeout: float = 30.0,
    tests_declared: int | None = None,
    hidden_test_code: str | None = None,
    require: str | Sequence[str] = "any",
) -> VerifyResult:
    """Compile `code` and put it to the tests of `test_code`, both in the sandbox.

    `code` is one text or a mapping of file names to texts. `test_code` prints `PASSED n/m` as its last line and exits
    with 0 on a full pass only, or is a `main` of assertions. It is run in a process of its own where that is possible,
    which `tier` tells. `timeout` is in CPU seconds of the run, `compile_timeout` of the build; each may take twice as
    long and a second on the clock. `tests_declared` is the number of tests there are (at most 1000): a verdict about
    any other number is `forged`. `hidden_test_code` holds more tests of the same kind. Without tests the program is
    judged by its own exit status, and one without a `main` only compiled. `require` is the isolation that the host must
    give, see `rlvr_sandbox.require_controls`. Raises UserError where the compiler is missing, the host cannot give
    what is required or an argument makes no sense; whatever the candidate does is in the result.
    """
    workshop = shared_workshop(make_toolchain(compiler, extra_flags, timeout, compile_timeout), _controls(require))
    program = Program(code, test_code or None, tests_declared, std, hidden_test=hidden_test_code or None)
    check_program(program)
    result = judge(_without_thoughts(program) if strip_think else program, workshop)
    return result if return_structured else dataclasses.replace(result, error_class=None, diagnostics=())


class Verifier:
    """Judges batches of programs, several at a time, and remembers what it has judged.

    Equal programs are judged once. Use it as a context manager: leaving it ends whatever is running.
    """

    def __init__(
        self,
        *,
        compiler: str = "g++",
        timeout: float = 10.0,
        compile_timeout: float = 30.0,
        extra_flags: Sequence[str] = (),
        workers: int | None = None,
        memory: int = PROGRAM_MEMORY,
        require: str | Sequence[str] = "any",
        cache: str | Path | None = None,
    ) -> None:
        """`workers` defaults to one more than there are cores, which fills the gaps between a build and its run.

        `memory` is in bytes, `cache` is a file that processes may share.

        Raises UserError where the compiler is missing, the host cannot give what is required or a value makes no sense.
        """
        if workers is not None and workers < 1:
            raise UserError(f"workers is {workers}: it must be at least 1")
        if memory < 16 << 20:
            raise UserError(f"memory is {memory}: it must be at least {16 << 20} bytes")
        self.toolchain = make_toolchain(compiler, extra_flags, timeout, compile_timeout)
        self.workers = workers or available_cores() + 1
        self.endings: Counter[str] = Counter()
        """How often each status was given, cached ones included."""
        self.workshop = shared_workshop(self.toolchain, _controls(require), memory)
        self._cache: ResultCache = DiskCache(Path(cache)) if cache is not None else MemoryCache()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_owner = 0
        self._closed = False
        self._running: set[Stopper] = set()

    @property
    def version(self) -> str:
        """The first line of the compiler's `--version`."""
        return self.toolchain.version

    @property
    def forged_rate(self) -> float:
        """The share of all verdicts so far that were forged, ambiguous or against the policy: reward hacking."""
        cheats = sum(self.endings[status] for status in CHEATS)
        return cheats / max(1, self.endings.total())

    def __enter__(self) -> Verifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what is running, then the threads."""
        self._closed = True
        for stopper in tuple(self._running):
            stopper.stop()
        if self._pool is not None and self._pool_owner == os.getpid():
            self._pool.shutdown()
        self._cache.close()

    def check(self, standards: Iterable[str]) -> None:
        """Judge a program that must pass and one that must fail, in each standard.

        Raises UserError where this compiler, with these flags, does not tell them apart.
        """
        for std in sorted(set(standards)):
            good, bad = self.verify_many(
                [Program("int main() {}", std=std), Program("int main() { return x; }", std=std)]
            )
            if good.status != "ok" or bad.status != "compile_error":
                raise UserError(
                    f"{self.toolchain.compiler} -std={std} {' '.join(self.toolchain.extra_flags)} does not judge an "
                    f"empty program as it should: {good.stderr.strip() or good.status}"
                )

    def verify(self, program: Program) -> VerifyResult:
        """Judge one program."""
        return self.verify_many([program])[0]

    def verify_many(
        self,
        programs: Iterable[Program],
        on_result: Callable[[], None] = lambda: None,
        *,
        deadline: float | None = None,
    ) -> list[VerifyResult]:
        """Judge every program and return the results in order; `on_result` is called as each is known.

        Each is bounded by the toolchain's limits. `deadline` bounds the batch, in seconds: what is not done by then is
        stopped and is a `sandbox_error`. Raises UserError for a program that makes no sense, RuntimeError on a closed
        verifier.
        """
        stopper = Stopper()
        try:
            return self._verify_many(list(programs), on_result, stopper, deadline)
        finally:
            stopper.close()

    async def verify_many_async(
        self, programs: Iterable[Program], *, deadline: float | None = None
    ) -> list[VerifyResult]:
        """The same for an event loop; cancelling it ends what it runs before it returns."""
        batch, stopper = list(programs), Stopper()
        with ThreadPoolExecutor(1, thread_name_prefix="rlvr-batch") as thread:
            work = asyncio.wrap_future(thread.submit(self._verify_many, batch, lambda: None, stopper, deadline))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                stopper.stop()
                await asyncio.wait([work])
                work.exception()
                raise
            finally:
                stopper.close()

    def _verify_many(
        self, batch: list[Program], on_result: Callable[[], None], stopper: Stopper, deadline: float | None
    ) -> list[VerifyResult]:
        for program in batch:
            check_program(program)
        keys = [self._key(program) for program in batch]
        known = self._cache.find(keys)
        fresh = {key: program for key, program in zip(keys, batch, strict=True) if key not in known}
        for _ in range(len(batch) - len(fresh)):
            on_result()
        judged = self._judge_all(fresh, on_result, stopper, deadline)
        self._cache.keep({key: result for key, result in judged.items() if not callable(fresh[key].checker)})
        results = []
        for key in keys:
            first = fresh.pop(key, None) is not None
            result = judged[key] if first else dataclasses.replace(known.get(key) or judged[key], cache_hit=True)
            results.append(result)
        self.endings.update(result.status for result in results)
        return results

    def _judge_all(
        self, fresh: Mapping[str, Program], on_result: Callable[[], None], stopper: Stopper, deadline: float | None
    ) -> dict[str, VerifyResult]:
        if self._closed:
            raise RuntimeError("the verifier was closed")
        if not fresh:
            return {}
        workshop = self.workshop.stopped_by(stopper)
        self._running.add(stopper)
        pending: dict[Future[VerifyResult], str] = {}
        try:
            pool = self._threads()
            pending = {pool.submit(judge, program, workshop): key for key, program in fresh.items()}
            return _collect(pending, on_result, stopper, deadline)
        finally:
            stopper.stop()  # whatever interrupted us, nobody is left behind
            for future in pending:
                future.cancel()
            wait(pending)
            self._running.discard(stopper)

    def _threads(self) -> ThreadPoolExecutor:
        """The pool of this process: threads do not survive a fork."""
        if self._pool is None or self._pool_owner != os.getpid():
            self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="rlvr-verify")
            self._pool_owner = os.getpid()
        return self._pool

    def _key(self, program: Program) -> str:
        # A function has no content to address: it is told apart within the batch and never remembered.
        parts = (program.identity, dataclasses.astuple(self.toolchain), self.workshop.memory, POLICY_VERSION)
        return content_key(*parts)


def _collect(
    pending: Mapping[Future[VerifyResult], str],
    on_result: Callable[[], None],
    stopper: Stopper,
    deadline: float | None,
) -> dict[str, VerifyResult]:
    end = None if deadline is None else time.monotonic() + deadline
    waiting = set(pending)
    results: dict[str, VerifyResult] = {}
    while waiting:
        left = None if end is None else max(0.0, end - time.monotonic())
        done, waiting = wait(waiting, left, FIRST_COMPLETED)
        if not done:
            stopper.stop()
            late = sandbox_failure(f"the batch was not done after its {deadline} s")
            for future in waiting:
                future.cancel()
            results |= {pending[future]: late for future in waiting}
            return results
        for future in done:
            results[pending[future]] = _outcome(future)
            on_result()
    return results


def _outcome(future: Future[VerifyResult]) -> VerifyResult:
    try:
        return future.result()
    except Stopped as error:
        return sandbox_failure(str(error))


def _without_thoughts(program: Program) -> Program:
    if not isinstance(program.code, str):
        return program
    return dataclasses.replace(program, code=strip_think_blocks(program.code))


def _controls(require: str | Sequence[str]) -> Controls:
    try:
        return require_controls(require)
    except SandboxError as error:
        raise UserError(str(error)) from error


@lru_cache(maxsize=16)
def shared_workshop(toolchain: Toolchain, controls: Controls, memory: int = PROGRAM_MEMORY) -> Workshop:
    """One workshop for all who ask for the same: what it learned about headers and harnesses is worth keeping."""
    return Workshop(toolchain, controls, memory)


def available_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))
