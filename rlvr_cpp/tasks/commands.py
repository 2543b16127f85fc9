"""What `rlvr-tasks` does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rlvr_cpp.tasks.conversion import convert_rows, describe_task, find_task
from rlvr_cpp.tasks.quality.contamination import overlap_report
from rlvr_cpp.tasks.quality.weak import check_tasks, is_known
from rlvr_cpp.tasks.rows import read_source
from rlvr_cpp.tasks.task import Task, load_tasks, save_tasks
from rlvr_cpp.verifier.verifier import Verifier

RUN_SECONDS = 2.0  # an answer without work needs milliseconds


def convert(call: argparse.Namespace) -> None:
    """Write the tasks in rows of any shape, and tell what was left out."""
    converted = convert_rows(read_source(call.source, config=call.config, split=call.split, usual="train"))
    for line in converted.report():
        print(line)
    _print_overlaps(converted.tasks, call.benchmark)
    save_tasks(converted.tasks, call.out)


def show(call: argparse.Namespace) -> None:
    """Print one task: how it is judged, and its prompt."""
    task = find_task(load_tasks(call.source), call.task, call.source)
    print(f"{describe_task(task)}\n{task.prompt}")


def check(call: argparse.Namespace) -> None:
    """Name the tasks that a benchmark has, and those that an answer without work passes."""
    tasks = load_tasks(call.source)
    _print_overlaps(tasks, call.benchmark)
    with Verifier(timeout=RUN_SECONDS) as verifier:
        checked = check_tasks(tasks, verifier)
    weak = [task for task in checked if task.weak]
    for task in weak:
        print(f"{task.task_id}: weak: {'; '.join(task.weak or ())}")
    unknown = sum(not is_known(task) for task in checked)
    print(f"{len(weak)} of {len(checked)} tasks are weak, {unknown} open no plain function and were not tried")
    if call.out is not None:
        save_tasks(checked, call.out)


def _print_overlaps(tasks: Sequence[Task], benchmarks: Sequence[str]) -> None:
    """Name the tasks that say what a problem of one of the benchmarks says."""
    for name in benchmarks:
        for line in overlap_report(tasks, load_tasks(name), name):
            print(line)
