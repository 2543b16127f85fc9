"""GRPO and its kin with a compiler as the judge, on trl's GRPOTrainer.

One rollout step goes: prompts, with a curriculum's prefixes -> completions, each judged as soon as it ends -> group
rules and masks -> live rows dealt out to the optimizer steps (`rollout_phase.py`) -> trl's loss, our KL term, exact
denominators (`update_phase.py`). Here: what a trainer is made of, what it tells, what watches over it and what a
checkpoint holds. These three files are the only ones that know trl's private names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers.trainer_callback import PrinterCallback

from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.policy import Policy, lora_config
from rlvr_cpp.policy.settings import AdapterSettings
from rlvr_cpp.policy.weights import weights_hash
from rlvr_cpp.reward.shaping import CompilerRewardShaper
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.batches import Batch
from rlvr_cpp.training.canary import canary_due, canary_finding
from rlvr_cpp.training.checkpoints import DRAFTS, FOLDER, open_draft, publish, read_state, remove_old, write_state
from rlvr_cpp.training.config import (
    GenerationSettings,
    GRPOConfig,
    GSPOConfig,
    GuardSettings,
    StepCoderConfig,
    TrainerSettings,
)
from rlvr_cpp.training.guards import Finding, Guards, coarse_dtype, empty_optimizer, fingerprint, nothing_moved
from rlvr_cpp.training.objective import Window
from rlvr_cpp.training.rollout import Request, Rollout, RolloutJudge
from rlvr_cpp.training.stepcoder.curriculum import PrefixCurriculum
from rlvr_cpp.training.steps import Clock, StepMetrics
from rlvr_cpp.training.trl_arguments import to_trl
from rlvr_cpp.training.update_phase import UpdatePhase, attributes
from rlvr_cpp.verifier.verifier import Verifier

OVERRIDDEN = (
    "_tokenize_prompts",
    "_generate_single_turn",
    "_generate_and_score_completions",
    "_get_train_sampler",
    "_prepare_inputs",
    "_get_per_token_logps_and_entropies",
    "_compute_loss",
    "training_step",
    "log",
    "_save_checkpoint",
    "_get_output_dir",
    "_load_from_checkpoint",
    "create_optimizer",
)
"""trl's methods that are extended or called here; a test fails when one of them changes its signature."""


