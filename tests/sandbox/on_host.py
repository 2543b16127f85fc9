"""What is seen on one host, told as plain data by a process that runs there: its controls, its doctor, its attackers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rlvr_sandbox import Command, Limits, SandboxError, host_controls, run
from rlvr_sandbox.doctor import doctor

SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
MEMORY = 192 << 20


def controls_and_doctor() -> dict[str, Any]:
    """The names of the controls, the doctor's exit status and what it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        status = doctor()
    return {"controls": list(host_controls().names), "status": status, "printed": printed.getvalue()}


def attacks(folder: Path, names: Sequence[str], *without: str) -> dict[str, tuple[str, int, str]]:
    """How each ended, how it returned and what it said, with the controls of this host less some."""
    limits = Limits(cpu=0.5, wall=0.6, memory=MEMORY, processes=48)
    controls = host_controls().without(*without)
    found = {}
    for name in names:
        command = Command(("./attacks", name), folder, limits, SYSTEM, kill_at_output_limit=True)
        try:
            finished = run(command, controls)
        except SandboxError as error:
            found[name] = ("sandbox_error", 0, str(error))
        else:
            found[name] = (finished.ended, finished.returncode, finished.stdout[:2000].decode(errors="replace"))
    return found


def survivors(folder: Path) -> list[str]:
    """Processes that still run a program of this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if line.startswith("./attacks"):
            found.append(line.replace("\0", " "))
    return found
