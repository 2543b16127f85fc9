"""Run commands that nobody trusts, each in a jail of its own, and report how they ended.

The launcher does the isolation (`launcher.c`); this file starts it, feeds and reads the pipes while the commands run,
and ends them: at the output limit, when a companion is done, or when the caller says so. A command's own failure is a
`Finished`. Ours (no launcher, no process to be had, a launcher that was killed) is a `SandboxError`.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rlvr_sandbox.controls import Controls
from rlvr_sandbox.errors import SandboxError, Stopped
from rlvr_sandbox.launcher import launcher

OUTPUT_LIMIT = 64 * 1024
"""Bytes kept of stdout and of stderr, each. A verdict is a line; more output is noise or an attack."""
OVERDUE = 10.0  # seconds after its own wall limit at which a launcher counts as hung
READ_SIZE = 1 << 16
SLACK = 64 << 20  # bytes of address space beyond the memory of a run: who uses them up has too much memory by then
STACKS = 4 << 30  # bytes of address space that threads may reserve for stacks they do not touch
ENDINGS = {"e": "exit", "s": "signal", "w": "wall", "c": "cpu", "m": "memory", "k": "killed"}


@dataclass(frozen=True)
class Limits:
    """What a command may use. Every limit is hard."""

    cpu: float
    """CPU seconds of the command; its children have as many each."""
    wall: float
    """Seconds on the clock."""
    memory: int = 1 << 30
    """Bytes of all its processes together. Where the host has no memory cgroup they are added up every 20 ms, and the
    address space of each is bounded as well."""
    file_size: int = 1 << 26
    """Bytes of each file it writes."""
    processes: int = 64
    """Processes and threads."""
    open_files: int = 256
    output: int = OUTPUT_LIMIT
    """Bytes kept of stdout and of stderr, each."""
    errors: int | None = None
    """Bytes that may come on stderr, where what is not kept of them is nobody's concern; None is `output`."""
    stack: int = 64 << 20
    """Bytes of the stack, and of that of each thread which asks for no other."""
    nice: int = 0
    """How far it steps back for whatever else wants a core, up to 19. Not for what has little time on the clock."""


@dataclass(frozen=True)
class Command:
    """What to run and what it sees."""

    argv: tuple[str, ...]
    """The path of the program, as it is inside, and its arguments."""
    directory: Path
    """A folder of the host that is the working directory (`/work` where the host has mount namespaces)."""
    limits: Limits
    readable: tuple[str, ...] = ()
    """Files and folders of the host that are there under their own names, read-only. Links are shown as links."""
    writable: bool = False
    """It may write into its directory."""
    proc: bool = False
    """It gets a private /proc, if the host can give one."""
    bounded_address_space: bool = True
    """`limits.memory` may bound its address space. Sanitizers reserve terabytes and must not be bounded so."""
    stdin: bytes = b""
    descriptors: tuple[tuple[int, int], ...] = ()
    """Pairs of a descriptor of ours and the number that it gets; every other one is closed. Ours is taken over: it is
    closed here once the command has it, so that the other end of a pipe sees its end."""
    kill_at_output_limit: bool = False
    """Kill it when it writes more than it may, instead of reading on and cutting."""


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    ended: str
    """`exit`, `signal`, `cpu`, `wall` (a clock ran out), `memory`, `output`, or `killed` (by the caller)."""
    returncode: int
    """The exit status; minus the signal's number where a signal ended it; -9 where we did."""
    stdout: bytes = b""
    stderr: bytes = b""
    output_cut: bool = False
    """More came on one of the two than may come."""
    seconds: float = 0.0
    """Wall time of the command itself."""
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    """Bytes, of its largest process."""


