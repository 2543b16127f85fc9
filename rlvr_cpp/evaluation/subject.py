"""From the words for a model to something that answers: which weights, which adapter, and the hashes of both.

A folder may hold a model, an adapter (a training run's, a checkpoint's, an artifact of the registry) or a whole run: an
adapter's folder tells its base, a run's folder what it trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlvr_cpp.adapters.locate import find_weights, put_adapter_on
from rlvr_cpp.evaluation.config import REPLAYED, EvaluationJob
from rlvr_cpp.policy.completers import Completer, Given, Replay
from rlvr_cpp.tasks.answers import Answers
from rlvr_cpp.tasks.negation import negated_solution
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.think import Thoughts
from rlvr_cpp.verifier.toolchain.store import content_key


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured."""

    completer: Completer
    model: str
    model_hash: str | None = None
    """None where there are no weights to see."""
    adapter: str | None = None
    adapter_hash: str | None = None
    completions_hash: str | None = None
    """None where the answers are still to be written."""

    @property
    def prompt_format(self) -> Literal["chat", "completion"]:
        """How it is asked."""
        return "chat" if self.completer.chat else "completion"


def open_subject(job: EvaluationJob) -> Subject:
    """Load what the job names. Raises UserError where it cannot be."""
    if job.model in REPLAYED:
        answer = _reference if job.model == "canonical" else negated_solution
        return Subject(completer=Replay(answer), model=job.model)
    if job.endpoint is not None:
        from rlvr_cpp.policy.endpoint import Endpoint
        from rlvr_cpp.policy.thinking import markers_of

        chat = job.policy.prompt_format == "chat"
        answerer = Endpoint(
            url=job.endpoint,
            model=job.model,
            chat=chat,
            sampling=job.sampling,
            thoughts=Thoughts(markers_of(job.policy)),
            asked=job.policy.chat,
        )
        return Subject(completer=answerer, model=job.model)
    return _open_local(job)


def given_subject(job: EvaluationJob, answers: Answers) -> Subject:
    """The answers of a file, read as `policy.prompt_format` says, or as the names of its fields do."""
    from rlvr_cpp.policy.thinking import markers_of

    chat = {"auto": answers.are_whole, "chat": True, "completion": False}[job.policy.prompt_format]
    return Subject(
        completer=Given(answers.by_task, chat, Thoughts(markers_of(job.policy))),
        model=str(job.completions),
        completions_hash=content_key(answers.by_task),
    )


def _reference(task: Task) -> str:
    if task.reference is None:
        raise ValueError(f"task {task.task_id!r} has no reference solution")
    return task.reference


def _open_local(job: EvaluationJob) -> Subject:
    from rlvr_cpp.policy.completers import LocalModel
    from rlvr_cpp.policy.policy import load_policy
    from rlvr_cpp.policy.weights import weights_hash

    model, adapter = find_weights(job.model, job.adapter_from)
    policy = load_policy(model, job.policy)
    model_hash = weights_hash(policy.model.named_parameters())
    adapter_hash = None if adapter is None else put_adapter_on(policy, Path(adapter))
    return Subject(
        completer=LocalModel(policy, job.sampling),
        model=model,
        model_hash=model_hash,
        adapter=job.adapter_from or adapter,
        adapter_hash=adapter_hash,
    )
