"""Programs with what the compiler said of them: what a proxy verifier learns from and is measured on.

They are read from what runs leave: `candidates.jsonl` of best-of-N, `completions.jsonl` of a training, `samples.jsonl`
of an evaluation. What the infrastructure failed to judge, or the machine's limits ended, says nothing about the code
and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args

from rlvr_cpp.errors import UserError
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.rows import Row, read_file
from rlvr_cpp.tasks.task import Task

FILES = ("candidates.jsonl", "completions.jsonl", "samples.jsonl")
Target = Literal["compiles", "passes"]
TARGETS: tuple[Target, ...] = get_args(Target)
UNDECIDED = ("sandbox_error", "compile_limit")
REJECTED = ("compile_error", "link_error")


@dataclass(frozen=True, kw_only=True)
class Verified:
    """One program and its verdict."""

    task_id: str
    code: str
    compiles: bool
    passes: bool


def read_verified(sources: Sequence[Path], tasks: Mapping[str, Task], chat: bool = False) -> list[Verified]:
    """The programs of files and of run folders, each text of a task once.

    `tasks` and `chat` say how a completion becomes a program, where a file holds completions only. Raises UserError
    where a source holds no verdicts, or a task is not known.
    """
    found = {
        (verified.task_id, verified.code): verified
        for source in sources
        for path in _files(source)
        for where, row in read_file(path)
        for verified in _verified(row, where, tasks, chat)
    }
    if not found:
        raise UserError(f"{', '.join(map(str, sources))} holds no program that was judged: give runs with some")
    return list(found.values())


def label(programs: Sequence[Verified], target: Target) -> list[bool]:
    """Of each program. Raises UserError where there is nothing to tell apart: all are alike."""
    if target not in TARGETS:
        raise UserError(f"target is {target!r}: it must be one of {', '.join(TARGETS)}")
    labels = [program.compiles if target == "compiles" else program.passes for program in programs]
    if len(set(labels)) < 2:
        raise UserError(
            f"target {target!r} is {str(labels[0]).lower()} of all {len(labels)} programs: there is nothing to tell "
            "apart, and no AUROC; give runs with programs of both kinds, such as of a higher temperature"
        )
    return labels


def split_by_task(programs: Sequence[Verified], held_out: float, seed: int) -> tuple[list[Verified], list[Verified]]:
    """`(training, held out)`: the programs of a task are all on one side.

    Raises UserError where one side is empty.
    """
    tasks = sorted({program.task_id for program in programs})
    Random(seed).shuffle(tasks)
    cut = round(len(tasks) * held_out)
    chosen = set(tasks[:cut])
    if not 0 < cut < len(tasks):
        raise UserError(f"held_out is {held_out} of {len(tasks)} tasks: both sides need at least one")
    return [p for p in programs if p.task_id not in chosen], [p for p in programs if p.task_id in chosen]


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    paths = [source / name for name in FILES if (source / name).is_file()]
    if not paths:
        raise UserError(f"{source} has none of {', '.join(FILES)}: give the folder of a run, or a file like these")
    return paths


def _verified(row: Row, where: str, tasks: Mapping[str, Task], chat: bool) -> Iterator[Verified]:
    """The programs of one line."""
    try:
        task_id = row["task_id"]
        for sample in row["found"]["samples"] if "found" in row else [row]:
            result = sample.get("result", sample)
            if result is None or result["status"] in UNDECIDED:
                continue
            code = sample["code"] if "code" in sample else _program(sample, tasks[task_id], chat)
            passes = result["status"] == "ok" and result["tests_total"] > 0
            compiles = result["status"] not in REJECTED
            yield Verified(task_id=task_id, code=code, compiles=compiles, passes=passes)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{where}: not a judged sample of a known task ({error!r}): give a run's own file, and its --tasks"
        ) from error


def _program(sample: Mapping[str, Any], task: Task, chat: bool) -> str:
    return read_completion(task, sample.get("prefix", "") + sample["completion"], chat).code
