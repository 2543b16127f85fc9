"""Which isolation this host can give: found by trying each control once, never assumed.

A container may lack user namespaces, a laptop may lack a writable cgroup. What works is used and named in every
result; what a caller requires and the host lacks is an error, not a silent fallback. What to do about what is missing
depends on the host, so `remedies.py` says it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path

from rlvr_sandbox.errors import SandboxError
from rlvr_sandbox.launcher import launcher
from rlvr_sandbox.remedies import remedy

WHAT_IT_STOPS = {
    "limits": "endless loops, huge files, core files, thousands of open files (setrlimit, hard limits)",
    "drop": "anything done as root: an unprivileged user, another one for each run, runs the program",
    "user": "capabilities and setuid programs (user namespace)",
    "pid": "seeing or killing other processes, and outliving the run (PID namespace)",
    "mount": "seeing any file that was not shown (mount namespace with a bare tree)",
    "net": "every network connection (network namespace)",
    "ipc": "shared memory between two runs (IPC namespace)",
    "uts": "changing the host's name (UTS namespace)",
    "cgroup_ns": "seeing the host's cgroups (cgroup namespace)",
    "proc": "a private /proc for programs that need one, such as sanitizers (in the mount namespace)",
    "landlock": "opening any file that was not shown, even without namespaces (Landlock)",
    "seccomp": "ptrace, signals to others, shared memory, sockets, mounts and other kernel surface (seccomp)",
    "memory": "eating the host's memory, over all processes of a run (memory cgroup)",
    "pids": "fork bombs, over all processes of a run (pids cgroup)",
}
"""Every control, in the order in which they are tried, and what each is for."""

INSTEAD = {
    "user": ("seccomp", "setuid programs gain nothing (no_new_privs), but it runs as a user of this host"),
    "pid": ("seccomp", "it can signal, limit and trace nobody but itself; what it leaves is stopped and killed"),
    "mount": ("landlock", "it can open no file that was not shown, but can tell which files there are"),
    "net": ("seccomp", "it can make no socket"),
    "ipc": ("seccomp", "it can make no shared memory, message queue or semaphore"),
    "uts": ("seccomp", "it cannot change the host's name"),
    "cgroup_ns": ("landlock", "it can open no file of the cgroups"),
    "proc": ("limits", "there is none; sanitizers do without"),
    "memory": ("limits", "the memory of a run is added up every 20 ms, and each process's address space is bounded"),
    "pids": ("limits", "processes are counted for each user (RLIMIT_NPROC)"),
}
"""What holds where a control is missing, and which other control does that."""

LEVELS: dict[str, tuple[str, ...]] = {
    "any": (),
    "contained": ("pid", "mount", "net", "ipc", "seccomp"),
    "full": tuple(name for name in WHAT_IT_STOPS if name != "drop"),
}
"""What a word demands.

`contained`: a program sees no file, process, connection or shared memory but its own, and leaves none behind; the
kernel keeps it from them, not a filter alone. Memory and processes of a run may be bounded without cgroups.
`full`: that, twice over, and cgroups. `any`: what there is, which results name.
"""

SYS_ADMIN = 21  # the number of the capability
NOBODY = 65_534
FIRST_ACCOUNT = 1_879_048_192
ACCOUNTS_OF_A_PROCESS = PROCESSES = 1 << 14
"""The users that runs have where root starts them: up to 2**31, numbers that systemd's list gives to nobody."""

_SERIAL = count()


@dataclass(frozen=True)
class Controls:
    """The controls of a run."""

    names: tuple[str, ...]
    """In the order of `WHAT_IT_STOPS`."""
    memory_parent: str | None = None
    """The folder in which memory cgroups are made; None where there is none that can be written."""
    pids_parent: str | None = None
    """The folder in which pids cgroups are made; the same one under cgroup v2."""

    def without(self, *names: str) -> Controls:
        """The same controls less some: for hosts that lack them, and for tests of what then remains."""
        names = (*names, "proc") if "mount" in names else names
        return Controls(
            tuple(name for name in self.names if name not in names),
            None if "memory" in names else self.memory_parent,
            None if "pids" in names else self.pids_parent,
        )

    def cgroups(self) -> tuple[str | None, str | None]:
        """Fresh names for the memory and the pids cgroup of one run."""
        name = f"rlvr-{os.getpid()}-{next(_SERIAL)}"
        memory = f"{self.memory_parent}/{name}" if self.memory_parent else None
        return memory, f"{self.pids_parent}/{name}" if self.pids_parent else None

    @staticmethod
    def account() -> int:
        """A user that no other run of this host has, or nobody where there are too few users."""
        if not _has_accounts():
            return NOBODY
        process, run = os.getpid() % PROCESSES, next(_SERIAL) % ACCOUNTS_OF_A_PROCESS
        return FIRST_ACCOUNT + process * ACCOUNTS_OF_A_PROCESS + run

    def options(self) -> list[str]:
        """The launcher's words for the namespaces and filters."""
        return [word for name in self.names if name not in ("limits", "memory", "pids") for word in ("--control", name)]


def require_controls(require: str | Sequence[str]) -> Controls:
    """The host's controls. `require` is a level (`any`, `contained`, `full`) or a list of control names.

    Raises SandboxError naming what is missing and what to do about it, or the word that is none.
    """
    wanted = LEVELS.get(require) if isinstance(require, str) else tuple(require)
    if wanted is None or (unknown := [name for name in wanted if name not in WHAT_IT_STOPS]):
        word = require if wanted is None else unknown[0]
        raise SandboxError(
            f"sandbox.require is {word!r}: it must be one of {', '.join(LEVELS)}, "
            f"or a list of {', '.join(WHAT_IT_STOPS)}"
        )
    controls = host_controls()
    missing = [name for name in wanted if name not in controls.names]
    if missing:
        raise SandboxError(
            f"sandbox.require is {require!r} but this host cannot give {', '.join(missing)}: {remedy(missing[0])}, "
            "or require less"
        )
    return controls


