"""GSPO with a compiler as the judge, on trl's GRPOTrainer: where our parts meet trl, and the only file that does.

What is ours enters as data. A batch is generated and scored by trl; the group rules then say which rows carry a
signal, and only those reach trl's loss (GSPO, arXiv 2507.18071: sequence-level ratios, each sequence's mean over its
tokens, mean over sequences). The mean is over the live rows of the whole batch, so a discarded group dilutes nothing,
and an optimizer step without any signal is not taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before trl is imported: it reports home otherwise

import torch
import trl
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback

from rlvr_cpp.config import AdapterSettings, GSPOConfig, TrainerSettings
from rlvr_cpp.errors import UserError
from rlvr_cpp.groups import live_rows
from rlvr_cpp.policy import Policy, lora_config
from rlvr_cpp.rollout import CompilerReward, batch_metrics
from rlvr_cpp.tasks import Task
from rlvr_cpp.verifier import Verifier

OVERRIDDEN = (
    "_generate",
    "_calculate_rewards",
    "_generate_and_score_completions",
    "_compute_loss",
    "training_step",
    "log",
)
"""trl's methods that are extended here; a test fails when one of them changes its signature."""

StepMetrics = dict[str, float]


def to_trl(
    algorithm: GSPOConfig,
    settings: TrainerSettings,
    *,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    out: Path,
) -> trl.GRPOConfig:
    """Our words in trl's; the one place where a key changes its name."""
    mini_batch = settings.batch_size // algorithm.num_minibatches
    micro_batch = settings.micro_batch_size or mini_batch
    accumulation = mini_batch // micro_batch
    every = algorithm.num_minibatches
    ours: dict[str, Any] = {
        "output_dir": str(out),
        "seed": seed,
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "num_generations": algorithm.group_size,
        "beta": algorithm.kl_coeff,
        "use_bias_correction_kl": False,
        "epsilon": algorithm.clip_eps,
        "epsilon_high": algorithm.clip_eps_high,
        "max_completion_length": algorithm.max_gen_len,
        "temperature": algorithm.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": algorithm.num_minibatches * accumulation,
        "max_steps": settings.steps * every,
        "logging_steps": every,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_schedule,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": 0.0,
        "max_grad_norm": settings.max_grad_norm,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": dtype == torch.bfloat16,
        "use_cpu": device.type == "cpu",
        "save_strategy": "no" if settings.save_every is None else "steps",
        "save_steps": (settings.save_every or 1) * every,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": device.type != "cpu",
    }
    return trl.GRPOConfig(**{**ours, **settings.trl})