class Stopper:
    """Ends running commands from another thread."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0)

    def stop(self) -> None:
        """End every command that listens, now and from now on."""
        os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)


def run(command: Command, controls: Controls, stopper: Stopper | None = None) -> Finished:
    """Run one command to its end. Raises SandboxError where the sandbox failed, Stopped where `stopper` ended it."""
    return run_together([command], controls, stopper=stopper)[0]


def run_together(
    commands: Sequence[Command],
    controls: Controls,
    *,
    grace: Callable[[int, Finished], float] = lambda place, ended: 1.0 if place == 0 else math.inf,
    stopper: Stopper | None = None,
) -> list[Finished]:
    """Run commands that talk to each other; when one is done the others have `grace(place, ended)` seconds left.

    `place` is that of the command that is done, whose end is `ended`; without a limit it is `math.inf`.
    """
    running: list[_Running] = []
    try:
        try:
            for command in commands:
                running.append(_Running(command, controls))
        finally:
            for descriptor in {ours for command in commands for ours, _ in command.descriptors}:
                os.close(descriptor)
        _attend(running, grace, stopper)
    finally:
        for one in running:
            one.end()
    return [one.finished() for one in running]


class _Pipe:
    """One output: read without blocking, kept up to a limit."""

    def __init__(self, stream: IO[bytes], limit: int, bearable: int | None = None) -> None:
        """More than `bearable` bytes, or else than are kept, are a flood."""
        os.set_blocking(stream.fileno(), False)
        self.stream = stream
        self.limit = limit
        self.kept = bytearray()
        self.left = limit if bearable is None else bearable

    @property
    def cut(self) -> bool:
        """It was flooded."""
        return self.left < 0

    def read(self) -> bool:
        """Take one chunk; False at the end of the stream."""
        try:
            return self._take()
        except BlockingIOError:
            return True

    def drain(self) -> None:
        """Take what a dead process left behind, and close. Nobody is left who could write."""
        with contextlib.suppress(BlockingIOError):
            while self._take():
                pass
        self.stream.close()

    def _take(self) -> bool:
        chunk = os.read(self.stream.fileno(), READ_SIZE)
        self.kept += chunk[: self.limit - len(self.kept)]
        self.left -= len(chunk)
        return bool(chunk)


class _Running:
    """One launcher and its pipes."""

    def __init__(self, command: Command, controls: Controls) -> None:
        self.command = command
        self.cgroups = controls.cgroups()
        self.deadline = time.monotonic() + command.limits.wall + OVERDUE
        self.over = False
        self.killed_for: str | None = None
        status, status_end = os.pipe()
        lifeline_end, self.lifeline = os.pipe()
        stdin = os.memfd_create("stdin") if command.stdin else os.open(os.devnull, os.O_RDONLY)
        try:
            if command.stdin:
                os.write(stdin, command.stdin)
                os.fchmod(stdin, 0)  # read once: nobody opens it again by a path such as /dev/stdin
                os.lseek(stdin, 0, os.SEEK_SET)
            self.process = subprocess.Popen(
                [launcher(), *_options(command, controls, self.cgroups, status_end, lifeline_end), "--", *command.argv],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={},
                pass_fds=(status_end, lifeline_end, *(ours for ours, _ in command.descriptors)),
                start_new_session=True,
            )
        except OSError as error:
            os.close(status)
            os.close(self.lifeline)
            raise SandboxError(f"cannot start the launcher: {error.strerror}") from error
        finally:
            for descriptor in (status_end, lifeline_end, stdin):
                os.close(descriptor)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.status = _Pipe(os.fdopen(status, "rb"), OUTPUT_LIMIT)
        limits = command.limits
        self.outputs = [
            _Pipe(self.process.stdout, limits.output),
            _Pipe(self.process.stderr, limits.output, limits.errors),
        ]

    def kill(self, reason: str) -> None:
        """Have the launcher kill what it runs; it still reports."""
        if self.lifeline >= 0:
            self.killed_for = reason
            os.close(self.lifeline)
            self.lifeline = -1

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        self.kill("killed")
        try:
            self.process.wait(None if self.over else OVERDUE)  # with a limit, Python polls
        except subprocess.TimeoutExpired:
            self.process.kill()  # its end is the end of the keeper, which is the end of the program
            self.process.wait()
        for pipe in (self.status, *self.outputs):
            pipe.drain()
        for folder in filter(None, self.cgroups):
            _remove_cgroup(folder)

    def finished(self) -> Finished:
        """The launcher's report. Raises SandboxError where it made none."""
        words = bytes(self.status.kept).split(b"\n")[0].decode(errors="replace").split(" ", 1)
        if words[0] != "ended":
            reason = words[1] if len(words) > 1 else f"the launcher ended without a word ({self.process.returncode})"
            raise SandboxError(f"sandbox: {reason}")
        by, value, cpu, wall, peak, out_of_memory = words[1].split()
        ended = self.killed_for if by == "k" and self.killed_for else ENDINGS[by]
        if int(out_of_memory) and ended != "killed":
            ended = "memory"
        elif ended == "exit" and self.killed_for == "output":
            ended = "output"
        return Finished(
            ended=ended,
            returncode={"e": int(value), "s": -int(value)}.get(by, -signal.SIGKILL),
            stdout=bytes(self.outputs[0].kept),
            stderr=bytes(self.outputs[1].kept),
            output_cut=any(pipe.cut for pipe in self.outputs),
            seconds=int(wall) / 1e6,
            cpu_seconds=int(cpu) / 1e6,
            peak_memory=int(peak) * 1024,
        )


