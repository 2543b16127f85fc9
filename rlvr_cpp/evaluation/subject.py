"""From the words for a model to something that answers: which weights, which adapter, and the hashes of both.

A folder may hold a model, an adapter (a training run's, a checkpoint's, an artifact of the registry) or a whole run: an
adapter's folder tells its base, a run's folder what it trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlvr_cpp.adapters.locate import find_weights, put_adapter_on
from rlvr_cpp.evaluation.config import REPLAYED, EvaluationJob
from rlvr_cpp.policy.completers import Completer, Replay
from rlvr_cpp.tasks.negation import negated_solution
from rlvr_cpp.tasks.task import Task


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    completer: Completer
    model: str
    model_hash: str | None = None
    """None where there are no weights to see."""
    adapter: str | None = None
    adapter_hash: str | None = None

    @property
    def prompt_format(self) -> str:
        """`chat` or `completion`."""
        return "chat" if self.completer.chat else "completion"


def open_subject(job: EvaluationJob) -> Subject:
    """Load what the job names. Raises UserError where it cannot be."""
    if job.model in REPLAYED:
        return Subject(Replay(_reference if job.model == "canonical" else negated_solution), job.model)
    if job.endpoint is not None:
        from rlvr_cpp.policy.endpoint import Endpoint

        chat = job.policy.prompt_format == "chat"
        answerer = Endpoint(job.endpoint, job.model, chat, job.seed, job.temperature, job.max_new_tokens)
        return Subject(answerer, job.model)
    return _open_local(job)


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
    completer = LocalModel(policy, job.seed, job.temperature, job.max_new_tokens)
    return Subject(completer, model, model_hash, job.adapter_from or adapter, adapter_hash)
