"""The command's acts: prepare, search on every task, judge the candidates by the hidden tests.

What was found about a task is one line of `candidates.jsonl`, written when all of it is known. A run that goes on keeps
the whole lines and searches on the other tasks. A candidate depends on its seed alone, so the end is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import transformers

from rlvr_cpp.adapters.locate import find_weights, put_adapter_on
from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.policy import Policy, load_policy
from rlvr_cpp.policy.sampling import completion_seed
from rlvr_cpp.policy.weights import weights_hash
from rlvr_cpp.reward.score import Payment
from rlvr_cpp.reward.shaping import open_score
from rlvr_cpp.runs import interruption
from rlvr_cpp.runs.console import console, progress_bar
from rlvr_cpp.runs.files import contract_hash
from rlvr_cpp.runs.record import FILE, RunRecord, read_record
from rlvr_cpp.search.config import BestOfNJob
from rlvr_cpp.search.generate import best_of_n_generate
from rlvr_cpp.search.outcome import Outcome
from rlvr_cpp.search.search import TaskScore
from rlvr_cpp.tasks.choice import choose_tasks
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.verifier.contract import verifier_contract
from rlvr_cpp.verifier.toolchain.store import content_key
from rlvr_cpp.verifier.verifier import Verifier, open_verifier
from rlvr_sandbox import describe

CANDIDATES = "candidates.jsonl"


@dataclass
class Parts:
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
def prepare(job: BestOfNJob, folder: Path) -> Iterator[Parts]:
    """Load and check everything, then open the run's record. Raises UserError for whatever is wrong."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tasks = _choose(job)
    with ExitStack() as stack:
        verifier = stack.enter_context(open_verifier(job.verifier, job.sandbox.require))
        verifier.check(task.std for task in tasks)
        score = stack.enter_context(open_score(job.reward, verifier, job.seed))
        model, adapter = find_weights(job.model, job.adapter_from)
        policy = load_policy(model, job.policy)
        fixed = _fixed(policy, tasks, verifier)
        if adapter is not None:
            fixed["adapter_hash"] = put_adapter_on(policy, Path(adapter))
        _refuse_changes(folder, fixed)
        record = stack.enter_context(RunRecord(folder, job, verifier.version))
        record.add(**fixed)
        console.print(
            f"model   {model}{f' with {adapter}' if adapter else ''}\n"
            f"tasks   {len(tasks)}, {job.n} candidates each\n"
            f"judge   {verifier.version}, {describe(verifier.workshop.controls)}\n"
            f"run     {folder}",
            soft_wrap=True,
        )
        yield Parts(job, folder, record, tasks, policy, verifier, score.paid)


def _choose(job: BestOfNJob) -> list[Task]:
    settings = job.tasks
    if job.split == "all":
        tasks = load_tasks(settings.source or BUILTIN, config=settings.config, split=settings.split)
    else:
        tasks = choose_tasks(settings, None, job.seed)[job.split == "held_out"]
    count = min(job.limit or len(tasks), len(tasks))
    return [tasks[i * len(tasks) // count] for i in range(count)]


def _fixed(policy: Policy, tasks: Sequence[Task], verifier: Verifier) -> dict[str, str]:
    """What has to stay the same when a run goes on."""
    return {
        "tasks_hash": content_key([task.to_json() for task in tasks]),
        "contract_hash": contract_hash(verifier_contract(verifier)),
        "model_hash": weights_hash(policy.model.named_parameters()),
    }


def _refuse_changes(folder: Path, fixed: dict[str, str]) -> None:
    known = read_record(folder)["results"] if (folder / FILE).exists() else {}
    if changed := [name for name, value in fixed.items() if known.get(name, value) != value]:
        raise UserError(
            f"{' and '.join(changed)} of the run in {folder} is another than now: the tasks, the judge or the weights "
            "have changed since; begin a new one"
        )


def search_all(parts: Parts) -> list[Outcome]:
    """Every task's outcome, in the order of the tasks; those that the folder holds already are read from there."""
    path = parts.folder / CANDIDATES
    known = _read_outcomes(path)
    with path.open("a") as file, progress_bar("sample and judge", len(parts.tasks)) as advance:
        for task in parts.tasks:
            interruption.check()
            if task.task_id not in known:
                known[task.task_id] = outcome = _search(parts, task)
                file.write(outcome.to_json() + "\n")
                file.flush()
            advance()
    return [known[task.task_id] for task in parts.tasks]


def _read_outcomes(path: Path) -> dict[str, Outcome]:
    """By task; a line that was not written to its end is taken back."""
    if not path.exists():
        return {}
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(lines))
    partial.replace(path)
    return {outcome.task_id: outcome for outcome in map(Outcome.from_json, lines)}


def _search(parts: Parts, task: Task) -> Outcome:
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
        length=job.length,
        budget_s=job.budget_s,
    )
    programs = [task.program(sample.code, hidden=True) for sample in found.samples]
    hidden = (
        None if result.status == "sandbox_error" else result.passed for result in parts.verifier.verify_many(programs)
    )
    return Outcome(task.task_id, task.prompt, found, tuple(hidden))


def _score(paid: Payment, task: Task) -> TaskScore:
    """The rewards of one task's candidates, which are one group."""
    references = {} if task.reference is None else {task.task_id: task.program(task.prompt + task.reference)}
    return lambda programs, results: paid(programs, results, [task.task_id] * len(programs), references)
