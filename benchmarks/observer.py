"""What it costs to keep a test out of the candidate's process: `python -m benchmarks.observer [--tasks 8]`.

The same answers to shipped tasks, in turns by tier `observer` and by the tier inside of the candidate's process that
these tests had before it. Everything that is built once for a task is built first. CPU seconds are those of this
process and all of its children; their ratio holds on a busy machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from itertools import count

from benchmarks.verifier import cpu_seconds
from rlvr_cpp import Program, Verifier
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.verifier.tiers.in_process import judge_apart, judge_as_one
from rlvr_cpp.verifier.tiers.observer.planner import plan_for
from rlvr_cpp.verifier.tiers.observer.run import build_oracle, judge_by_plan
from rlvr_cpp.verifier.toolchain.bench import Bench, open_bench
from rlvr_cpp.verifier.toolchain.built import Judged

ANSWERS = 6
"""To each task, each a text of its own."""
NUMBER = count()


def by_observer(bench: Bench) -> Judged:
    """In two processes."""
    plan = plan_for(bench.program, bench.workshop)
    oracle = build_oracle(bench.program.std, bench.workshop, plan)
    assert oracle is not None, plan.reason
    return judge_by_plan(bench, plan, oracle)


def inside(bench: Bench) -> Judged:
    """In one process, behind the seal."""
    return judge_apart(bench) or judge_as_one(bench)


def cost(verifier: Verifier, program: Program, judge: Callable[[Bench], Judged]) -> tuple[float, float]:
    """CPU seconds and seconds on the clock of judging one answer that is new to everybody."""
    own = dataclasses.replace(program, code=f"{program.files['candidate.cpp']}// {next(NUMBER)}\n")
    cpu, clock = cpu_seconds(), time.perf_counter()
    with open_bench(own, verifier.workshop) as bench:
        judged = judge(bench)
    assert judged.verdict is not None, judged.built.text
    assert judged.verdict.status == "ok"
    return cpu_seconds() - cpu, time.perf_counter() - clock


def compare(verifier: Verifier, family: str, tasks: list[Task]) -> None:
    """Print one line for a family."""
    spent: dict[str, list[tuple[float, float]]] = {"observer": [], "inside": []}
    for task in tasks:
        program = task.program(task.prompt + (task.reference or ""))
        for ways in range(ANSWERS + 1):  # the first one builds what is built once
            for name, judge in (("observer", by_observer), ("inside", inside)):
                taken = cost(verifier, program, judge)
                if ways:
                    spent[name].append(taken)
    cpu, clock = ({n: statistics.median(pair[i] for pair in all_) for n, all_ in spent.items()} for i in (0, 1))
    print(
        f"{family:<11} {len(spent['inside']):>3} answers  inside {cpu['inside'] * 1e3:6.1f} ms CPU  observer "
        f"{cpu['observer'] * 1e3:6.1f} ms CPU  ratio {cpu['observer'] / cpu['inside']:.2f}  on the clock "
        f"{clock['observer'] / clock['inside']:.2f}"
    )


def main() -> None:
    """Compare both families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8, help="of each family")
    chosen = parser.parse_args().tasks
    with Verifier(workers=1) as verifier:
        for family in ("classes", "callgraphs"):
            tasks = [task for task in load_tasks(BUILTIN) if task.tags[0] == family]
            compare(verifier, family, tasks[:: len(tasks) // chosen][:chosen])


if __name__ == "__main__":
    main()
