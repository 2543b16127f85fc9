"""Our words in trl's: the one place where a key changes its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import trl

from rlvr_cpp.errors import UserError
from rlvr_cpp.training.config import GenerationSettings, GRPOConfig, TrainerSettings


def to_trl(
    algorithm: GRPOConfig,
    settings: TrainerSettings,
    generation: GenerationSettings,
    *,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    out: Path,
    eos_ids: Sequence[int],
    processes: int = 1,
) -> trl.GRPOConfig:
    """trl's arguments. Raises UserError where the batch cannot be shared out to `processes`.

    `eos_ids` end a completion; transformers is told by the model, vLLM loads its own.
    """
    updates = algorithm.num_minibatches
    micro, passes = pass_sizes(algorithm, settings, processes)
    ours: dict[str, Any] = {
        "output_dir": str(out),
        "seed": seed,
        "loss_type": algorithm.loss_type,
        "importance_sampling_level": algorithm.ratio,
        "num_generations": algorithm.group_size,
        "scale_rewards": "group" if algorithm.scale_advantages else "none",
        "beta": algorithm.kl_coeff,
        "use_bias_correction_kl": False,  # the KL term is ours, see objective.py
        "epsilon": algorithm.clip_eps,
        "epsilon_high": algorithm.clip_eps_high,
        "max_completion_length": algorithm.max_gen_len,
        "temperature": algorithm.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "disable_dropout": True,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": passes,
        "steps_per_generation": updates * passes,
        "max_steps": settings.steps * updates,
        "logging_steps": updates,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_schedule,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": 0.0,
        "max_grad_norm": settings.max_grad_norm,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": dtype == torch.bfloat16,
        "use_cpu": device.type == "cpu",
        "save_strategy": "no" if settings.save_every is None else "steps",
        "save_steps": (settings.save_every or 1) * updates,
        "report_to": "none",  # see trackers.py
        "project": "rlvr-cpp",
        "disable_tqdm": True,
        "dataloader_pin_memory": device.type != "cpu",
        "ddp_find_unused_parameters": False,
        **_engine(generation, eos_ids),
    }
    return trl.GRPOConfig(**{**ours, **settings.trl})


def pass_sizes(algorithm: GRPOConfig, settings: TrainerSettings, processes: int) -> tuple[int, int]:
    """Completions in one forward pass of one process, and passes for one optimizer step.

    Raises UserError where the processes cannot share the batch evenly.
    """
    share, rest = divmod(settings.batch_size, processes * algorithm.num_minibatches)
    if rest:
        raise UserError(
            f"trainer.batch_size is {settings.batch_size}, which {processes} processes cannot share evenly in "
            f"{algorithm.num_minibatches} mini-batches: use a multiple of {processes * algorithm.num_minibatches}"
        )
    micro = max(size for size in range(1, min(settings.micro_batch_size or share, share) + 1) if share % size == 0)
    return micro, share // micro


def _engine(generation: GenerationSettings, eos_ids: Sequence[int]) -> dict[str, Any]:
    if generation.engine == "continuous_batching":
        return {"use_transformers_continuous_batching": True}
    if generation.engine == "vllm":
        return {
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": generation.vllm_gpu_memory,
            "vllm_importance_sampling_mode": "token_truncate",  # by sequence, long completions are masked out
            "generation_kwargs": {"stop_token_ids": list(eos_ids)},
        }
    if generation.engine == "vllm_server":
        return {
            "use_vllm": True,
            "vllm_mode": "server",
            "vllm_server_base_url": generation.vllm_server_url,
            "vllm_importance_sampling_mode": "token_truncate",
            "generation_kwargs": {"stop_token_ids": list(eos_ids)},
        }
    return {}
