"""The typed door: what a job may be told, and the one place that reads Hydra's answer.

Values live in `conf/`; here are their types, units and meaning. Below `load` nobody sees an OmegaConf object. What
depends on several keys at once is checked by `check`, before anything heavy is loaded, and all problems are told
together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlvr_cpp.errors import UserError

_PACKAGED = Path(__file__).parent / "conf"
CONF = str(_PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1] / "conf")
"""The folder of the YAML files: inside the package once installed, beside it in a checkout."""


_STEPS = "a rollout step is counted by it; use trainer.steps, trainer.batch_size, algorithm.num_minibatches"
RESERVED = {
    **dict.fromkeys(
        (
            "num_iterations",
            "steps_per_generation",
            "generation_batch_size",
            "gradient_accumulation_steps",
            "per_device_train_batch_size",
            "max_steps",
            "logging_steps",
            "num_generations",
        ),
        _STEPS,
    ),
    "loss_type": "the group rules are proved for GSPO's own",
    "importance_sampling_level": "GSPO's ratio is the sequence's",
    "output_dir": "it is the run folder; use hydra.run.dir",
    "seed": "use seed",
}
"""Arguments of trl that this job decides itself, and why."""


@dataclass
class PolicySettings:
    """How the model is loaded and asked."""

    dtype: str
    """Weights and compute: `float32` or `bfloat16`."""
    device: str
    """`auto` is a GPU where there is one; else `cpu`, `cuda`, `cuda:1`, ..."""
    attn_implementation: str | None
    """Passed to transformers: `sdpa`, `eager`, `flash_attention_2`; None lets it choose."""
    prompt_format: str
    """`completion` continues the prompt, `chat` asks through the chat template, `auto` looks whether there is one."""
    threads: int | None
    """CPU threads of torch; None leaves torch's own choice."""


@dataclass
class AdapterSettings:
    """A LoRA adapter through peft; `enabled: false` trains every weight."""

    enabled: bool
    rank: int
    alpha: int
    dropout: float
    targets: list[str]
    """Names of linear layers, or the one word `all-linear`."""


@dataclass
class TaskSettings:
    """Where tasks come from."""

    source: str | None
    """None is the shipped set; else a `.jsonl` path or the name of a data set."""
    config: str | None
    """The data set's configuration."""
    split: str | None
    """The data set's split."""
    held_out_fraction: float
    """Set aside for evaluation where the source marks no task `held_out`."""


@dataclass
class VerifierSettings:
    """How programs are judged."""

    compiler: str
    extra_flags: list[str]
    timeout: float
    """CPU seconds of a run; it may take twice as long and a second on the clock."""
    compile_timeout: float
    """CPU seconds of a build; the same for the clock."""
    workers: int | None
    """Programs at a time; None is one more than there are cores."""
    cache: str | None
    """A file of results that runs share; None keeps them in memory."""


@dataclass
class SandboxSettings:
    """How untrusted programs are kept apart."""

    require: str
    """What the host must give: `any`, `contained` or `full`; see `python -m rlvr_sandbox doctor`."""


@dataclass
class GSPOConfig:
    """The algorithm: group sequence policy optimisation (arXiv 2507.18071) with a KL term and group discard."""

    group_size: int = 8
    """Completions of each prompt; their mean reward is the baseline."""
    kl_coeff: float = 0.1
    """Weight of the k3 estimate of KL to the reference, a token."""
    clip_eps: float = 0.2
    """The sequence ratio is clipped to 1 - clip_eps ..."""
    clip_eps_high: float | None = None
    """... 1 + clip_eps_high; None is clip_eps. The paper's own band is 3e-4 / 4e-4."""
    max_gen_len: int = 512
    """Tokens of a completion."""
    temperature: float = 1.0
    num_minibatches: int = 2
    """Optimizer steps on each batch of completions. With one there is nothing to clip: GSPO equals GRPO."""


@dataclass
class TrainerSettings:
    """How long, how fast, how often."""

    steps: int
    """Rollout steps: one batch of completions each."""
    batch_size: int
    """Completions a step: prompts times group_size."""
    micro_batch_size: int | None
    """Completions in one forward pass; None is a whole mini-batch."""
    learning_rate: float
    lr_schedule: str
    """A transformers schedule: `constant`, `linear`, `cosine`, ..."""
    warmup_steps: int
    """Optimizer steps."""
    max_grad_norm: float
    gradient_checkpointing: bool
    save_every: int | None
    """Rollout steps between checkpoints; None saves what was trained at the end only."""
    trl: dict[str, Any] = field(default_factory=dict)
    """Other arguments of trl.GRPOConfig by their names, but for those in `RESERVED`."""