def _options(
    command: Command, controls: Controls, cgroups: tuple[str | None, str | None], status: int, lifeline: int
) -> list[str]:
    limits, (memory, pids) = command.limits, cgroups
    account = _account(command, controls)
    values = {
        "--work-rw" if command.writable else "--work": str(command.directory),
        "--wall-ms": str(round(limits.wall * 1000)),
        "--cpu-ms": str(round(limits.cpu * 1000)),
        "--memory": str(limits.memory),
        "--file-size": str(limits.file_size),
        "--processes": str(limits.processes),
        "--open-files": str(limits.open_files),
        "--nice": str(limits.nice),
        "--stack": str(limits.stack),
        "--account": str(account),
        "--group": str(command.directory.stat().st_gid or account),
        "--status": str(status),
        "--lifeline": str(lifeline),
    }
    if memory:
        values["--memory-cgroup"] = memory
    elif command.bounded_address_space:
        values["--address-space"] = str(limits.memory + SLACK)
    if command.bounded_address_space:
        values["--data-size"] = str(limits.memory + STACKS)
    if pids:
        values["--pids-cgroup"] = pids
    options = [word for pair in values.items() for word in pair]
    for path in command.readable:
        options += ["--read", path]
    for ours, theirs in command.descriptors:
        options += ["--fd", f"{ours}:{theirs}"]
    for variable in _environment(command, controls):
        options += ["--env", variable]
    return options + (controls if command.proc else controls.without("proc")).options()


def _account(command: Command, controls: Controls) -> int:
    """The user that root becomes: the owner of what it may write, or else one that no other run has.

    Its group is that of the folder, which may be closed to everybody else.
    """
    owner = command.directory.stat().st_uid if command.writable else 0
    return owner or controls.account()


def _environment(command: Command, controls: Controls) -> tuple[str, ...]:
    """The whole environment: nothing of ours is inherited."""
    place = "/work" if "mount" in controls.names else str(command.directory)
    return ("PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", f"TMPDIR={place}")


def _attend(running: Sequence[_Running], grace: Callable[[int, Finished], float], stopper: Stopper | None) -> None:
    """Read what comes until every launcher has reported and closed its status."""
    with selectors.DefaultSelector() as selector:
        for one in running:
            selector.register(one.status.stream, selectors.EVENT_READ, (one, one.status))
            for pipe in one.outputs:
                selector.register(pipe.stream, selectors.EVENT_READ, (one, pipe))
        if stopper is not None:
            selector.register(stopper.descriptor, selectors.EVENT_READ, None)
        last_call = float("inf")
        while not all(one.over for one in running):
            now = time.monotonic()
            if now >= last_call:
                for one in running:
                    one.kill("killed")
                last_call = float("inf")
            wait = min(last_call, *(one.deadline for one in running if not one.over)) - now
            if wait <= 0:
                raise SandboxError("sandbox: the launcher hung")
            for key, _ in selector.select(wait):
                if key.data is None:
                    raise Stopped("the run was stopped")
                one, pipe = key.data
                if pipe.read():
                    _enforce_output_limit(one, pipe)
                    continue
                selector.unregister(key.fileobj)
                if pipe is one.status:
                    one.over = True
                    if len(running) > 1:
                        last_call = min(last_call, time.monotonic() + grace(running.index(one), one.finished()))


def _enforce_output_limit(one: _Running, pipe: _Pipe) -> None:
    if pipe.cut and one.command.kill_at_output_limit:
        one.kill("output")


def _remove_cgroup(folder: str) -> None:
    """The launcher has removed it, unless it was killed itself; then its processes take a moment to die after it."""
    deadline = time.monotonic() + OVERDUE
    while time.monotonic() < deadline:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            _kill_all_in(folder)
            time.sleep(0.002)
        else:
            return


def _kill_all_in(folder: str) -> None:
    with contextlib.suppress(OSError):
        for pid in Path(folder, "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
