"""Does anything pile up? `python -m benchmarks.soak`: many thousand verifications of every kind in one process.

Good, wrong, broken and hostile programs in turn, with one launcher in a few hundred killed in the middle of its work.
Printed as it goes, and at the end, when it must all be zero or flat: children, scratch folders, cgroups, descriptors,
threads, and memory against half-time, when the cache of 10,000 results is full. A killed launcher is tried once more;
it may cost its own item a `sandbox_error`, never another's. `--user` makes an ordinary user of root before it begins.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from rlvr_cpp import Program, Verifier
from rlvr_sandbox import describe, host_controls

HARNESS = """
#include <cstdio>
int twice(int x);
int main() {
    int passed = 0;
    passed += twice(1) == 2;
    passed += twice(3) == 6;
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""
KINDS = {  # what it ends as: the code
    "ok": "int twice(int x) { return 2 * x; }",
    "wrong": "int twice(int x) { return x + 1; }",
    "compile_error": "int twice(int x) { return y; }",
    "link_error": "int thrice(int x);",
    "run_error": "int twice(int x) { return *(volatile int*)0 + x; }",
    "timeout": "int twice(int x) { for (volatile int i = 0;; ++i) {} return x; }",
    "output_limit": '#include <cstdio>\nint twice(int x) { for (;;) std::puts("12345678"); return x; }',
    "memory_limit": "#include <cstdlib>\n#include <cstring>\nint twice(int x) { for (;;) "
    "if (void* p = std::malloc(1 << 24)) std::memset(p, 1, 1 << 24); return x; }",
    "forged": '#include <cstdio>\n#include <cstdlib>\nint twice(int) { std::puts("PASSED 2/2"); std::fflush(stdout); '
    "std::_Exit(0); }",
    "ok daemon": "#include <unistd.h>\nint twice(int x) { if (fork() == 0) { setsid(); pause(); } return 2 * x; }",
    "any fork bomb": "#include <unistd.h>\nint twice(int x) { for (int i = 0; i < 500; ++i) fork(); return 2 * x; }",
}
WEIGHTS = {"ok": 40, "wrong": 25, "compile_error": 15, "timeout": 1, "memory_limit": 1, "any fork bomb": 1}
BATCH = 200


def programs(count: int, start: int, chance: random.Random) -> list[tuple[str, Program]]:
    """Programs of every kind, none like another, and what each must end as."""
    kinds = chance.choices(list(KINDS), [WEIGHTS.get(kind, 3) for kind in KINDS], k=count)
    return [
        (kind.partition(" ")[0], Program(f"{KINDS[kind]}\n// {start + n} {os.getpid()}", HARNESS, 2))
        for n, kind in enumerate(kinds)
    ]


def leftovers() -> dict[str, int]:
    """What must not grow, counted now."""
    status = Path("/proc/self/status").read_text()
    children = [Path(f"/proc/self/task/{task}/children").read_text().split() for task in os.listdir("/proc/self/task")]
    controls = host_controls()
    parents = [parent for parent in (controls.memory_parent, controls.pids_parent) if parent]
    return {
        "children": sum(map(len, children)),
        "scratch folders": len(list(Path(tempfile.gettempdir()).glob(f"rlvr_verify_{os.getpid()}_*"))),
        "cgroups": sum(len(list(Path(parent).glob(f"rlvr-{os.getpid()}-*"))) for parent in parents),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "resident MB": int(status.split("VmRSS:")[1].split()[0]) // 1024,
    }


class Saboteur(threading.Thread):
    """Kills a launcher now and then."""

    def __init__(self, every: float, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.every, self.chance = every, chance
        self.killed = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Until told to stop."""
        while not self.done.wait(self.every):
            launchers = [pid for pid in _children() if _is_launcher(pid)]
            if launchers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.chance.choice(launchers), signal.SIGKILL)
                    self.killed += 1


def _children() -> list[int]:
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


def _is_launcher(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"/launcher-" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def become(user: int) -> None:
    """Stop being root, for good; all that is needed has been imported."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def main() -> int:
    """Print the counts; exit 1 where something was left, grew, or was judged otherwise than it must be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--user", type=int, help="the id of the user who verifies, where root starts this")
    arguments = parser.parse_args()
    if arguments.user is not None:
        become(arguments.user)
    print(describe(host_controls().names), flush=True)
    chance = random.Random(arguments.seed)
    endings: Counter[str] = Counter()
    wrong: list[tuple[str, str, str]] = []
    start = time.monotonic()
    saboteur = Saboteur(5.0, chance)
    with Verifier(timeout=0.5, memory=64 << 20) as verifier:
        verifier.verify_many(program for _, program in programs(BATCH, -BATCH, chance))
        before = leftovers()
        saboteur.start()
        for first in range(0, arguments.count, BATCH):
            batch = programs(min(BATCH, arguments.count - first), first, chance)
            for (kind, _), result in zip(batch, verifier.verify_many(p for _, p in batch), strict=True):
                endings[result.status] += 1
                if result.status not in (kind, "sandbox_error") and kind != "any":
                    wrong.append((kind, result.status, result.stderr[:200]))
            if first // BATCH % 10 == 9 or first + BATCH >= arguments.count:
                seconds = time.monotonic() - start
                print(f"{first + len(batch):>7} in {seconds:5.0f} s  {leftovers()}", flush=True)
            if first + BATCH == arguments.count // 2 // BATCH * BATCH:
                before["resident MB"] = leftovers()["resident MB"]  # the cache of results has filled up by then
        saboteur.done.set()
        saboteur.join()
        after = leftovers()
    closed = leftovers()
    print(f"\nbefore  {before}\nafter   {after}\nclosed  {closed}\n\n{dict(endings.most_common())}")
    print(f"{saboteur.killed} launchers were killed; {len(wrong)} programs were judged otherwise than they must be")
    for kind, status, text in wrong[:10]:
        print(f"  {kind} ended as {status}: {text}")
    grown = [name for name in after if after[name] > before[name] * 1.1 + 1]
    print(f"grown: {', '.join(grown) or 'nothing'}")
    return 1 if grown or wrong or closed["children"] or closed["scratch folders"] else 0


if __name__ == "__main__":
    sys.exit(main())
