"""Whether a curriculum's prefixes make its tasks easier: asked once, before the first step, at the price of a batch.

A prefix that ends where the policy has never seen a text end makes tasks harder, and the curriculum then never gives
less. So some tasks are answered with their prefix and without, from the same seeds, and the pairs are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from rlvr_cpp.policy.openings import Opening
from rlvr_cpp.policy.policy import Policy
from rlvr_cpp.policy.sampling import completion_seed, for_inference, sample
from rlvr_cpp.policy.settings import Sampling
from rlvr_cpp.runs import processes
from rlvr_cpp.runs.statistics import mcnemar_p
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.guards.canary import Judge
from rlvr_cpp.training.guards.guards import Finding
from rlvr_cpp.verifier.result import VerifyResult

SIGNIFICANT = 0.05
Pair = tuple[VerifyResult, VerifyResult]
"""What became of a task with its prefix and without."""


def prefix_finding(pairs: Sequence[Pair]) -> Finding | None:
    """A warning where fewer programs compile or pass with their prefix than without, by more than chance."""
    worse = [
        f"{name} {fmean(given):.2f} of {len(pairs)} tasks with it and {fmean(bare):.2f} without"
        for name, given, bare in (
            ("compile", [pair[0].compile_ok for pair in pairs], [pair[1].compile_ok for pair in pairs]),
            ("pass", [pair[0].passed for pair in pairs], [pair[1].passed for pair in pairs]),
        )
        if sum(given) < sum(bare) and mcnemar_p(given, bare) < SIGNIFICANT
    ]
    if not worse:
        return None
    return Finding(
        "prefix_harder",
        f"the prefixes of the curriculum make its tasks harder: {' and '.join(worse)}; look at prefix and completion "
        "in completions.jsonl for how this model takes a text up that it did not begin, or set stepcoder.cccs=false",
        fatal=False,
    )


def answered_both_ways(
    policy: Policy,
    openings: Mapping[Task, Opening],
    judge: Judge,
    sampling: Sampling,
) -> list[Pair]:
    """Tasks answered with their opening and without, shared out to the processes; those that could be judged."""
    own = processes.share_of(list(openings.items()))
    asked = [(task, opening) for task, given in own for opening in (given, Opening())]
    with for_inference(policy.model):
        answers = sample(
            policy.model,
            [[*policy.prompt_ids(task), *opening.ids] for task, opening in asked],
            max_new_tokens=sampling.max_new_tokens,
            eos_ids=policy.eos_ids,
            pad_id=policy.tokenizer.pad_token_id,
            temperature=sampling.temperature,
            seeds=[completion_seed("prefix", sampling.seed, task.task_id) for task, _ in asked],
        )
    results = judge.verify_many(
        task.program(read_completion(task, opening.text + policy.decode(ids), policy.chat, policy.thoughts).code)
        for (task, opening), ids in zip(asked, answers, strict=True)
    )
    given, bare = results[::2], results[1::2]
    pairs = {task.task_id: pair for (task, _), pair in zip(own, zip(given, bare, strict=True), strict=True)}
    everyone = {name: pair for share in processes.of_everyone(pairs) for name, pair in share.items()}
    return [pair for pair in everyone.values() if "sandbox_error" not in (pair[0].status, pair[1].status)]
