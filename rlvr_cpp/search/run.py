"""The command's acts: prepare, search on every task, judge the candidates by the hidden tests.

What was found about a task is one line of `candidates.jsonl`, written when all of it is known. A run that goes on keeps
the whole lines and searches on the other tasks. A candidate depends on its seed alone, so the end is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rlvr_cpp.adapters.locate import find_weights, put_adapter_on
from rlvr_cpp.policy.lengths import fitting
from rlvr_cpp.policy.policy import Policy, load_policy
from rlvr_cpp.policy.sampling import completion_seed
from rlvr_cpp.policy.weights import weights_hash
from rlvr_cpp.reward.configured import open_score
from rlvr_cpp.reward.own import own_reward_facts
from rlvr_cpp.reward.score import Judged, Payment
from rlvr_cpp.runs import interruption
from rlvr_cpp.runs.console import banner, progress_bar
from rlvr_cpp.runs.files import JsonLines, contract_hash
from rlvr_cpp.runs.record import RunRecord
from rlvr_cpp.search.config import BestOfNJob, Length
from rlvr_cpp.search.generate import best_of_n_generate
from rlvr_cpp.search.search import TaskScore
from rlvr_cpp.search.searched import Searched
from rlvr_cpp.tasks.choice import choose_tasks, evenly_spaced
from rlvr_cpp.tasks.reading.contract import answer_contract
from rlvr_cpp.tasks.sources import load_sources
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.toolchain.store import content_key
from rlvr_cpp.verifier.verifier import Verifier, open_verifier
from rlvr_sandbox import describe

CANDIDATES = "candidates.jsonl"


@dataclass(kw_only=True)
class Searching:
    """What a run works with."""

    job: BestOfNJob
    folder: Path
    record: RunRecord
    tasks: list[Task]
    policy: Policy
    verifier: Verifier
    paid: Payment
    """What makes rewards of results: the config's reward."""


@contextmanager
def prepare(job: BestOfNJob, folder: Path) -> Iterator[Searching]:
    """Load and check everything, then open the run's record. Raises UserError for whatever is wrong."""
    tasks = _choose(job)
    with ExitStack() as stack:
        verifier = stack.enter_context(open_verifier(job.verifier, job.sandbox.require))
        verifier.check(task.std for task in tasks)
        verifier.check_testlib(task.program("") for task in tasks)
        score = stack.enter_context(open_score(job.reward, verifier, job.seed))
        model, adapter = find_weights(job.model, job.adapter_from)
        policy = load_policy(model, job.policy)
        tasks = fitting(tasks, policy, job.tasks.max_prompt_tokens, job.max_new_tokens)
        fixed = _fixed(job, policy, tasks, verifier)
        if adapter is not None:
            fixed["adapter_hash"] = put_adapter_on(policy, Path(adapter))
        record = stack.enter_context(RunRecord(folder, job, verifier.version, fixed))
        banner(
            model=f"{model} with {adapter}" if adapter else model,
            tasks=f"{len(tasks)}, {job.n} candidates each",
            judge=f"{verifier.version}, {describe(verifier.workshop.controls.names)}",
            run=folder,
        )
        yield Searching(
            job=job,
            folder=folder,
            record=record,
            tasks=tasks,
            policy=policy,
            verifier=verifier,
            paid=score.paid,
        )


def _choose(job: BestOfNJob) -> list[Task]:
    settings = job.tasks
    if job.split == "all":
        tasks = [task for source in load_sources(settings) for task in source.tasks]
    else:
        tasks = choose_tasks(settings, None, job.seed)[job.split == "held_out"]
    return evenly_spaced(tasks, job.limit)


def _fixed(job: BestOfNJob, policy: Policy, tasks: Sequence[Task], verifier: Verifier) -> dict[str, Any]:
    """What has to stay the same when a run goes on."""
    return {
        "tasks_hash": content_key([task.to_json() for task in tasks]),
        "contract_hash": contract_hash(answer_contract(verifier)),
        "model_hash": weights_hash(policy.model.named_parameters()),
        "reward": own_reward_facts(job.reward.kind),
    }


def search_all(parts: Searching) -> list[Searched]:
    """Every task's outcome, in the order of the tasks; those that the folder holds already are read from there."""
    with (
        JsonLines(parts.folder / CANDIDATES, Searched.from_json) as log,
        progress_bar("sample and judge", len(parts.tasks)) as advance,
    ):
        found = {outcome.task_id: outcome for outcome in log.known}
        for task in parts.tasks:
            interruption.check()
            if task.task_id not in found:
                found[task.task_id] = _search(parts, task)
                log.write([found[task.task_id].to_json()])
            advance()
    return [found[task.task_id] for task in parts.tasks]


def _search(parts: Searching, task: Task) -> Searched:
    job = parts.job
    _, found = best_of_n_generate(
        parts.policy.model,
        parts.policy.prompt_ids(task),
        parts.policy.tokenizer,
        job.n,
        task,
        parts.verifier,
        seed=completion_seed("best_of_n", job.seed, task.task_id),
        temperature=job.temperature,
        max_new_tokens=job.max_new_tokens,
        batch_size=job.batch_size,
        chat=parts.policy.chat,
        score=_score(parts.paid, task),
        length=cast(Length, job.length),  # checked with the config
        budget_s=job.budget_s,
    )
    programs = [task.program(sample.code, hidden=True) for sample in found.samples]
    hidden = (
        None if result.status == "sandbox_error" else result.passed for result in parts.verifier.verify_many(programs)
    )
    return Searched(task_id=task.task_id, prompt=task.prompt, found=found, hidden=tuple(hidden))


def _score(paid: Payment, task: Task) -> TaskScore:
    """The rewards of one task's candidates, which are one group."""
    return lambda programs, results: paid(
        [
            Judged(task, "", "\n".join(program.files.values()), program, result, task.task_id)
            for program, result in zip(programs, results, strict=True)
        ]
    )
