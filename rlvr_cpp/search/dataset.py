"""A training set from searched tasks: one row a task, with the chosen candidate, a rejected one, and all of them.

The columns `prompt`, `chosen`, `rejected` are what preference trainers read; `prompt` and `chosen` alone are what
fine-tuning reads. Candidates that were not scored are in no row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvr_cpp.policy.policy import Policy
from rlvr_cpp.runs.files import replace_text
from rlvr_cpp.search.search import Sample
from rlvr_cpp.search.searched import Searched
from rlvr_cpp.tasks.task import Task

DATASET_FILE = "train.jsonl"


def write_dataset(outcomes: Sequence[Searched], policy: Policy, tasks: Sequence[Task], folder: Path) -> Path:
    """Write `train.jsonl`, all or nothing, into a folder that `datasets.load_dataset` takes."""
    by_id = {task.task_id: task for task in tasks}
    rows = [row for outcome in outcomes if (row := dataset_row(outcome, policy, by_id[outcome.task_id])) is not None]
    folder.mkdir(exist_ok=True)
    path = folder / DATASET_FILE
    replace_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def dataset_row(outcome: Searched, policy: Policy, task: Task) -> dict[str, Any] | None:
    """One row; None where no candidate was scored.

    `chosen` is the best candidate, `rejected` the worst where that has a lower reward, else None: candidates that tie
    say nothing about each other but their length. Texts are the code behind the prompt, or, where the model is asked in
    a chat, messages.
    """
    ranked = [sample for i in outcome.found.order if (sample := outcome.found.samples[i]).reward is not None]
    if not ranked:
        return None
    best, worst = ranked[0], ranked[-1]
    lower = worst.reward != best.reward
    return {
        "task_id": task.task_id,
        "prompt": policy.prompt(task),
        "chosen": _answer(best, policy, task),
        "rejected": _answer(worst, policy, task) if lower else None,
        "chosen_reward": best.reward,
        "rejected_reward": worst.reward if lower else None,
        "chosen_passes": best.result is not None and best.result.passed,
        "all": [_candidate(rank, sample, policy, task) for rank, sample in enumerate(ranked)],
    }


def _answer(sample: Sample, policy: Policy, task: Task) -> str | list[dict[str, str]]:
    if policy.chat:
        return [{"role": "assistant", "content": sample.completion}]
    return sample.code.removeprefix(task.prompt)  # without what a base model writes behind the closing brace


def _candidate(rank: int, sample: Sample, policy: Policy, task: Task) -> Mapping[str, Any]:
    assert sample.result is not None
    return {
        "rank": rank,
        "completion": _answer(sample, policy, task),
        "reward": sample.reward,
        "length": sample.length,
        "status": sample.result.status,
        "tests_passed": sample.result.tests_passed,
        "tests_total": sample.result.tests_total,
        "seed": sample.seed,
    }
