"""What one key of a training job demands of another, found before anything heavy is loaded.

Each problem is one sentence with the key, its value and the fix; `check` returns them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import requires, version
from importlib.util import find_spec
from typing import Any

from rlvr_cpp.policy.sharding import sharding_problems
from rlvr_cpp.reward.own import reward_problems
from rlvr_cpp.runs.config import read_job
from rlvr_cpp.runs.trackers import tracker_problems
from rlvr_cpp.training.config import (
    FACTS,
    GenerationSettings,
    GRPOConfig,
    StepCoderConfig,
    TrainerSettings,
    TrainingJob,
)

ALLOWED = frozenset(
    (
        *("adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "optim", "optim_args", "lr_scheduler_kwargs"),
        *("delta", "sapo_temperature_neg", "sapo_temperature_pos", "router_aux_loss_coef"),
        *("vespo_k_neg", "vespo_k_pos", "vespo_lambda_neg", "vespo_lambda_pos"),
        *("gradient_checkpointing_kwargs", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode"),
        *("torch_empty_cache_steps", "full_determinism", "shuffle_dataset"),
        *("ddp_backend", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_timeout"),
        *("ddp_find_unused_parameters",),
        *("vllm_tensor_parallel_size", "vllm_max_model_length", "vllm_enable_sleep_mode", "vllm_model_impl"),
        *("vllm_server_timeout", "vllm_group_port", "vllm_importance_sampling_clip_min"),
        *("vllm_importance_sampling_clip_max", "transformers_continuous_batching_config"),
        *("project", "trackio_space_id", "log_level"),
    )
)
"""Arguments of trl that a job may set: those that change how it is updated, where it runs and whom it tells, and that
both of its halves see alike. All others would be ignored, or would change one side alone: what is sampled but not what
is scored, the reference, the order of checkpoints."""
_STEPS = "a rollout step is counted by it; use trainer.steps, trainer.batch_size, algorithm.num_minibatches"
_ALGORITHM = "the group algorithm describes the loss; use algorithm.*"
_SAVING = "checkpoints are taken between rollouts; use trainer.save_every"
_DISTRIBUTION = "what is sampled and what is scored would be two distributions; leave it out"
INSTEAD = {
    **dict.fromkeys(
        (
            "num_iterations",
            "steps_per_generation",
            "generation_batch_size",
            "gradient_accumulation_steps",
            "per_device_train_batch_size",
            "max_steps",
            "num_train_epochs",
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
    **dict.fromkeys(("top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs"), _DISTRIBUTION),
    **dict.fromkeys(
        ("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"),
        "the reference is the start, whose hash is in the run's record; leave it out",
    ),
    **dict.fromkeys(("bf16", "fp16"), "use policy.dtype"),
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "deepspeed"), "say it to the launcher: accelerate launch --config_file FILE"
    ),
    "ds3_gather_for_generation": "completions are drawn from whole weights; to share those out as well, use FSDP",
    "temperature": "use algorithm.temperature",
    "max_completion_length": "use algorithm.max_gen_len",
    "learning_rate": "use trainer.learning_rate",
    "lr_scheduler_type": "use trainer.lr_schedule",
    "warmup_steps": "use trainer.warmup_steps",
    "max_grad_norm": "use trainer.max_grad_norm",
    "gradient_checkpointing": "use trainer.gradient_checkpointing",
    "chat_template_kwargs": "use policy.chat.template_kwargs",
    "mask_truncated_completions": "use algorithm.truncated",
    "disable_dropout": "with dropout the ratio of an unchanged policy is not 1",
    "output_dir": "it is the run folder; use hydra.run.dir",
    "report_to": "use tracker",
    "run_name": "it is the run folder's name; use hydra.run.dir",
    "seed": "use seed",
}
"""What to use instead of arguments that people know from trl, and why."""
_NOT_KNOWN = "nothing here reads it, or not on both sides of an update; docs/training.md lists what can be set"


def check(job: TrainingJob) -> list[str]:
    """Every problem between keys, each a sentence with the key, its value and the fix; empty where there is none."""
    return [
        *_batch_problems(job),
        *_reserved_problems(job.trainer),
        *_algorithm_problems(job.algorithm),
        *_stepcoder_problems(job.stepcoder, job.algorithm),
        *_model_problems(job),
        *sharding_problems(job.policy),
        *reward_problems(job.reward.kind),
        *tracker_problems(job.tracker),
        *_resume_problems(job),
        *_evaluation_problems(job),
    ]


def _batch_problems(job: TrainingJob) -> Iterator[str]:
    batch, group, updates = job.trainer.batch_size, job.algorithm.group_size, job.algorithm.num_minibatches
    if min(batch, group, updates) < 1:  # out of bounds, which is told already
        return
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
    for name in trainer.trl:
        if name not in ALLOWED:
            yield f"trainer.trl.{name} cannot be set: {INSTEAD.get(name, _NOT_KNOWN)}"


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
    if job.policy.dtype == "float16" and not job.adapter.enabled:
        yield (
            "policy.dtype is 'float16' with adapter.enabled false: trained weights in 16 bits lose small updates; use "
            "an adapter, whose weights are float32, or dtype float32"
        )
    if job.policy.quantization == "nf4" and find_spec("bitsandbytes") is None:
        yield "policy.quantization is 'nf4' but bitsandbytes is not installed: pip install bitsandbytes, or use null"
    if job.adapter.start is not None and not job.adapter.enabled:
        yield f"adapter.start is {job.adapter.start!r} with adapter.enabled false: enable it or use null"
    if job.generation.ahead and job.generation.engine != "transformers":
        yield (
            f"generation.ahead is {job.generation.ahead} with generation.engine {job.generation.engine!r}: that engine "
            "takes over the trained weights itself, in the middle of an update; use engine transformers, or ahead 0"
        )
    yield from vllm_problems(job.generation)


def vllm_problems(generation: GenerationSettings) -> Iterator[str]:
    """What keeps vLLM from drawing completions: it is not here, in a version that trl does not know, or not told of."""
    if not generation.engine.startswith("vllm"):
        return
    if find_spec("vllm") is None:
        yield (
            f"generation.engine is {generation.engine!r} but vllm is not installed: pip install 'rlvr-cpp[vllm]', "
            "or use transformers"
        )
    elif (supported := _supported_instead(version("vllm"))) is not None:
        yield (
            f"generation.engine is {generation.engine!r}, but vllm {version('vllm')} is installed and trl supports "
            f"{supported}: pip install 'rlvr-cpp[vllm]', or use transformers"
        )
    if generation.engine == "vllm_server" and generation.vllm_server_url is None:
        yield "generation.engine is 'vllm_server' without generation.vllm_server_url: give the server's base URL"


def _supported_instead(installed: str) -> str | None:
    """The versions of vLLM that trl declares, where the one that is installed is none of them."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    declared = (one.specifier for one in map(Requirement, requires("trl") or []) if one.name == "vllm")
    return next((str(one) for one in declared if not one.contains(Version(installed).public, prereleases=True)), None)


def _evaluation_problems(job: TrainingJob) -> Iterator[str]:
    if job.evaluation.patience is not None and job.evaluation.every is None:
        yield (
            f"evaluation.patience is {job.evaluation.patience} without evaluation.every: nothing is measured that it "
            "could count; give both or neither"
        )


def _resume_problems(job: TrainingJob) -> Iterator[str]:
    if unknown := [name for name in job.accept_changes if name not in FACTS]:
        yield f"accept_changes has {', '.join(unknown)}: it must be some of {', '.join(FACTS)}"


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


def load(raw: Any) -> TrainingJob:
    """What Hydra composed, checked. Raises UserError naming every key that is wrong."""
    return read_job(raw, TrainingJob, check)
