"""Where the tests of benchmarks are kept: tiers by file, as they were judged, and whether the references pass.

    python -m benchmarks.tiers [FILE ...]

A file is what `tasks.source` takes; the shipped tasks come first. Where a task has no reference its prompt alone is
judged, which says the tier where it compiles, and else what is known from the tests' text stands.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from rlvr_cpp import Verifier, VerifyResult
from rlvr_cpp.runs.console import progress_bar
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.tasks.tiers import tier_of

TIERS = ("cases", "oracle", "observer", "in process")


def judge(tasks: list[Task], verifier: Verifier) -> list[VerifyResult]:
    """The references' results by all tests."""
    programs = [task.program(task.prompt + (task.reference or ""), hidden=True) for task in tasks]
    with progress_bar("references", len(programs)) as advance:
        return verifier.verify_many(programs, advance)


def tier(task: Task, result: VerifyResult) -> str:
    """The tier of a result; of a program that did not compile, the one that its task's text promises."""
    found = result.tier if result.compile_ok else tier_of(task, hidden=True)[0]
    return found if found in TIERS else "in process"


def main() -> None:
    """Print one row for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    files = [BUILTIN, *parser.parse_args().files]
    with Verifier() as verifier:
        rows = [(path, tasks, judge(tasks, verifier)) for path in files for tasks in [load_tasks(path)]]
    print("file".ljust(24), *(name.rjust(10) for name in ("tasks", *TIERS)), "references that pass".rjust(22))
    for path, tasks, results in rows:
        tiers = Counter(map(tier, tasks, results))
        known = [result for task, result in zip(tasks, results, strict=True) if task.reference is not None]
        passed = f"{sum(result.passed for result in known)} of {len(known)}"
        print(
            path.name.ljust(24),
            *(f"{count:10}" for count in (len(tasks), *(tiers[name] for name in TIERS))),
            passed.rjust(22),
        )


if __name__ == "__main__":
    main()