class GSPOTrainer(trl.GRPOTrainer):  # type: ignore[misc]
    """Trains a policy's adapter (or all its weights) on tasks, judged by a verifier.

    `on_step` is called after each rollout step with its number, from 1, and its metrics: `reward`, `compile_rate`,
    `pass_rate`, `kept_groups`, `tied_groups`, `infra_groups`, `kl`, `clip_fraction`, `grad_norm`, `skipped_updates`,
    and the seconds `generate`, `verify` and `update`. Completions go to `completions.jsonl` in `out`.
    `on_step` and `on_phase` are attributes and may be set later. Raises UserError where there are fewer tasks than
    prompts in a step.
    """

    def __init__(
        self,
        policy: Policy,
        tasks: Sequence[Task],
        verifier: Verifier,
        algorithm: GSPOConfig,
        settings: TrainerSettings,
        *,
        out: Path,
        adapter: AdapterSettings | None = None,
        seed: int = 0,
        on_step: Callable[[int, StepMetrics], None] = lambda step, metrics: None,
        on_phase: Callable[[str], None] = lambda phase: None,
    ) -> None:
        prompts = settings.batch_size // algorithm.group_size
        if len(tasks) < prompts:
            raise UserError(
                f"there are {len(tasks)} training tasks and a step takes {prompts}: "
                "lower trainer.batch_size or give more tasks"
            )
        self.policy, self.algorithm = policy, algorithm
        self.compiler_reward = CompilerReward(tasks, verifier, policy.chat)
        self.on_step, self.on_phase = on_step, on_phase
        self._completions_log = out / "completions.jsonl"
        self._started = time.monotonic()
        self._generate_seconds = 0.0
        self._skipped_updates = 0
        model = policy.model
        super().__init__(
            model=model,
            reward_funcs=self.compiler_reward,
            args=to_trl(algorithm, settings, dtype=model.dtype, device=model.device, seed=seed, out=out),
            train_dataset=Dataset.from_list([{"prompt": policy.prompt(t), "task_id": t.task_id} for t in tasks]),
            processing_class=policy.tokenizer,
            peft_config=lora_config(adapter) if adapter else None,
        )
        policy.model = self.model
        self.remove_callback(PrinterCallback)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass; an update for which no row gave a gradient is not taken."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients and self._has_no_gradient():
            self._skipped_updates += 1
            for parameter in self.model.parameters():
                parameter.grad = None  # the optimizer then leaves weights and momentum alone
        return loss

    def _has_no_gradient(self) -> bool:
        return not any(p.grad is not None and p.grad.any() for p in self.model.parameters())

    def _generate(self, prompts: list[Any]) -> Any:
        self.on_phase("generate")
        self._started = started = time.monotonic()
        self._skipped_updates = 0
        generated = super()._generate(prompts)
        self._generate_seconds = time.monotonic() - started
        return generated

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.on_phase("verify")
        rewards: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        self._rewards = rewards[:, 0]
        self.on_phase("update")
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """trl's batch, with the rows that may enter the loss marked in `live` and counted in `live_count`."""
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        rows = live_rows(self._rewards, self.algorithm.group_size)
        batch["live"] = rows.mask
        batch["live_count"] = rows.mask.sum()
        rollouts = self.compiler_reward.rollouts
        self._record(batch_metrics(rollouts, self.algorithm.max_gen_len))
        self._record({"kept_groups": rows.kept, "tied_groups": rows.tied, "infra_groups": rows.infra})
        self._log_rollouts()
        return batch

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """trl's loss over the live rows alone, scaled so that every live row of the batch weighs the same."""
        live = inputs["live"]
        count = int(live.sum())
        if count == 0:
            return _zero_loss(model)
        rows = {key: value[live] if _is_per_row(value, len(live)) else value for key, value in inputs.items()}
        loss: torch.Tensor = super()._compute_loss(model, rows)
        weight: torch.Tensor = count * self.args.steps_per_generation / inputs["live_count"]
        return loss * weight

    def _record(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._metrics["train"][name].append(float(value))

    def _log_rollouts(self) -> None:
        step = self.state.global_step // self.algorithm.num_minibatches + 1
        with self._completions_log.open("a") as log:
            log.writelines(rollout.log_line(step) + "\n" for rollout in self.compiler_reward.rollouts)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add our names and times to trl's metrics and tell `on_step`; other logs pass unchanged."""
        is_step = "reward" in self._metrics["train"]
        if is_step:
            verify = self.compiler_reward.seconds
            elapsed = time.monotonic() - self._started
            self._record(
                {
                    "generate": self._generate_seconds,
                    "verify": verify,
                    "update": elapsed - self._generate_seconds - verify,
                    "skipped_updates": self._skipped_updates,
                }
            )
        super().log(logs, start_time)
        if is_step:
            logs["clip_fraction"] = logs.get("clip_ratio/region_mean", 0.0)
            self.on_step(self.state.global_step // self.algorithm.num_minibatches, logs)


def _zero_loss(model: Any) -> torch.Tensor:
    """Nothing to learn, yet something to differentiate."""
    return torch.stack([parameter.sum() * 0.0 for parameter in model.parameters() if parameter.requires_grad]).sum()


def _is_per_row(value: Any, rows: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == rows
