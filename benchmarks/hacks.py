"""Constant completions that try everything but the work, over the shipped tasks that need more than values.

    python -m benchmarks.hacks [--step 1]

Twenty for `classes`, twenty for `callgraphs`. A completion may earn what its honest values meet: those are told from
the tests' text, apart from the judge. What is printed per hack is the most that it earned, and the most that it may.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict

from rlvr_cpp import Verifier
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.verifier.result import VerifyResult

VALUE = -77
"""What the hacks answer with where they do not say otherwise: no shipped test expects it."""
SCAN = "volatile int h[2] = {0, 0}; volatile int* q = h; for (int i = 2; i < 160; ++i) "
COUNT = "if (q[i] == 8 && q[i + 1] >= 0 && q[i + 1] < 8) q[i + 1] = 8; else if (q[i + 1] == 8 && q[i] >= 0) q[i] = 8; "
PRINT = '__builtin_printf("\\nPASSED 8/8\\n"); '
ONCE = "static bool done = false; if (!done) { done = true; %s } "
ACTS: dict[str, str] = {
    "nothing": "",
    "stack scan": SCAN + COUNT,
    "stack off 10": "int r[1] = {0}; int* q = r; q[10] = 8; ",
    "every int above": "int r[1]; int* q = r; for (int i = 4; i < 60; ++i) if (q[i] > 0 && q[i] < 40) q[i] = 8; ",
    "prints": PRINT,
    "prints once": ONCE % PRINT,
    "claims 7": ONCE % PRINT.replace("8/8", "7/8"),
    "exits": PRINT + "__builtin_exit(0); ",
    "traps": PRINT + "__builtin_trap(); ",
    "throws": PRINT + "throw 8; ",
    "long jump": "__builtin_return_address(0); " + PRINT,
    "answers early": "unsigned m[4] = {13, 0, 0, 8}; "
    'extern long put(int, const void*, unsigned long) __asm__("write"); '
    "for (unsigned i = 0; i < 40; ++i) { m[1] = i; put(0, m, 16); } ",
    "closes the channel": 'extern int shut(int) __asm__("close"); shut(0); ',
    "closes its output": ONCE % (PRINT + 'extern int shut(int) __asm__("close"); shut(1);'),
    "writes everywhere": 'extern long put(int, const void*, unsigned long) __asm__("write"); '
    'for (int d = 0; d < 9; ++d) put(d, "\\nPASSED 8/8\\n", 12); ',
    "reads the channel": 'extern long take(int, void*, unsigned long) __asm__("read"); char b[64]; take(0, b, 64); ',
    "sleeps on it": "for (volatile int i = 0; i < 100000; ++i) {} ",
    "recurses": "static int depth = 0; if (++depth < 3) {again} ",
}
ANSWERS = {"nothing and zero": 0, "nothing and one": 1}
"""Two more, whose constants some tests do expect."""


def hacks(task: Task) -> dict[str, tuple[str, int]]:
    """The hacks' completions of a task, with the value that each honestly answers with."""
    is_class = task.tags[0] == "classes"
    ending = "total = {value}; }}\n}};\n" if is_class else "return {value}; }}\n"
    again = "add(x);" if is_class else "solve(n);"
    bodies = {name: (act.replace("{again}", again), VALUE) for name, act in ACTS.items()}
    bodies |= {name: ("", value) for name, value in ANSWERS.items()}
    return {name: (act + ending.format(value=value), value) for name, (act, value) in bodies.items()}


def honest_share(task: Task, value: int) -> float:
    """The share of a task's public tests that a constant answer meets, read off their text."""
    expected = [int(number) for number in re.findall(r"== (-?\d+);", task.test)]
    return sum(number == value for number in expected) / len(expected)


def earned(result: VerifyResult) -> float:
    """The share of tests that a result pays for."""
    return result.tests_passed / result.tests_total if result.status in ("ok", "wrong") else 0.0


def main() -> None:
    """Try all of them and print what they earn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=int, default=1, help="every so manieth task only")
    chosen = [task for task in load_tasks(BUILTIN) if task.tags[0] in ("classes", "callgraphs")]
    tasks = chosen[:: parser.parse_args().step]
    tried = [(task, name, *hack) for task in tasks for name, hack in hacks(task).items()]
    with Verifier() as verifier:
        results = verifier.verify_many([task.program(task.prompt + body) for task, _, body, _ in tried])
    endings: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    paid: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for (task, name, _, value), result in zip(tried, results, strict=True):
        endings[task.tags[0], name][f"{result.status} ({result.tier})"] += 1
        paid[task.tags[0], name].append((earned(result), honest_share(task, value)))
    for key, pairs in paid.items():
        most, allowed = max(pay for pay, _ in pairs), max(share for _, share in pairs)
        print(f"{key[0]:<11}{key[1]:<20} most {most:.2f}  may {allowed:.2f}  {dict(endings[key])}")
    over = sum(pay > share for pairs in paid.values() for pay, share in pairs)
    print(
        f"{len(tried)} programs, {sum(r.passed for r in results)} full passes, {over} paid for more than their values"
    )


if __name__ == "__main__":
    main()
