"""What streaming, an early stop and a budget are worth: `python -m benchmarks.best_of_n --tasks 24 --n 8 --seed 0`.

The embedded model on held-out tasks, the same candidates for every way, each way with a cache of results of its own,
task by task in turn so that what else the machine does falls on all of them: all sampled and then judged in one batch;
judged while others are being written; ended by the first full pass; ended by a budget. Seconds are the median over
tasks. What a budget is overrun by is the time from its end to the answer, with everything that was running ended.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from rlvr_cpp.policy.policy import Policy, load_policy
from rlvr_cpp.policy.sampling import completion_seed, sample
from rlvr_cpp.policy.settings import PolicySettings
from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.runs.console import console
from rlvr_cpp.runs.pages import print_table
from rlvr_cpp.search.generate import best_of_n_generate
from rlvr_cpp.search.ranking import best_first, code_length
from rlvr_cpp.search.search import BestOfN
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.verifier.verifier import Verifier

LENGTH = 96
BUDGET = 0.5
Search = Callable[[Task, Verifier], tuple[str | None, int]]
"""The chosen program and how many candidates were judged."""


@dataclass
class Way:
    """One way to search and what came of it."""

    name: str
    search: Search
    verifier: Verifier
    seconds: list[float] = field(default_factory=list)
    passed: int = 0
    judged: int = 0

    def take(self, task: Task, judge: Verifier) -> None:
        """Search on one task."""
        begin = time.monotonic()
        code, judged = self.search(task, self.verifier)
        self.seconds.append(time.monotonic() - begin)
        self.judged += judged
        self.passed += code is not None and judge.verify(task.program(code, hidden=True)).passed


@torch.no_grad()
def afterwards(policy: Policy, task: Task, verifier: Verifier, n: int, seed: int) -> tuple[str | None, int]:
    """Sample everything, then judge everything: the same candidates."""
    completions = sample(
        policy.model,
        [policy.prompt_ids(task)] * n,
        max_new_tokens=LENGTH,
        eos_ids=policy.eos_ids,
        pad_id=policy.tokenizer.pad_token_id,
        temperature=1.0,
        seeds=[completion_seed("best_of_n", seed, index) for index in range(n)],
    )
    codes = [read_completion(task, policy.decode(ids), policy.chat, policy.thoughts).code for ids in completions]
    rewards = [compute_reward(result) for result in verifier.verify_many(map(task.program, codes))]
    return codes[best_first(rewards, list(map(code_length, codes)))[0]], n


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    held_out = [task for task in load_tasks(BUILTIN) if task.split == "held_out"]
    tasks = [held_out[i * len(held_out) // options.tasks] for i in range(options.tasks)]
    policy = load_policy("tiny-cpp", PolicySettings("float32", None, "cpu", None, "auto", 1))
    overruns: list[float] = []

    def searching(**ways: Any) -> Search:
        def search(task: Task, verifier: Verifier) -> tuple[str | None, int]:
            code, found = best_of_n_generate(
                policy.model,
                policy.prompt_ids(task),
                policy.tokenizer,
                options.n,
                task,
                verifier,
                seed=options.seed,
                max_new_tokens=LENGTH,
                **ways,
            )
            note(found, ways.get("budget_s"))
            return code, len(found.samples) - found.unjudged

        return search

    def note(found: BestOfN, budget: float | None) -> None:
        if budget is not None and found.ended == "budget":
            overruns.append(found.seconds - budget)

    with ExitStack() as stack:
        judge, *verifiers = [stack.enter_context(Verifier(timeout=2.0)) for _ in range(5)]
        searches: list[tuple[str, Search]] = [
            ("sampled, then judged", lambda t, v: afterwards(policy, t, v, options.n, options.seed)),
            ("judged while sampled", searching()),
            ("ended by a full pass", searching(stop_at_full_pass=True)),
            (f"a budget of {BUDGET} s", searching(budget_s=BUDGET)),
        ]
        ways = [Way(*search, verifier) for search, verifier in zip(searches, verifiers, strict=True)]
        for task in tasks:
            judge.verify(task.program(f"{task.prompt}{task.reference}"))  # builds what its tests need, for all ways
            for way in ways:
                way.take(task, judge)
    base = statistics.median(ways[0].seconds)
    rows = [
        (way.name, f"{seconds:.2f}", f"{seconds / base:.2f}", str(way.judged), f"{way.passed}/{len(tasks)}")
        for way in ways
        for seconds in [statistics.median(way.seconds)]
    ]
    columns = ("", "seconds a task", "ratio", "judged", "passes hidden")
    print_table(console, f"best of {options.n} on {len(tasks)} tasks", columns, rows)
    late = f", by {statistics.median(overruns):.3f} s in the median, {max(overruns):.3f} s at most" if overruns else ""
    console.print(f"searches that their budget ended: {len(overruns)} of {len(tasks)}{late}", soft_wrap=True)


if __name__ == "__main__":
    main()
