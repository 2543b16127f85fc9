"""What to do about a control that a host lacks, from what that host says about itself.

Advice for another host is worse than none: who is root of a container need not become root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SWITCHES = {
    "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=15000"),
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
}
"""Settings of a kernel that keep users from making namespaces, the value that does, and what undoes it."""
CONTAINER_FLAGS = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
REMEDY = {
    "drop": "give the container the capabilities SETUID and SETGID, and more users than one (subuid(5))",
    "landlock": "use Linux 5.13 or newer with landlock among the security modules",
    "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER",
}
CGROUPS = ("memory", "pids")


def remedy(control: str) -> str:
    """What to do where a control is missing."""
    is_filtered = "\nSeccomp:\t2" in (_read("/proc/self/status") or "")
    if control in CGROUPS:
        return cgroup_remedy(os.geteuid() == 0 or is_filtered)
    if control in REMEDY:
        return REMEDY[control]
    return namespace_remedy({path: _read(path) for path in SWITCHES}, is_filtered)


def cgroup_remedy(is_container: bool) -> str:
    """How to get a cgroup that can be written: root of a whole machine can write them all."""
    if is_container:
        return "let the container write its cgroups (they are mounted read-only unless it is privileged)"
    return "start it with systemd-run --user --scope -p Delegate=yes, whose cgroups you may write"


def namespace_remedy(switches: Mapping[str, str | None], is_filtered: bool) -> str:
    """How to get namespaces, from what stands in `SWITCHES` here and whether our own system calls are filtered."""
    for path, (value, words) in SWITCHES.items():
        if switches.get(path) == value:
            return f"let users create user namespaces: {words}"
    if is_filtered:
        return f"let the container create user namespaces: {CONTAINER_FLAGS}"
    return f"let this process create user namespaces (in a container: {CONTAINER_FLAGS})"


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
