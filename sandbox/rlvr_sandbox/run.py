"""Run one command in one directory: its own process group, a literal environment, bounded time and output.

What is covered: the command and everything in its process group are killed when it ends, runs out of time or
(where asked) writes too much; it inherits no variable and no descriptor of ours; its output is read while it runs,
so a full pipe never blocks it.
What is not covered: files, network, memory, the number of processes, and a process that leaves the group (it is
bounded by its CPU limit alone). Nothing here uses `preexec_fn`, which would
cost a fork of the whole trainer.

A command's own failure is a `Finished`. Ours (no such compiler, no process to be had) is a `SandboxError`.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

OUTPUT_LIMIT = 64 * 1024
"""Bytes kept of stdout and of stderr, each. A marker is a line; more output is noise or an attack."""

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
READ_SIZE = 1 << 16


class SandboxError(RuntimeError):
    """The machinery failed, not the program: no verdict may be drawn from it."""


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    returncode: int
    """The exit status; minus the signal's number where a signal ended it."""
    stdout: bytes
    """At most `OUTPUT_LIMIT` bytes from the beginning."""
    stderr: bytes
    """At most `OUTPUT_LIMIT` bytes from the beginning."""
    timed_out: bool
    output_cut: bool
    """More than `OUTPUT_LIMIT` bytes came on one of the two."""
    seconds: float
    """Wall time."""


def run(command: Sequence[str], directory: Path, *, timeout: float, kill_at_output_limit: bool = False) -> Finished:
    """Run `command` in `directory`, which is also its HOME and TMPDIR, for at most `timeout` wall seconds.

    A command that writes more than `OUTPUT_LIMIT` bytes is killed, or read on and cut, as asked.
    Raises SandboxError where the command cannot be started.
    """
    start = time.monotonic()
    process = _start(command, directory)
    _limit_cpu(process.pid, timeout)
    stdout, stderr = _Pipe(process.stdout), _Pipe(process.stderr)
    timed_out = False
    try:
        for pipes in _reads_until_exit(process.pid, (stdout, stderr), deadline=start + timeout):
            if kill_at_output_limit and any(pipe.cut for pipe in pipes):
                break
    except TimeoutError:
        timed_out = True
    finally:
        _kill_group(process.pid)
        process.wait()
        stdout.drain()
        stderr.drain()
    return Finished(
        returncode=process.returncode,
        stdout=bytes(stdout.kept),
        stderr=bytes(stderr.kept),
        timed_out=timed_out,
        output_cut=stdout.cut or stderr.cut,
        seconds=time.monotonic() - start,
    )


def _start(command: Sequence[str], directory: Path) -> subprocess.Popen[bytes]:
    place = str(directory)
    try:
        return subprocess.Popen(
            command,
            cwd=place,
            env={**ENVIRONMENT, "HOME": place, "TMPDIR": place},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(f"cannot start {command[0]}: {error.strerror}") from error


def _limit_cpu(pid: int, timeout: float) -> None:
    """Bound the CPU seconds of each process of the command: what survives us must not run for ever."""
    seconds = math.ceil(timeout) * (os.cpu_count() or 1) + 1  # threads add up
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended already
        resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds))


class _Pipe:
    """One output of a process: read without blocking, kept up to `OUTPUT_LIMIT` bytes."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
        self.stream = stream
        self.kept = bytearray()
        self.cut = False

    def read(self) -> bytes | None:
        """Take one chunk: empty at the end of the stream, None where nothing has come yet."""
        try:
            chunk = os.read(self.stream.fileno(), READ_SIZE)
        except BlockingIOError:
            return None
        room = OUTPUT_LIMIT - len(self.kept)
        self.kept += chunk[:room]
        self.cut = self.cut or len(chunk) > room
        return chunk

    def drain(self) -> None:
        """Take what a dead process left behind, and close."""
        while self.read():
            pass
        self.stream.close()


def _reads_until_exit(pid: int, pipes: tuple[_Pipe, ...], deadline: float) -> Iterator[tuple[_Pipe, ...]]:
    """Read the pipes as they fill, giving them back after each read, until the process itself exits.

    The end of a pipe is not the end of the process, nor the other way round: a grandchild may hold a pipe open.
    Raises TimeoutError at the deadline.
    """
    exited = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(exited, selectors.EVENT_READ)
            for pipe in pipes:
                selector.register(pipe.stream, selectors.EVENT_READ, pipe)
            while True:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                for key, _ in ready:
                    if key.data is not None and key.data.read() == b"":
                        selector.unregister(key.fileobj)
                if any(key.fileobj == exited for key, _ in ready):
                    return
                if time.monotonic() >= deadline:
                    raise TimeoutError
                yield pipes
    finally:
        os.close(exited)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
