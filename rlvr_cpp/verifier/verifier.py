"""Judge C++ with a real compiler: `verify_cpp` for one program, `Verifier` for batches.

A program is a candidate and, where the task has them, tests. It is compiled once, inside the sandbox, and run there.
Everything that a trainer may want to know about that is in the `VerifyResult`, plain data. The work is done by child
processes that the sandbox starts, so threads that wait for them are enough: nothing is forked from the trainer, and
its memory does not matter. Infrastructure trouble (no process, no disk, a killed launcher) is tried once more and then
reported as `sandbox_error`; it is never a score.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from types import TracebackType

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.cache import DiskCache, MemoryCache, ResultCache
from rlvr_cpp.verifier.judge import judge, prepare
from rlvr_cpp.verifier.program import Program, check_program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.settings import VerifierSettings
from rlvr_cpp.verifier.stream import VerificationStream
from rlvr_cpp.verifier.think import strip_think_blocks
from rlvr_cpp.verifier.tiers.checker_program import check_testlib
from rlvr_cpp.verifier.toolchain.toolchain import Toolchain, make_toolchain
from rlvr_cpp.verifier.toolchain.workshop import PROGRAM_MEMORY, Workshop
from rlvr_sandbox import Controls, SandboxError, describe, missing_controls, require_controls

LOG = logging.getLogger(__name__)


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
    declaration: str | None = None,
    require: str | Sequence[str] = "any",
) -> VerifyResult:
    """Compile `code` and put it to the tests of `test_code`, both in the sandbox.

    `code` is one text or a mapping of file names to texts. `test_code` prints `PASSED n/m` as its last line and exits
    with 0 on a full pass only, or is a `main` of assertions. It is run in a process of its own where that is possible,
    which `tier` tells. `declaration` is C++ that declares what the test calls (`int f(int);`, or a task's prompt), for
    tests that do not declare it themselves: without it the candidate may propose plain types, and others are a
    `compile_error`. `timeout` is in CPU seconds of the run, `compile_timeout` of the build; each may take twice as
    long and a second on the clock. `tests_declared` is the number of tests there are (at most 1000): a verdict about
    any other number is `forged`. `hidden_test_code` holds more tests of the same kind. Without tests the program is
    judged by its own exit status, and one without a `main` only compiled. `require` is the isolation that the host must
    give, see `rlvr_sandbox.require_controls`. Raises UserError where the compiler is missing, the host cannot give
    what is required or an argument makes no sense; whatever the candidate does is in the result.
    """
    workshop = shared_workshop(make_toolchain(compiler, extra_flags, timeout, compile_timeout), _controls(require))
    program = Program(
        code,
        test_code or None,
        tests_declared,
        std,
        declaration=declaration or None,
        hidden_test=hidden_test_code or None,
    )
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
        testlib: str | None = None,
    ) -> None:
        """`workers` defaults to one more than there are cores, which fills the gaps between a build and its run.

        `memory` is in bytes, `cache` is a file that processes may share, `testlib` the folder that holds testlib.h.

        Raises UserError where the compiler is missing, the host cannot give what is required or a value makes no sense.
        """
        if workers is not None and workers < 1:
            raise UserError(f"workers is {workers}: it must be at least 1")
        if memory < 16 << 20:
            raise UserError(f"memory is {memory}: it must be at least {16 << 20} bytes")
        self.toolchain = make_toolchain(compiler, extra_flags, timeout, compile_timeout, testlib)
        self.workers = workers or available_cores() + 1
        self.endings: Counter[str] = Counter()
        """How often each status was given, cached ones included."""
        self.workshop = shared_workshop(self.toolchain, _controls(require), memory)
        self._cache: ResultCache = DiskCache(Path(cache)) if cache is not None else MemoryCache()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_owner = 0
        self._closed = False
        self._streams: set[VerificationStream] = set()

    @property
    def version(self) -> str:
        """The first line of the compiler's `--version`."""
        return self.toolchain.version

    def __enter__(self) -> Verifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what is running, then the threads."""
        self._closed = True
        for stream in tuple(self._streams):
            stream.stop()
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

    def check_testlib(self, programs: Iterable[Program]) -> None:
        """Raise UserError where outputs of a program are judged by one that includes a testlib which is not there."""
        for program in programs:
            check_testlib(program, self.workshop)

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
        with self.stream(deadline) as stream:
            return _all_results(stream, programs, on_result)

    async def verify_many_async(
        self, programs: Iterable[Program], *, deadline: float | None = None
    ) -> list[VerifyResult]:
        """The same for an event loop; cancelling it ends what it runs before it returns."""
        batch = list(programs)
        with self.stream(deadline) as stream, ThreadPoolExecutor(1, thread_name_prefix="rlvr-batch") as thread:
            work = asyncio.wrap_future(thread.submit(_all_results, stream, batch))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                stream.stop()
                await asyncio.wait([work])
                work.exception()
                raise

    @contextlib.contextmanager
    def stream(self, deadline: float | None = None) -> Iterator[VerificationStream]:
        """Judge programs that come one by one: `submit` each, then ask for the `results`.

        Each is bounded by the toolchain's limits; `deadline`, in seconds, bounds the wait for the results. Leaving the
        context ends what is still running. Raises RuntimeError on a closed verifier.
        """
        self._threads()
        stream = VerificationStream(self.workshop, self._cache, self._threads, self.endings, deadline)
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            stream.close()

    def prepare(self, programs: Iterable[Program]) -> None:
        """Have built, one after the other and in the background, what judging answers to these programs' tasks takes.

        For the time in which nothing is judged. Raises RuntimeError on a closed verifier.
        """
        self._threads().submit(self._prepare, list(programs))

    def _prepare(self, programs: Sequence[Program]) -> None:
        for program in programs:
            if not self._closed:
                prepare(program, self.workshop)

    def _threads(self) -> ThreadPoolExecutor:
        """The pool of this process: threads do not survive a fork. Raises RuntimeError on a closed verifier."""
        if self._closed:
            raise RuntimeError("the verifier was closed")
        if self._pool is None or self._pool_owner != os.getpid():
            self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="rlvr-verify")
            self._pool_owner = os.getpid()
        return self._pool


def _all_results(
    stream: VerificationStream, programs: Iterable[Program], on_result: Callable[[], None] = lambda: None
) -> list[VerifyResult]:
    stream.submit_many(programs)
    return stream.results(on_result)


def _without_thoughts(program: Program) -> Program:
    if not isinstance(program.code, str):
        return program
    return dataclasses.replace(program, code=strip_think_blocks(program.code))


def _controls(require: str | Sequence[str]) -> Controls:
    try:
        controls = require_controls(require)
    except SandboxError as error:
        raise UserError(str(error)) from error
    _say_what_is_missing(controls.names)
    return controls


@cache
def _say_what_is_missing(names: tuple[str, ...]) -> None:
    """Once in a process: nobody reads `isolation` in every result."""
    if missing_controls(names):
        LOG.warning("this host gives %s: `python -m rlvr_sandbox doctor` says what holds instead", describe(names))


@lru_cache(maxsize=16)
def shared_workshop(toolchain: Toolchain, controls: Controls, memory: int = PROGRAM_MEMORY) -> Workshop:
    """One workshop for all who ask for the same: what it learned about headers and harnesses is worth keeping."""
    return Workshop(toolchain, controls, memory)


def available_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def open_verifier(settings: VerifierSettings, require: str, sharing: int = 1) -> Verifier:
    """A verifier for one of `sharing` processes on this machine, which share its cores.

    Raises UserError where the compiler or the required isolation is missing.
    """
    return Verifier(
        compiler=settings.compiler,
        timeout=settings.timeout,
        compile_timeout=settings.compile_timeout,
        extra_flags=settings.extra_flags,
        workers=settings.workers or max(1, available_cores() // sharing) + 1,
        cache=settings.cache,
        testlib=settings.testlib,
        require=require,
    )
