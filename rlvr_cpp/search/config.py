"""What `python -m rlvr_cpp.best_of_n` may be told.

Values live in `conf/best_of_n.yaml` and the groups that it shares with the trainers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, get_args

from rlvr_cpp.policy.settings import PolicySettings
from rlvr_cpp.reward.own import reward_problems
from rlvr_cpp.reward.settings import RewardSettings
from rlvr_cpp.runs.config import read_job
from rlvr_cpp.tasks.settings import TaskSettings
from rlvr_cpp.verifier.settings import SandboxSettings, VerifierSettings

Length = Literal["code", "raw"]
"""The length that ranks equal rewards: of the code without comments and white space, or of the text."""
LENGTHS = get_args(Length)


@dataclass(kw_only=True)
class BestOfNJob:
    """Everything that the command may be told."""

    seed: int = field(metadata={"least": 0, "most": 2**32 - 1})
    model: str
    """The name of a shipped model, `demo` for the embedded one, a Hugging Face id, or a local folder."""
    adapter_from: str | None
    """Folder of an adapter to put on the model, or `registry:<project>`; None is the model alone."""
    resume: str | None
    """The folder of a run to go on with, with the config it has; nothing else can be set then."""
    n: int
    """Candidates of each task."""
    temperature: float
    max_new_tokens: int
    batch_size: int | None
    """Candidates that are sampled together; None is all of a task."""
    length: str
    """What ranks equal rewards: `code` (characters without comments and white space) or `raw`."""
    budget_s: float | None
    """Seconds a task, after which the best so far counts; None waits for all candidates."""
    split: str = field(metadata={"choices": ("held_out", "train", "all")})
    """Which tasks: `held_out`, `train` or `all`."""
    limit: int | None = field(metadata={"least": 1})
    """At most so many tasks, evenly spaced."""
    dataset: bool
    """Write a training set as well: prompt, chosen, rejected and all candidates of each task."""
    policy: PolicySettings
    tasks: TaskSettings
    verifier: VerifierSettings
    sandbox: SandboxSettings
    reward: RewardSettings


def load(raw: Any) -> BestOfNJob:
    """What Hydra composed, checked. Raises UserError naming every key that is wrong."""
    return read_job(raw, BestOfNJob, _problems)


def _problems(job: BestOfNJob) -> Iterator[str]:
    yield from search_problems(job.n, job.temperature, job.max_new_tokens, job.batch_size, job.length, job.budget_s)
    yield from reward_problems(job.reward.kind)
    if job.reward.kind == "shaped" and job.budget_s is not None:
        yield f"reward.kind is 'shaped' with budget_s {job.budget_s}: its measurements know no budget; use reward=tiers"
    if job.dataset and job.split != "train":
        yield (
            f"dataset is true with split {job.split!r}: a model that is trained on held-out tasks cannot be measured "
            "on them; use split=train"
        )


def search_problems(
    n: int, temperature: float, max_new_tokens: int, batch_size: int | None, length: str, budget_s: float | None
) -> Iterator[str]:
    """What cannot be searched for, each a sentence with the argument, its value and the fix."""
    for name, value in (("n", n), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value is not None and value < 1:
            yield f"{name} is {value}: it must be at least 1"
    if not 0 < temperature < inf:
        yield f"temperature is {temperature}: candidates that differ need a positive number"
    if length not in LENGTHS:
        yield f"length is {length!r}: it must be one of {', '.join(LENGTHS)}"
    if budget_s is not None and not 0 < budget_s < inf:
        yield f"budget_s is {budget_s}: it must be a positive number of seconds, or null for no limit"