@dataclass
class EvaluationSettings:
    """How the policy is measured on held-out tasks."""

    samples: int
    """Sampled completions of each task, at the training temperature, beside the greedy one."""
    every: int | None
    """Rollout steps between greedy evaluations during training; None only measures before and after."""
    limit: int | None
    """At most so many held-out tasks."""
    batch_size: int
    """Prompts in one generation batch."""


@dataclass
class GSPOJob:
    """Everything that `python -m rlvr_cpp.gspo` may be told."""

    seed: int
    model: str
    """The name of a shipped model, a Hugging Face id, or a local folder."""
    policy: PolicySettings
    adapter: AdapterSettings
    tasks: TaskSettings
    verifier: VerifierSettings
    sandbox: SandboxSettings
    algorithm: GSPOConfig
    trainer: TrainerSettings
    evaluation: EvaluationSettings


def load(raw: Any) -> GSPOJob:
    """What Hydra composed, checked against the dataclasses. Raises UserError naming the key."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        job = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(GSPOJob), raw))
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"config key {error.full_key!r}: {reason}") from error
    assert isinstance(job, GSPOJob)
    check(job)
    return job


def check(job: GSPOJob) -> None:
    """Raise one UserError with every relation between keys that does not hold."""
    algorithm, trainer, evaluation = job.algorithm, job.trainer, job.evaluation
    problems = [
        f"{name} is {value}: it must be at least {least}"
        for name, value, least in (
            ("algorithm.group_size", algorithm.group_size, 2),
            ("algorithm.num_minibatches", algorithm.num_minibatches, 1),
            ("algorithm.max_gen_len", algorithm.max_gen_len, 1),
            ("algorithm.kl_coeff", algorithm.kl_coeff, 0),
            ("algorithm.clip_eps", algorithm.clip_eps, 0),
            ("adapter.rank", job.adapter.rank, 1),
            ("trainer.steps", trainer.steps, 1),
            ("trainer.batch_size", trainer.batch_size, 1),
            ("trainer.learning_rate", trainer.learning_rate, 0),
            ("trainer.warmup_steps", trainer.warmup_steps, 0),
            ("trainer.save_every", trainer.save_every, 1),
            ("evaluation.samples", evaluation.samples, 0),
            ("evaluation.every", evaluation.every, 1),
            ("evaluation.limit", evaluation.limit, 1),
            ("evaluation.batch_size", evaluation.batch_size, 1),
        )
        if value is not None and not value >= least
    ]
    if not problems:
        problems = _batch_problems(algorithm, trainer)
    problems += [
        f"trainer.trl.{name} cannot be set: {reason}" for name, reason in RESERVED.items() if name in trainer.trl
    ]
    if not algorithm.temperature > 0:
        problems.append(f"algorithm.temperature is {algorithm.temperature}: sampling needs a positive number")
    if not 0 < job.tasks.held_out_fraction < 1:
        problems.append(f"tasks.held_out_fraction is {job.tasks.held_out_fraction}: it must be between 0 and 1")
    if job.policy.dtype not in ("float32", "bfloat16"):
        problems.append(f"policy.dtype is {job.policy.dtype!r}: it must be float32 or bfloat16")
    if job.policy.prompt_format not in ("auto", "completion", "chat"):
        problems.append(f"policy.prompt_format is {job.policy.prompt_format!r}: it must be auto, completion or chat")
    if problems:
        raise UserError("; ".join(problems))


def _batch_problems(algorithm: GSPOConfig, trainer: TrainerSettings) -> list[str]:
    batch, group, parts = trainer.batch_size, algorithm.group_size, algorithm.num_minibatches
    if batch % group:
        fix = f"use a multiple of {group}, such as {max(1, batch // group) * group}"
        return [f"trainer.batch_size is {batch} and algorithm.group_size is {group}, which does not divide it: {fix}"]
    if batch % parts:
        return [f"trainer.batch_size is {batch} and algorithm.num_minibatches is {parts}, which does not divide it"]
    micro = trainer.micro_batch_size
    if micro is not None and (micro < 1 or (batch // parts) % micro):
        return [f"trainer.micro_batch_size is {micro}: it must divide a mini-batch of {batch // parts} completions"]
    return []
