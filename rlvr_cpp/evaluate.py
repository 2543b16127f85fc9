"""Measure a policy on tasks it is not trained on: greedy and sampled pass@1, judged by the hidden tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import Any

from rlvr_cpp.completion import read_completion
from rlvr_cpp.config import EvaluationSettings, GRPOConfig
from rlvr_cpp.policy import Policy, evaluation_seeds, generate
from rlvr_cpp.progress import progress_bar
from rlvr_cpp.result import VerifyResult
from rlvr_cpp.statistics import Estimate, wilson
from rlvr_cpp.tasks import Task
from rlvr_cpp.verifier import Verifier


@dataclass(frozen=True)
class Attempt:
    """One completion of one task and what became of it."""

    task_id: str
    completion: str
    result: VerifyResult


@dataclass(frozen=True)
class Evaluation:
    """Attempts at the same tasks: one greedy each, and as many sampled as were asked for."""

    greedy: tuple[Attempt, ...]
    sampled: tuple[Attempt, ...]
    """Sample by sample: the first of every task, then the second."""

    @property
    def unscorable(self) -> int:
        """Attempts that the infrastructure failed to judge; they count in no rate."""
        return sum(a.result.status == "sandbox_error" for a in (*self.greedy, *self.sampled))

    def greedy_passes(self) -> dict[str, bool]:
        """By task: did the greedy completion pass every hidden test."""
        return {a.task_id: a.result.passed for a in self.greedy if a.result.status != "sandbox_error"}

    def sampled_rates(self) -> dict[str, float]:
        """By task: the share of sampled completions that passed."""
        outcomes: dict[str, list[bool]] = {}
        for attempt in self.sampled:
            if attempt.result.status != "sandbox_error":
                outcomes.setdefault(attempt.task_id, []).append(attempt.result.passed)
        return {task_id: sum(passed) / len(passed) for task_id, passed in outcomes.items()}

    def greedy_pass_at_1(self) -> Estimate:
        """With Wilson's interval."""
        return pass_rate(list(self.greedy_passes().values()))

    def save(self, path: Path) -> None:
        """Every attempt, one JSON object a line; all or nothing."""
        kinds = [("greedy", attempt) for attempt in self.greedy] + [("sampled", attempt) for attempt in self.sampled]
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text("".join(json.dumps({"kind": kind, **asdict(attempt)}) + "\n" for kind, attempt in kinds))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """What `save` wrote."""
        attempts: dict[str, list[Attempt]] = {"greedy": [], "sampled": []}
        for line in path.read_text().splitlines():
            row = json.loads(line)
            result = VerifyResult.from_json(json.dumps(row["result"]))
            attempts[row["kind"]].append(Attempt(row["task_id"], row["completion"], result))
        return cls(tuple(attempts["greedy"]), tuple(attempts["sampled"]))


def join_evaluations(shares: Sequence[Evaluation]) -> Evaluation:
    """One evaluation of what processes measured each on every n-th task, in the order of the tasks."""

    def dealt_back(parts: list[tuple[Attempt, ...]]) -> tuple[Attempt, ...]:
        longest = max(map(len, parts))
        return tuple(part[i] for i in range(longest) for part in parts if i < len(part))

    return Evaluation(dealt_back([s.greedy for s in shares]), dealt_back([s.sampled for s in shares]))


def pass_rate(passes: Sequence[bool]) -> Estimate:
    """The share that passed with Wilson's interval; NaN where nothing could be judged."""
    return wilson(sum(passes), len(passes)) if passes else Estimate(nan, nan, nan)


def evaluate(
    policy: Policy,
    tasks: Sequence[Task],
    verifier: Verifier,
    algorithm: GRPOConfig,
    settings: EvaluationSettings,
    *,
    seed: int,
    label: str,
    samples: int | None = None,
) -> Evaluation:
    """Generate, judge, and keep everything. `samples` overrides the settings' number of sampled completions."""
    count = settings.samples if samples is None else samples
    wanted = [task for _ in range(1 + count) for task in tasks]
    lengths: dict[str, Any] = {"max_new_tokens": algorithm.max_gen_len, "batch_size": settings.batch_size}
    with progress_bar(f"{label}: generate", len(wanted)) as advance:
        completions = generate(policy, tasks, on_finished=advance, **lengths)
        if count:
            sampled = wanted[len(tasks) :]
            completions += generate(
                policy,
                sampled,
                temperature=algorithm.temperature,
                seeds=evaluation_seeds(sampled, seed),
                on_finished=advance,
                **lengths,
            )
    programs = [
        task.program(read_completion(task, completion, policy.chat).code, hidden=True)
        for task, completion in zip(wanted, completions, strict=True)
    ]
    with progress_bar(f"{label}: compile and run", len(programs)) as advance:
        results = verifier.verify_many(programs, advance)
    attempts = [
        Attempt(task.task_id, completion, result)
        for task, completion, result in zip(wanted, completions, results, strict=True)
    ]
    return Evaluation(tuple(attempts[: len(tasks)]), tuple(attempts[len(tasks) :]))
