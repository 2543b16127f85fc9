"""A self-test in plain words: the controls of this host, and three programs that show whether they hold.

One program is good, one crashes, and one tries what an attacker would try first. Whoever depends on the sandbox can
look at this once and know where they stand.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from rlvr_sandbox.controls import INSTEAD, LEVELS, WHAT_IT_STOPS, Controls, host_controls, missing_controls
from rlvr_sandbox.errors import SandboxError
from rlvr_sandbox.launcher import compile_c
from rlvr_sandbox.remedies import remedy
from rlvr_sandbox.run import Command, Finished, Limits, run

GOOD = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
BAD = "int main(void) { return *(volatile int *)0; }\n"
HOSTILE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
static void tried(const char *what, int worked) {
    printf("%s %s\n", worked ? "yes" : "no", what);
    fflush(stdout);
}
int main(int argc, char **argv) { /* a secret file, a new file, who started it, a key, whether it is the second run */
    int starter = atoi(argv[3]), again = argc > 5, children = 0;
    struct rlimit none;
    cpu_set_t cores;
    tried("read /etc/passwd", open("/etc/passwd", O_RDONLY) >= 0);
    tried("read a file of this user", open(argv[1], O_RDONLY) >= 0);
    tried("write into the temporary folder", open(argv[2], O_WRONLY | O_CREAT, 0600) >= 0);
    tried("open a socket", socket(AF_INET, SOCK_STREAM, 0) >= 0);
    tried("see the environment of whoever started it", getenv("RLVR_SECRET") != NULL);
    tried("signal the process that started it", kill(starter, 0) == 0);
    tried("see the limits of the process that started it", prlimit(starter, RLIMIT_NOFILE, NULL, &none) == 0);
    tried("choose cores for the process that started it", sched_getaffinity(starter, sizeof cores, &cores) == 0 &&
          sched_setaffinity(starter, sizeof cores, &cores) == 0);
    tried("become root", setuid(0) == 0 && open("/etc/shadow", O_RDONLY) >= 0);
    tried("leave a mark on its own file", chmod(argv[0], 0700) == 0);
    int shared = shmget(atoi(argv[4]), 1, again ? 0600 : IPC_CREAT | 0666);
    tried("find the shared memory of an earlier run", again && shared >= 0);
    if (again && shared >= 0) shmctl(shared, IPC_RMID, NULL);
    none = (struct rlimit){0, 0};
    if (again) prlimit(getppid(), RLIMIT_CPU, &none, NULL);
    if (again) kill(getppid(), SIGKILL);
    while (!again && children < 1000 && fork() > 0) children++; /* each child goes on to the next line and ends */
    if (children == 1000) tried("start 1000 processes", 1);
    return 0;
}
"""
HOSTILE_ACTS = 11


def doctor() -> int:
    """Print the report; 0 where all is well, 1 where controls are missing, 2 where nothing can be run."""
    try:
        controls = host_controls()
    except SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    missing = missing_controls(controls.names)
    _print_controls(controls, missing)
    print()
    sound = _try_programs(controls)
    print()
    _print_advice(controls, missing, sound)
    return 2 if not sound else 1 if missing else 0


def _print_controls(controls: Controls, missing: list[str]) -> None:
    print(f"Isolation on this host (Linux {os.uname().release}, uid {os.getuid()}), and what each control stops\n")
    for name, purpose in WHAT_IT_STOPS.items():
        state = "on " if name in controls.names else "OFF" if name in missing else "-  "
        print(
            f"  {state}  {name:<10} {purpose if name in controls.names or name in missing else 'nobody is root here'}"
        )
        other, words = INSTEAD.get(name, ("", ""))
        if name in missing and other in controls.names:
            print(f"       instead    {words}")
    for name, parent in (("memory", controls.memory_parent), ("pids", controls.pids_parent)):
        if parent:
            print(f"       {name} cgroups are made in {parent}")


def _print_advice(controls: Controls, missing: list[str], sound: bool) -> None:
    met = [level for level, names in LEVELS.items() if set(names) <= set(controls.names)][-1]
    if not sound:
        print("Do not run untrusted programs here: see the lines marked 'no' above.")
    elif not missing:
        print("Every control works.")
    advice: dict[str, list[str]] = {}
    for name in missing:
        advice.setdefault(remedy(name), []).append(name)
    for words, names in advice.items():
        print(f"  {', '.join(names)}: {words}")
    if sound:
        print(f"The most that this host can be asked for is sandbox.require={met}.")


def _try_programs(controls: Controls) -> bool:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for program, text in (("good", GOOD), ("bad", BAD), ("hostile", HOSTILE)):
            (folder / f"{program}.c").write_text(text)
            compile_c(folder / f"{program}.c", folder / program)
        good, bad = (_run(folder, controls, program) for program in ("good", "bad"))
        achieved = _try_hostile(folder, controls)
    checks = [
        ("a good program runs to its end", (good.returncode, good.stdout) == (0, b"hello\n")),
        ("a crash is reported as one", (bad.ended, bad.returncode) == ("signal", -11)),
        ("a hostile program gets nowhere", not achieved),
    ]
    for words, holds in checks:
        print(f"  {'yes' if holds else 'no '}  {words}")
    for act in achieved:
        print(f"         it could {act}")
    return all(holds for _, holds in checks)


def _try_hostile(folder: Path, controls: Controls) -> list[str]:
    """What it achieved in two runs, the second of which looks for what the first left behind."""
    achieved: set[str] = set()
    escape = Path(tempfile.gettempdir()) / f"rlvr-escape-{os.getpid()}"
    with tempfile.NamedTemporaryFile() as secret:
        for again in ((), ("again",)):
            arguments = (secret.name, str(escape), str(os.getpid()), str(os.getpid()), *again)
            finished = _run(folder, controls, "hostile", *arguments)
            lines = finished.stdout.decode().splitlines()
            achieved |= {line.removeprefix("yes ") for line in lines if line.startswith("yes ")}
            if len(lines) < HOSTILE_ACTS or (again and finished.returncode != 0):
                achieved.add("end whoever watches it")
    escape.unlink(missing_ok=True)
    return sorted(achieved)


def _run(folder: Path, controls: Controls, *argv: str) -> Finished:
    limits = Limits(cpu=2.0, wall=5.0, processes=32)
    libraries = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")  # for systems without a static C library
    return run(Command((f"./{argv[0]}", *argv[1:]), folder, limits, libraries), controls)
