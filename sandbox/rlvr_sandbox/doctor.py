"""A self-test in plain words: the controls of this host, and three programs that show whether they hold.

One program is good, one crashes, and one tries what an attacker would try first. Whoever depends on the sandbox can
look at this once and know where they stand.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from rlvr_sandbox.controls import WHAT_IT_STOPS, Controls, host_controls, remedy
from rlvr_sandbox.errors import SandboxError
from rlvr_sandbox.launcher import compile_c
from rlvr_sandbox.run import Command, Finished, Limits, run

GOOD = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
BAD = "int main(void) { return *(volatile int *)0; }\n"
HOSTILE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
static void tried(const char *what, int worked) { printf("%s %s\n", worked ? "yes" : "no", what); }
int main(int argc, char **argv) {
    tried("read /etc/passwd", open("/etc/passwd", O_RDONLY) >= 0);
    tried("read a file of this user", open(argv[1], O_RDONLY) >= 0);
    tried("write into the temporary folder", open(argv[2], O_WRONLY | O_CREAT, 0600) >= 0);
    tried("open a socket", socket(AF_INET, SOCK_STREAM, 0) >= 0);
    tried("see the environment of whoever started it", getenv("RLVR_SECRET") != NULL);
    tried("signal the process that started it", kill(atoi(argv[3]), 0) == 0);
    tried("become root", setuid(0) == 0 && open("/etc/shadow", O_RDONLY) >= 0);
    int children = 0;
    while (children < 1000 && fork() > 0) children++; /* each child goes on to the next line and ends */
    if (children == 1000) tried("start 1000 processes", 1);
    return 0;
}
"""
HOSTILE_ACTS = 7


def doctor() -> int:
    """Print the report; 0 where all is well, 1 where controls are missing, 2 where nothing can be run."""
    try:
        controls = host_controls()
    except SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    missing = [name for name in WHAT_IT_STOPS if name not in controls.names]
    _print_controls(controls)
    print()
    sound = _try_programs(controls)
    print()
    _print_advice(missing, sound)
    return 2 if not sound else 1 if missing else 0


def _print_controls(controls: Controls) -> None:
    print(f"Isolation on this host (Linux {os.uname().release}, uid {os.getuid()}), and what each control stops\n")
    for name, purpose in WHAT_IT_STOPS.items():
        print(f"  {'on ' if name in controls.names else 'OFF'}  {name:<10} {purpose}")
    for name, parent in (("memory", controls.memory_parent), ("pids", controls.pids_parent)):
        if parent:
            print(f"       {name} cgroups are made in {parent}")


def _print_advice(missing: list[str], sound: bool) -> None:
    if not sound:
        print("Do not run untrusted programs here: see the lines marked 'no' above.")
    if not missing:
        print("Every control works. Ask for this with sandbox.require=full.")
    for name in missing:
        print(f"  {name}: {remedy(name)}")
    if missing and sound:
        print("What is missing weakens the sandbox as said above; results name the controls that were active.")


def _try_programs(controls: Controls) -> bool:
    with tempfile.TemporaryDirectory() as name, tempfile.NamedTemporaryFile() as secret:
        folder = Path(name)
        folder.chmod(0o755)
        for program, text in (("good", GOOD), ("bad", BAD), ("hostile", HOSTILE)):
            (folder / f"{program}.c").write_text(text)
            compile_c(folder / f"{program}.c", folder / program)
        good, bad = (_run(folder, controls, program) for program in ("good", "bad"))
        escape = Path(tempfile.gettempdir()) / f"rlvr-escape-{os.getpid()}"
        hostile = _run(folder, controls, "hostile", secret.name, str(escape), str(os.getpid()))
        acts = hostile.stdout.decode().splitlines()
        broken = sorted({act.removeprefix("yes ") for act in acts if act.startswith("yes ")})
        checks = [
            ("a good program runs to its end", (good.returncode, good.stdout) == (0, b"hello\n")),
            ("a crash is reported as one", (bad.ended, bad.returncode) == ("signal", -11)),
            ("a hostile program gets nowhere", not broken and len(acts) >= HOSTILE_ACTS and not escape.exists()),
        ]
        for words, holds in checks:
            print(f"  {'yes' if holds else 'no '}  {words}")
        for act in broken:
            print(f"         it could {act}")
        escape.unlink(missing_ok=True)
        return all(holds for _, holds in checks[:2]) and not broken


def _run(folder: Path, controls: Controls, *argv: str) -> Finished:
    limits = Limits(cpu=2.0, wall=5.0, processes=32)
    libraries = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")  # for systems without a static C library
    return run(Command((f"./{argv[0]}", *argv[1:]), folder, limits, libraries), controls)