def missing_controls(names: Sequence[str]) -> list[str]:
    """The controls that this user could have, and does not."""
    return [name for name in WHAT_IT_STOPS if name not in names and (name != "drop" or os.geteuid() == 0)]


def describe(names: Sequence[str]) -> str:
    """The controls in a few words: how many of those that this user could have, and which are missing."""
    missing = missing_controls(names)
    wanted = len(missing) + len([name for name in names if name in WHAT_IT_STOPS])
    words = f"{wanted - len(missing)} of {wanted} isolation controls"
    return words + (f", without {', '.join(missing)}" if missing else "")


def can_mount() -> bool:
    """Root itself shows programs their files; else it drops its rights first, in a user namespace or without any."""
    status = Path("/proc/self/status").read_text()
    return os.geteuid() == 0 and bool(int(status.split("CapEff:")[1].split()[0], 16) >> SYS_ADMIN & 1)


@cache
def host_controls() -> Controls:
    """What works here, each control tried on top of the ones before it."""
    mounts, own = (Path(f"/proc/self/{name}").read_text() for name in ("mountinfo", "cgroup"))
    memory, pids = (cgroup_parents(controller, mounts, own) for controller in ("memory", "pids"))
    for parent in {*memory, *pids}:
        _sweep(Path(parent))
    found = Controls(("limits",))
    if not _works(found):
        raise SandboxError("the launcher does not run here: try `python -m rlvr_sandbox doctor`")
    for name in WHAT_IT_STOPS:
        options = [replace(found, names=(*found.names, name))]
        if name == "memory":
            options = [replace(option, memory_parent=parent) for option in options for parent in memory]
        elif name == "pids":
            options = [replace(option, pids_parent=parent) for option in options for parent in pids]
        elif name == "limits" or not _can_mean_something(name, found):
            continue
        found = next((option for option in options if _works(option)), found)
    return found


def _can_mean_something(name: str, found: Controls) -> bool:
    """Only root has rights to drop, and a /proc is private in a mount namespace alone."""
    return {"drop": os.geteuid() == 0, "proc": "mount" in found.names}.get(name, True)


@cache
def _has_accounts() -> bool:
    """This user namespace knows the numbers of our accounts: one of a rootless container has but 65,536 users."""
    last = FIRST_ACCOUNT + PROCESSES * ACCOUNTS_OF_A_PROCESS
    for kind in ("uid", "gid"):
        ranges = [line.split() for line in Path(f"/proc/self/{kind}_map").read_text().splitlines()]
        if not any(int(start) <= FIRST_ACCOUNT and last <= int(start) + int(size) for start, _, size in ranges):
            return False
    return True


def _works(controls: Controls) -> bool:
    """The launcher can harden a process so far that nothing is left but to execute a program."""
    memory, pids = controls.cgroups()
    command = [launcher(), "--wall-ms", "5000", "--cpu-ms", "5000", "--memory", "67108864", "--file-size", "1"]
    command += ["--processes", "64", "--open-files", "64", "--status", "1", *controls.options()]
    command += ["--account", str(controls.account())]
    command += ["--memory-cgroup", memory] if memory else []
    command += ["--pids-cgroup", pids] if pids else []
    lifeline, ours = os.pipe()
    try:
        done = subprocess.run(command, stdin=lifeline, capture_output=True, cwd="/", timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        os.close(lifeline)
        os.close(ours)
        for folder in filter(None, (memory, pids)):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    return done.stdout.startswith(b"ended e 0 ")


def cgroup_parents(controller: str, mountinfo: str, cgroup: str) -> tuple[str, ...]:
    """Folders in which a cgroup with this controller may perhaps be made, our own first, then its parents.

    `mountinfo` and `cgroup` are the files of these names in `/proc/self`.
    """
    own = dict(_own_cgroups(cgroup))
    parents: list[Path] = []
    for fields in map(str.split, mountinfo.splitlines()):
        place, kind, options = fields[4], fields[fields.index("-") + 1], fields[-1].split(",")
        if kind == "cgroup" and controller in options:
            parents += _upwards(Path(place), own.get(controller, "/"))
        elif kind == "cgroup2":
            parents += [p for p in _upwards(Path(place), own.get("", "/")) if controller in _delegated(p)]
    return tuple(str(parent) for parent in parents if os.access(parent, os.W_OK))


def _own_cgroups(cgroup: str) -> list[tuple[str, str]]:
    """The path of this process for each controller of cgroup v1, and for "" in cgroup v2."""
    lines = [line.split(":", 2) for line in cgroup.splitlines()]
    return [(name, path) for _, names, path in lines for name in names.split(",")]


def _upwards(mount: Path, path: str) -> list[Path]:
    place = mount / path.lstrip("/")
    return [folder for folder in (place, *place.parents) if folder.is_relative_to(mount) and folder.is_dir()]


def _delegated(folder: Path) -> list[str]:
    try:
        return (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return []


def _sweep(parent: Path) -> None:
    """Remove cgroups of verifiers that were killed before they could; one that is in use cannot be removed."""
    for folder in parent.glob("rlvr-*-*"):
        owner = folder.name.split("-")[1]
        if not Path(f"/proc/{owner}").exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
