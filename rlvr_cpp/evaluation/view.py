"""The page of samples of a run that has ended, was stopped or still goes on, from its folder alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.evidence import EVIDENCE_FILE, EvaluationRecord
from rlvr_cpp.runs.record import read_record
from rlvr_cpp.runs.samples import write_page
from rlvr_cpp.tasks.benchmarks import load_benchmark
from rlvr_cpp.tasks.settings import BenchmarkSettings, TaskSettings
from rlvr_cpp.tasks.sources import load_sources
from rlvr_cpp.tasks.task import Task


def view(folder: Path) -> Path:
    """Write the page. Raises UserError where there is no run, or none that has judged anything."""
    record = read_record(folder)
    return write_page(
        folder,
        f"{record['config']['model']}, {folder.name}",
        _tasks(record["config"]),
        is_continued=_continues(folder, record),
    )


def _tasks(config: Mapping[str, Any]) -> Sequence[Task]:
    """Those of a run's config; none, and a warning, where they are not there any more."""
    try:
        if "benchmark" in config:
            return load_benchmark(BenchmarkSettings(**config["benchmark"])).tasks
        return [task for source in load_sources(TaskSettings(**config["tasks"])) for task in source.tasks]
    except (UserError, KeyError, TypeError) as error:  # of keys that another version had
        print(f"prompts are not shown: {error}", file=sys.stderr)
        return []


def _continues(folder: Path, record: Mapping[str, Any]) -> bool:
    if (folder / EVIDENCE_FILE).exists():
        return EvaluationRecord.load(folder / EVIDENCE_FILE).prompt_format == "completion"
    return not record["results"].get("prompt", {}).get("chat", False)
