"""Judge C++ with a real compiler: `verify_cpp` for one program, `Verifier` for batches in worker processes.

A program is a candidate and, where the task has tests, a harness that prints `PASSED n/m`. It is compiled once and
run once. Everything that a trainer may want to know about that is in the `VerifyResult`, plain data. Infrastructure
trouble (no process, no disk, a dead worker) is tried once more and then reported as `sandbox_error`; it is never a
score.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from rlvr_cpp.errors import UserError
from rlvr_cpp.judge import Program, check_program, compiler_version, judge, make_toolchain
from rlvr_cpp.result import VerifyResult
from rlvr_cpp.think import strip_think_blocks
from rlvr_cpp.workers import WorkerPool

CACHE_SIZE = 10_000  # results; most are some hundred bytes, with a flood of output up to 200 KB
NOT_REMEMBERED = (
    "timeout",
    "compile_limit",
    "sandbox_error",
)  # another try may end otherwise


def verify_cpp(
    code: str,
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
) -> VerifyResult:
    """Compile `code`, link it with the harness `test_code`, run it, and read the verdict.

    The harness is compiled after the candidate in one translation unit, prints `PASSED n/m` as its last line and
    exits with 0 on a full pass only. `timeout` is in wall seconds of the run, `compile_timeout` of the build.
    `tests_declared` is the number of tests the harness has (at most 1000): a verdict about any other number is
    `forged`. Without `test_code` the program is judged by its own exit status, and one without a `main` only
    compiled. Raises UserError where the compiler is missing or an argument makes no sense; whatever the candidate
    does is in the result.
    """
    toolchain = make_toolchain(compiler, extra_flags, timeout, compile_timeout)
    program = Program(code, test_code or None, tests_declared, std)
    check_program(program)
    if strip_think:
        program = dataclasses.replace(program, code=strip_think_blocks(code))
    result = judge(program, toolchain)
    return result if return_structured else dataclasses.replace(result, error_class=None, diagnostics=())


class Verifier:
    """Judges batches of programs in worker processes and remembers what it has judged.

    Equal programs are judged once. Results that depend on the machine's mood (timeouts, infrastructure failures)
    are not remembered. Use it as a context manager: leaving it ends the workers and whatever they run.
    """

    def __init__(
        self,
        *,
        compiler: str = "g++",
        timeout: float = 10.0,
        compile_timeout: float = 30.0,
        extra_flags: Sequence[str] = (),
        workers: int | None = None,
    ) -> None:
        """`workers` defaults to the number of cores. Raises UserError where the compiler is missing."""
        if workers is not None and workers < 1:
            raise UserError(f"workers is {workers}: it must be at least 1")
        self.toolchain = make_toolchain(compiler, extra_flags, timeout, compile_timeout)
        self.version = compiler_version(self.toolchain.compiler)
        self._pool = WorkerPool(workers or available_cores())
        self._cache: dict[str, VerifyResult] = {}
        self._cache_lock = threading.Lock()

    def __enter__(self) -> Verifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

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

    def verify_many(
        self, programs: Iterable[Program], on_result: Callable[[], None] = lambda: None
    ) -> list[VerifyResult]:
        """Judge every program and return the results in order; `on_result` is called as each is known."""
        batch = list(programs)
        for program in batch:
            check_program(program)
        keys = [self._key(program) for program in batch]
        known = self._recall(keys)
        fresh = {key: program for key, program in zip(keys, batch, strict=True) if key not in known}
        for _ in range(len(batch) - len(fresh)):
            on_result()
        judged = dict(zip(fresh, self._pool.judge_all(list(fresh.values()), self.toolchain, on_result), strict=True))
        self._remember(judged)
        results = []
        for key in keys:
            if key in fresh:
                del fresh[key]
                results.append(judged[key])
            else:
                results.append(dataclasses.replace(known.get(key) or judged[key], cache_hit=True))
        return results

    def _recall(self, keys: Iterable[str]) -> dict[str, VerifyResult]:
        with self._cache_lock:
            return {key: self._cache[key] for key in keys if key in self._cache}

    def _remember(self, judged: dict[str, VerifyResult]) -> None:
        with self._cache_lock:
            self._cache.update({key: r for key, r in judged.items() if r.status not in NOT_REMEMBERED})
            while len(self._cache) > CACHE_SIZE:
                del self._cache[next(iter(self._cache))]

    def _key(self, program: Program) -> str:
        parts = (dataclasses.astuple(program), dataclasses.astuple(self.toolchain), self.version)
        return hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()


def available_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))
