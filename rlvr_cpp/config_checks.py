"""What one key of a training job demands of another, found before anything heavy is loaded.

Each problem is one sentence with the key, its value and the fix; `check` returns them all.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlvr_cpp.config import GRPOConfig, StepCoderConfig, TrainerSettings, TrainingJob

_STEPS = "a rollout step is counted by it; use trainer.steps, trainer.batch_size, algorithm.num_minibatches"
_ALGORITHM = "the group algorithm describes the loss; use algorithm.*"
_SAVING = "checkpoints are taken between rollouts; use trainer.save_every"
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
    **dict.fromkeys(
        ("loss_type", "importance_sampling_level", "beta", "epsilon", "epsilon_high", "use_bias_correction_kl"),
        _ALGORITHM,
    ),
    **dict.fromkeys(("save_strategy", "save_steps", "save_total_limit", "save_only_model"), _SAVING),
    **dict.fromkeys(("use_vllm", "vllm_mode", "use_transformers_continuous_batching"), "use generation.engine"),
    **dict.fromkeys(
        ("entropy_coef", "use_adaptive_entropy"), "its mean would count rows that only fill up a pass; leave it out"
    ),
    **dict.fromkeys(("reward_weights", "scale_rewards"), "there is one reward; use reward.* and algorithm.*"),
    "mask_truncated_completions": "use algorithm.truncated",
    "disable_dropout": "with dropout the ratio of an unchanged policy is not 1",
    "output_dir": "it is the run folder; use hydra.run.dir",
    "seed": "use seed",
}
"""Arguments of trl that the job decides itself, and why."""

CHOICES = {
    "policy.dtype": ("float32", "bfloat16"),
    "policy.quantization": (None, "nf4"),
    "policy.prompt_format": ("auto", "completion", "chat"),
    "generation.engine": ("transformers", "continuous_batching", "vllm", "vllm_server"),
    "reward.kind": ("tiers", "binary", "shaped"),
    "algorithm.ratio": ("token", "sequence"),
    "algorithm.loss_type": ("grpo", "dapo", "luspo", "dr_grpo", "bnpo", "cispo", "sapo", "vespo"),
    "algorithm.luspo_norm": ("none", "max_len"),
    "algorithm.kl_estimator": ("k3", "k2", "k3_is"),
    "algorithm.zero_variance": ("discard", "keep"),
    "algorithm.truncated": ("keep", "mask"),
    "stepcoder.cccs_metric": ("compile_rate", "pass_rate"),
    "stepcoder.cccs_boundary": ("line", "conditional"),
    "stepcoder.fgo": ("off", "compile_error", "coverage", "both"),
    "guards.action": ("stop", "warn"),
}
LEAST = {
    "adapter.rank": 1,
    "adapter.alpha": 1,
    "policy.threads": 1,
    "generation.batch_size": 1,
    "verifier.workers": 1,
    "algorithm.group_size": 2,
    "algorithm.num_minibatches": 1,
    "algorithm.max_gen_len": 1,
    "algorithm.kl_coeff": 0,
    "algorithm.clip_eps": 0,
    "algorithm.clip_eps_high": 0,
    "algorithm.refill_rounds": 0,
    "algorithm.overlong_buffer": 1,
    "algorithm.overlong_penalty": 0,
    "guards.patience": 1,
    "guards.canary_every": 1,
    "trainer.steps": 1,
    "trainer.batch_size": 1,
    "trainer.micro_batch_size": 1,
    "trainer.learning_rate": 0,
    "trainer.warmup_steps": 0,
    "trainer.max_grad_norm": 0,
    "trainer.save_every": 1,
    "evaluation.samples": 0,
    "evaluation.every": 1,
    "evaluation.limit": 1,
    "evaluation.batch_size": 1,
}
FRACTIONS = (
    "reward.sanitizer_fraction",
    "reward.tidy_fraction",
    "guards.max_infra_rate",
    "generation.vllm_gpu_memory",
    "stepcoder.cccs_init_frac",
    "stepcoder.cccs_decay_threshold",
    "stepcoder.cccs_decay_step",
    "stepcoder.cccs_min_prefix_frac",
)
BATCH_SHAPE = ("trainer.batch_size", "trainer.micro_batch_size", "algorithm.group_size", "algorithm.num_minibatches")


def check(job: TrainingJob) -> list[str]:
    """Every problem, each a sentence with the key, its value and the fix; empty where there is none."""
    values = list(_value_problems(job))
    related = [] if any(problem.startswith(BATCH_SHAPE) for problem in values) else list(_batch_problems(job))
    return [
        *values,
        *related,
        *_reserved_problems(job.trainer),
        *_algorithm_problems(job.algorithm),
        *_stepcoder_problems(job.stepcoder, job.algorithm),
        *_model_problems(job),
    ]


def _value_problems(job: TrainingJob) -> Iterator[str]:
    for key, choices in CHOICES.items():
        value = _get(job, key)
        if value not in choices:
            names = ", ".join("null" if choice is None else choice for choice in choices)
            yield f"{key} is {value!r}: it must be one of {names}"
    for key, least in LEAST.items():
        value = _get(job, key)
        if value is not None and not value >= least:
            yield f"{key} is {value}: it must be at least {least}"
    for key in FRACTIONS:
        value = _get(job, key)
        if not 0 <= value <= 1:
            yield f"{key} is {value}: it must be between 0 and 1"
    if not job.algorithm.temperature > 0:
        yield f"algorithm.temperature is {job.algorithm.temperature}: sampling needs a positive number"
    if not 0 < job.tasks.held_out_fraction < 1:
        yield f"tasks.held_out_fraction is {job.tasks.held_out_fraction}: it must be between 0 and 1"


def _get(job: TrainingJob, key: str) -> Any:
    group, _, name = key.partition(".")
    return getattr(getattr(job, group), name)


def _batch_problems(job: TrainingJob) -> Iterator[str]:
    batch, group, updates = job.trainer.batch_size, job.algorithm.group_size, job.algorithm.num_minibatches
    if batch % group:
        fix = f"use a multiple of {group}, such as {max(1, batch // group) * group}"
        yield f"trainer.batch_size is {batch} and algorithm.group_size is {group}, which does not divide it: {fix}"
        return
    if (batch // group) % updates:
        yield (
            f"algorithm.num_minibatches is {updates} and a step has {batch // group} groups (trainer.batch_size / "
            f"algorithm.group_size), which it does not divide: use a trainer.batch_size of {group * updates} or a "
            "multiple"
        )


def _reserved_problems(trainer: TrainerSettings) -> Iterator[str]:
    for name, reason in RESERVED.items():
        if name in trainer.trl:
            yield f"trainer.trl.{name} cannot be set: {reason}"


def _algorithm_problems(algorithm: GRPOConfig) -> Iterator[str]:
    if algorithm.loss_type == "luspo" and algorithm.ratio == "token":
        yield (
            "algorithm.loss_type is 'luspo' with algorithm.ratio 'token': LUSPO weighs a sequence's one ratio by its "
            "length; use ratio sequence, or loss_type dr_grpo for token ratios"
        )
    if algorithm.ratio == "sequence" and algorithm.loss_type in ("dapo", "bnpo", "cispo", "dr_grpo"):
        yield (
            f"algorithm.loss_type is {algorithm.loss_type!r} with algorithm.ratio 'sequence': a sum over tokens of a "
            "sequence's ratio weighs it by its length, which is LUSPO with another constant; use loss_type luspo, or "
            "grpo for GSPO"
        )
    if algorithm.loss_type == "vespo" and algorithm.ratio == "sequence":
        yield "algorithm.loss_type is 'vespo' with algorithm.ratio 'sequence': it makes its own; use ratio token"
    if algorithm.luspo_norm != "none" and algorithm.loss_type != "luspo":
        yield (
            f"algorithm.luspo_norm is {algorithm.luspo_norm!r} with algorithm.loss_type {algorithm.loss_type!r}: only "
            "LUSPO's loss grows with length; use none"
        )
    if algorithm.refill_rounds and algorithm.zero_variance == "keep":
        yield (
            f"algorithm.refill_rounds is {algorithm.refill_rounds} with algorithm.zero_variance 'keep': nothing is "
            "discarded that could be refilled; use discard or 0"
        )
    if algorithm.overlong_buffer is not None and algorithm.truncated == "mask":
        yield (
            f"algorithm.overlong_buffer is {algorithm.overlong_buffer} with algorithm.truncated 'mask': a punishment "
            "for length cannot reach what is masked; use one of them"
        )
    if algorithm.overlong_buffer is not None and algorithm.overlong_buffer >= algorithm.max_gen_len:
        yield (
            f"algorithm.overlong_buffer is {algorithm.overlong_buffer}: it must be less than algorithm.max_gen_len, "
            f"which is {algorithm.max_gen_len}; a fifth of it is usual"
        )


def _stepcoder_problems(stepcoder: StepCoderConfig, algorithm: GRPOConfig) -> Iterator[str]:
    if stepcoder.cccs_min_prefix_frac > stepcoder.cccs_init_frac:
        yield (
            f"stepcoder.cccs_min_prefix_frac is {stepcoder.cccs_min_prefix_frac}, above cccs_init_frac "
            f"{stepcoder.cccs_init_frac}: it is where the prefix ends, usually 0"
        )
    if stepcoder.fgo in ("coverage", "both") and algorithm.loss_type in ("cispo", "sapo", "vespo"):
        yield (
            f"stepcoder.fgo is {stepcoder.fgo!r} with algorithm.loss_type {algorithm.loss_type!r}: its mask is proved "
            "for clipped ratios only; use compile_error, or a loss_type of grpo, luspo, dapo or dr_grpo"
        )


def _model_problems(job: TrainingJob) -> Iterator[str]:
    if job.policy.quantization is not None and not job.adapter.enabled:
        yield (
            f"policy.quantization is {job.policy.quantization!r} with adapter.enabled false: quantized weights cannot "
            "be trained; use an adapter or quantization null"
        )
    if job.policy.quantization == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        yield "policy.quantization is 'nf4' but bitsandbytes is not installed: pip install bitsandbytes, or use null"
    if job.adapter.start is not None and not job.adapter.enabled:
        yield f"adapter.start is {job.adapter.start!r} with adapter.enabled false: enable it or use null"
    if job.generation.engine.startswith("vllm") and importlib.util.find_spec("vllm") is None:
        yield (
            f"generation.engine is {job.generation.engine!r} but vllm is not installed: pip install 'rlvr-cpp[vllm]', "
            "or use transformers"
        )
    if job.generation.engine == "vllm_server" and job.generation.vllm_server_url is None:
        yield "generation.engine is 'vllm_server' without generation.vllm_server_url: give the server's base URL"


def remarks(job: TrainingJob) -> list[str]:
    """What is allowed and probably not meant; each a sentence for the terminal."""
    found = []
    if job.algorithm.num_minibatches == 1 and job.algorithm.ratio == "sequence":
        found.append(
            "algorithm.num_minibatches is 1: with one update a rollout nothing is ever clipped and GSPO is GRPO; use 2 "
            "or more"
        )
    if job.stepcoder.cccs and job.stepcoder.cccs_min_prefix_frac > 0:
        found.append(
            f"stepcoder.cccs_min_prefix_frac is {job.stepcoder.cccs_min_prefix_frac}: the policy never learns to "
            "begin, which every evaluation asks of it; use 0"
        )
    return found
