"""What `python -m rlvr_cpp.evaluate` may be told.

Values live in `conf/evaluate.yaml` and `conf/benchmark/`; the groups `policy` and `verifier` are the trainers' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rlvr_cpp.policy.settings import PolicySettings, Sampling
from rlvr_cpp.runs.config import read_job
from rlvr_cpp.tasks.settings import BenchmarkSettings
from rlvr_cpp.verifier.settings import SandboxSettings, VerifierSettings

REPLAYED = ("canonical", "negated")
"""Models that replay reference solutions as they are, or wrong: the harness's test of itself."""


@dataclass(kw_only=True)
class EvaluationJob:
    """Everything that the command may be told."""

    seed: int = field(metadata={"least": 0, "most": 2**32 - 1})
    model: str
    """A shipped model, a Hugging Face id, a folder (of a model, a checkpoint, a run), `canonical` or `negated`."""
    adapter_from: str | None
    """The folder of an adapter to put on the model, or `registry:<project>`."""
    endpoint: str | None
    """Base URL of a server with OpenAI's API, such as `http://localhost:8000/v1`, that answers in the model's place."""
    completions: str | None = None
    """A file, or MultiPL-E's folder, of answers that were written elsewhere, judged in the place of a model's;
    `greedy`, `samples` and `temperature` are then what it has."""
    resume: str | None
    """The folder of an evaluation to go on with, with the config it has; nothing else can be set then."""
    greedy: bool
    """One greedy completion of each problem."""
    samples: int = field(metadata={"least": 0})
    """Sampled completions of each problem; 0 samples nothing. Replayed solutions are never sampled."""
    k: list[int]
    """Of each pass@k that the samples are for."""
    temperature: float
    """Of the sampled completions."""
    max_new_tokens: int = field(metadata={"least": 1})
    batch_size: int = field(metadata={"least": 1})
    """Completions that are written together; when they are judged they are on disk."""
    policy: PolicySettings
    verifier: VerifierSettings
    sandbox: SandboxSettings
    benchmark: BenchmarkSettings

    @property
    def sampling(self) -> Sampling:
        """How completions are drawn."""
        return Sampling(self.seed, self.temperature, self.max_new_tokens)

    @property
    def sampled(self) -> int:
        """How many sampled completions of each problem there will be."""
        return 0 if self.model in REPLAYED else self.samples


def load(raw: Any) -> EvaluationJob:
    """What Hydra composed, checked. Raises UserError naming every key that is wrong."""
    return read_job(raw, EvaluationJob, find_problems)


def find_problems(job: EvaluationJob) -> Iterator[str]:
    """Each a sentence with the key, its value and the fix."""
    if job.benchmark.source is None and job.benchmark.name != "tasks":
        yield f"benchmark.source is null: the problems of {job.benchmark.name} are not shipped; give a file"
    yield from _sampling_problems(job)
    yield from _model_problems(job)


def _sampling_problems(job: EvaluationJob) -> Iterator[str]:
    if not (job.greedy or job.sampled):
        yield "greedy is false and nothing is sampled: there is nothing to measure; use greedy=true"
    if not job.sampled:
        return
    if not job.k:
        yield f"k is [] with samples {job.samples}: say which pass@k, such as k=[1]"
    for k in job.k:
        if not 1 <= k <= job.samples:
            yield (
                f"k is {k} and samples is {job.samples}: pass@k needs at least k samples and a k of at least 1; use "
                f"samples={max(k, job.samples)} or leave that k out"
            )
    if not job.temperature > 0:
        yield f"temperature is {job.temperature}: sampling needs a positive number; for greedy alone use samples=0"


def _model_problems(job: EvaluationJob) -> Iterator[str]:
    if job.completions is not None:
        given = {"adapter_from": job.adapter_from, "endpoint": job.endpoint}
        given |= {"model": job.model} if job.model in REPLAYED else {}
        for key, value in given.items():
            if value is not None:
                yield f"{key} is {value!r} with completions {job.completions!r}, which need no model: leave one out"
        return
    if job.model in REPLAYED:
        for key, value in (("adapter_from", job.adapter_from), ("endpoint", job.endpoint)):
            if value is not None:
                yield f"{key} is {value!r} with model {job.model!r}, which replays solutions: use null"
        if not job.greedy:
            yield f"greedy is false with model {job.model!r}, which answers always the same: use greedy=true"
    if job.endpoint is None:
        return
    if not job.endpoint.startswith(("http://", "https://")):
        yield f"endpoint is {job.endpoint!r}: it must be a URL such as http://localhost:8000/v1"
    if job.adapter_from is not None:
        yield f"adapter_from is {job.adapter_from!r} with an endpoint: the server has to load it; use null"
    if job.policy.prompt_format == "auto":
        yield "policy.prompt_format is 'auto' with an endpoint, which does not tell: use completion or chat"
