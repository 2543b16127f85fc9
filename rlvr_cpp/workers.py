"""Worker processes that judge programs, so that the training process only waits.

Each worker is a fresh interpreter that reads one JSON line a program and answers with one JSON line. It imports no
torch, so the processes that it starts in turn are cheap, and a user's script needs no `__main__` guard. A worker that
dies or falls silent is replaced and its program tried once more; after that the program is a `sandbox_error`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from rlvr_cpp.judge import Program, Toolchain, judge, sandbox_failure
from rlvr_cpp.result import VerifyResult

GRACE = 30.0  # seconds beyond two builds and two runs after which a worker counts as hung


class WorkerPool:
    """A fixed number of workers; each judges one program at a time."""

    def __init__(self, count: int) -> None:
        """Start `count` workers lazily: the first batch starts them."""
        self._closed = False
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="rlvr-verify")
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers = [_Worker() for _ in range(count)]
        for worker in self._workers:
            self._idle.put(worker)

    def judge_all(
        self, programs: Sequence[Program], toolchain: Toolchain, on_result: Callable[[], None]
    ) -> list[VerifyResult]:
        """Judge every program, in order; `on_result` is called in this thread as each one is done."""
        if self._closed:
            raise RuntimeError("the verifier was closed")
        pending = [self._threads.submit(self._judge, program, toolchain) for program in programs]
        for _ in as_completed(pending):
            on_result()
        return [future.result() for future in pending]

    def close(self) -> None:
        """End every worker and what it runs."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        self._threads.shutdown()

    def _judge(self, program: Program, toolchain: Toolchain) -> VerifyResult:
        worker = self._idle.get()
        try:
            try:
                return worker.judge(program, toolchain)
            except WorkerDied:
                return worker.judge(program, toolchain)
        except WorkerDied as error:
            return sandbox_failure(str(error))
        finally:
            self._idle.put(worker)


class WorkerDied(RuntimeError):
    """A worker ended or fell silent before it answered."""


class _Worker:
    """One worker process, started when it is first needed and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._starting = threading.Lock()

    def judge(self, program: Program, toolchain: Toolchain) -> VerifyResult:
        """Have one program judged. Raises WorkerDied where no answer comes."""
        request = json.dumps([dataclasses.asdict(program), dataclasses.asdict(toolchain)]).encode() + b"\n"
        process = self._running()
        try:
            answer = _exchange(process, request, 2 * (toolchain.timeout + toolchain.compile_timeout) + GRACE)
        except BaseException:
            self._end()  # an answer that comes later must not be taken for the next program's
            raise
        if not answer.endswith(b"\n"):
            raise WorkerDied(f"a verifier worker ended before it answered (exit status {self._end()})")
        return VerifyResult.from_json(answer.decode())

    def stop(self) -> None:
        """End the process for good. It kills what it runs when told to terminate, and is killed if it does not."""
        with self._starting:
            self._stopped = True
        self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        with self._starting:
            if self._stopped:
                raise WorkerDied("the verifier was closed")
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", "from rlvr_cpp.workers import main; main()"],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C in the terminal is for the trainer, which then stops its workers
                )
            return self._process

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # a request that the dead worker never read
                        pipe.close()


def _exchange(process: subprocess.Popen[bytes], request: bytes, seconds: float) -> bytes:
    """Send a line and read one back; empty where the process has ended. Raises WorkerDied where it falls silent."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except OSError as error:
        raise WorkerDied("a verifier worker took no program") from error
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(seconds):
            raise WorkerDied(f"a verifier worker fell silent for {seconds:.0f} s")
    return process.stdout.readline()


def main() -> None:
    """Answer requests until the input ends; a SIGTERM ends what is being run, too."""

    def terminate(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, terminate)
    for line in sys.stdin:
        program, toolchain = json.loads(line)
        toolchain["extra_flags"] = tuple(toolchain["extra_flags"])
        try:
            print(judge(Program(**program), Toolchain(**toolchain)).to_json(), flush=True)
        except BrokenPipeError:  # the trainer is gone
            os._exit(0)