class GRPOTrainer(UpdatePhase):
    """Trains a policy's adapter (or all its weights) on tasks, judged by a verifier.

    `on_step` is called after each rollout step with its number, from 1, and its metrics: `reward`, `compile_rate`,
    `pass_rate`, `kept_groups`, `tied_groups`, `infra_groups`, `kl`, `clip_fraction`, `grad_norm`, `skipped_updates`,
    and times: `seconds` is `generate`, `wait` (for verdicts) and `update` together, `verify` is how long something
    was being judged meanwhile. Completions go to `completions.jsonl` in `out`, checkpoints to `checkpoints`. `on_step`
    and `on_phase` are attributes and may be set later. Raises UserError where there are fewer tasks than prompts in a
    step, GuardStop where a guard ends the run.
    """

    default_algorithm: type[GRPOConfig] = GRPOConfig

    def __init__(
        self,
        policy: Policy,
        tasks: Sequence[Task],
        verifier: Verifier,
        algorithm: GRPOConfig | None,
        settings: TrainerSettings,
        *,
        out: Path,
        guards: GuardSettings,
        adapter: AdapterSettings | None = None,
        generation: GenerationSettings | None = None,
        stepcoder: StepCoderConfig | None = None,
        reward: str = "tiers",
        shaper: CompilerRewardShaper | None = None,
        seed: int = 0,
        processes: int = 1,
        on_step: Callable[[int, StepMetrics], None] = lambda step, metrics: None,
        on_phase: Callable[[str], None] = lambda phase: None,
    ) -> None:
        algorithm = algorithm or self.default_algorithm()
        generation = generation or GenerationSettings("transformers", None, 0.3, None)
        prompts = settings.batch_size // algorithm.group_size
        if len(tasks) < prompts:
            raise UserError(
                f"there are {len(tasks)} training tasks and a step takes {prompts}: "
                "lower trainer.batch_size or give more tasks"
            )
        self.policy, self.algorithm, self.generation, self.seed = policy, algorithm, generation, seed
        self.tasks: Mapping[str, Task] = {task.task_id: task for task in tasks}
        self.stepcoder = stepcoder or StepCoderConfig()
        self.curriculum = PrefixCurriculum(self.stepcoder) if self.stepcoder.cccs else None
        self.guard_settings = guards
        self.guards = Guards(
            guards,
            kl_coeff=algorithm.kl_coeff,
            num_minibatches=algorithm.num_minibatches,
            low_precision=policy.model.dtype != torch.float32,
        )
        self.judge = RolloutJudge(verifier, policy.decode, policy.eos_ids, policy.chat, reward, shaper)
        self.out, self.on_step, self.on_phase = out, on_step, on_phase
        self.rollouts: list[Rollout] = []
        """Of the last batch, all processes' and rounds'."""
        self._requests: list[Request] = []
        self._passes: list[Batch] = []
        self._refilled = 0
        self._epochs = 0
        """Behind a run that goes on."""
        self._totals: dict[str, float] = defaultdict(float)
        self._scored: tuple[Any, Any, Any] | None = None
        self._start: dict[str, int] | None = None
        """Fingerprint of the trained weights, until the first update was seen to move them."""
        self._window = Window(0, 0, 0)
        self._drafts: Path | None = None
        self._clock = Clock()
        model = policy.model
        super().__init__(
            model=model,
            reward_funcs=self._reward_function(),
            args=to_trl(
                algorithm,
                settings,
                generation,
                dtype=model.dtype,
                device=model.device,
                seed=seed,
                out=out,
                processes=processes,
            ),
            train_dataset=Dataset.from_list([{"prompt": policy.prompt(t), "task_id": t.task_id} for t in tasks]),
            processing_class=policy.tokenizer,
            peft_config=lora_config(adapter, model) if adapter else None,
        )
        policy.model = self.model
        for parameter in self.model.parameters():
            if parameter.requires_grad and isinstance(self.model, PeftModel):
                parameter.data = parameter.data.float()  # trl rounds them to bf16 on a quantized base
        self._score_in_float32()
        self.remove_callback(PrinterCallback)

    def log(self, logs: StepMetrics, start_time: float | None = None) -> None:
        """Add our names and times to trl's metrics, tell `on_step`, ask the guards; other logs pass unchanged."""
        is_step = "kept_groups" in self._metrics["train"]
        if is_step:
            self._record(self._clock.seconds())
            self._record(self._step_totals())
        super().log(logs, start_time)
        if is_step:
            step = self.rollout_step - 1
            self.on_step(step, logs)
            self._guard(step, logs)

    def _guard(self, step: int, logs: StepMetrics) -> None:
        settings = self.guard_settings
        taken = self.algorithm.num_minibatches - int(logs["skipped_updates"])
        findings: list[Finding | None] = [*self.guards.after_step(logs, taken)]
        if taken and self._start is not None and self.guards.updates > 1:  # a warm-up's first update has rate 0
            moved = fingerprint(self.model.named_parameters())
            findings.append(nothing_moved(self._start, moved, logs["learning_rate"], action=settings.action))
            self._start = None
        if canary_due(step, settings.canary_every):
            findings.append(canary_finding(self.judge.verifier, step, action=settings.action))
        self._heed(*findings)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """trl's optimizer. Raises GuardStop where it would train nothing."""
        optimizer = super().create_optimizer(*args, **kwargs)
        self._heed(empty_optimizer(self.model.parameters(), optimizer.param_groups))
        return optimizer

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
        """Train; from a checkpoint of this run on, exactly as if it had not been interrupted."""
        named = list(self.model.named_parameters())
        self._heed(
            coarse_dtype(named, self.args.learning_rate),
            canary_finding(self.judge.verifier, 0, action=self.guard_settings.action),
        )
        if resume_from_checkpoint is not None:
            self._load_state(read_state(Path(resume_from_checkpoint)))
        else:
            self._start = fingerprint(named)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def load_weights(self, checkpoint: Path) -> None:
        """Only the trained weights of a checkpoint, where nothing is left to train."""
        self._load_from_checkpoint(str(checkpoint))

    def reference_hash(self) -> str | None:
        """SHA-256 of the weights that KL is measured against; None where there is no KL term."""
        if not self.algorithm.kl_coeff:
            return None
        if self.ref_model is not None:
            return weights_hash(self.ref_model.named_parameters())
        own = "ref" if "ref" in self.model.peft_config else "none"
        named = self.model.named_parameters()
        return weights_hash((name, p) for name, p in named if ".lora_" not in name or f".{own}." in name)

    def _state(self) -> dict[str, Any]:
        return {
            "epochs": (self.rollout_step - 1) // self._steps_in_epoch,
            "refilled": self._refilled,
            "curriculum": self.curriculum.state() if self.curriculum else None,
            "guards": self.guards.state(),
            "start": self._start,
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        self._epochs, self._refilled, self._start = state["epochs"], state["refilled"], state["start"]
        self.guards.load_state(state["guards"])
        if self.curriculum is not None:
            self.curriculum.load_state(state["curriculum"])

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """trl's checkpoint and our state, whole or not at all."""
        place = self.out / FOLDER / f"checkpoint-{self.state.global_step}"
        if self.accelerator.is_main_process:
            open_draft(place)
        self.accelerator.wait_for_everyone()
        draft = place.parent / DRAFTS / place.name
        with attributes(self, _drafts=draft.parent):
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            write_state(draft, self._state())
            publish(draft, place)
            remove_old(self.out)
        self.accelerator.wait_for_everyone()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._drafts or self.out / FOLDER)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the run record says what was trained and how."""


class GSPOTrainer(GRPOTrainer):
    """GRPOTrainer with sequence ratios by default."""

    default_algorithm = GSPOConfig
