"""GRPO and its kin with a compiler as the judge, on trl's GRPOTrainer.

One rollout step goes: prompts, with a curriculum's prefixes -> completions, each judged as soon as it ends -> group
rules and masks -> live rows dealt out to the optimizer steps (`rollout_phase.py`) -> trl's loss, our KL term, exact
denominators (`update_phase.py`). Both phases are objects that own their state. The trainer here is trl's: it makes
them, hands trl's questions on to them, and is the only one that knows trl's private names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before trl is imported: it reports home otherwise

import torch
import trl
from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from torch.distributed.fsdp import register_fsdp_forward_method
from transformers.trainer_callback import PrinterCallback
from trl.models import unwrap_model_for_generation

from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.policy import Policy, lora_config
from rlvr_cpp.policy.sampling import for_inference, sample
from rlvr_cpp.policy.settings import AdapterSettings, Sampling
from rlvr_cpp.policy.weights import weights_hash
from rlvr_cpp.reward.score import BY_TESTS, Score
from rlvr_cpp.runs.processes import sharding
from rlvr_cpp.tasks.mixture import Mixture
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.ahead.look_ahead import LookAhead
from rlvr_cpp.training.batches import Batch
from rlvr_cpp.training.checkpoints import BEST, DRAFTS, FOLDER, open_draft, publish, read_state, remove_old, write_state
from rlvr_cpp.training.config import (
    GenerationSettings,
    GRPOConfig,
    GSPOConfig,
    GuardSettings,
    StepCoderConfig,
    TrainerSettings,
)
from rlvr_cpp.training.guards.canary import canary_due, canary_finding
from rlvr_cpp.training.guards.guards import Finding
from rlvr_cpp.training.guards.prefix import answered_both_ways, prefix_finding
from rlvr_cpp.training.guards.start import coarse_dtype, empty_optimizer, fingerprint, gradients_differ
from rlvr_cpp.training.logps import (
    Scored,
    by_groups,
    by_length,
    count_positions,
    fuse_head,
    score_in_float32,
    scored_in_batches,
)
from rlvr_cpp.training.rollout import RolloutScorer
from rlvr_cpp.training.rollout_phase import RolloutPhase
from rlvr_cpp.training.steps import StepMetrics
from rlvr_cpp.training.trl_arguments import to_trl
from rlvr_cpp.training.update_phase import UpdatePhase
from rlvr_cpp.verifier.verifier import Verifier


class GRPOTrainer(trl.GRPOTrainer):  # type: ignore[misc]
    """Trains a policy's adapter (or all its weights) on tasks, judged by a verifier.

    `on_step` is called after each rollout step with its number, from 1, and its metrics: `reward`, `compile_rate`,
    `pass_rate`, `kept_groups`, `tied_groups`, `infra_groups`, `kl`, `clip_fraction`, `grad_norm`, `skipped_updates`,
    and times: `seconds` is `generate`, `wait` (for verdicts) and `update` together, `verify` is how long something
    was being judged meanwhile. `on_phase` is told what begins. Both are attributes that may be set later.
    Completions go to `completions.jsonl` in `out`, checkpoints to `checkpoints`.
    """

    default_algorithm: type[GRPOConfig] = GRPOConfig
    model: Any
    optimizer: Any

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
        score: Score = BY_TESTS,
        seed: int = 0,
        processes: int = 1,
        mixture: Mixture | None = None,
        on_step: Callable[[int, StepMetrics], None] = lambda step, metrics: None,
        on_phase: Callable[[str], None] = lambda phase: None,
    ) -> None:
        """`mixture` draws the tasks of each step; without it each comes as often as any other.

        Raises UserError where there are fewer tasks than prompts in a step, or `processes` cannot share a batch.
        """
        algorithm = algorithm or self.default_algorithm()
        generation = generation or GenerationSettings("transformers", None, 0.3, None)
        self.policy, self.algorithm, self.verifier, self.out = policy, algorithm, verifier, out
        self.on_step, self.on_phase = on_step, on_phase
        self._scored: Scored | None = None
        """The pass's log-probabilities while trl's loss asks for them."""
        self._drafts: Path | None = None
        """Where a checkpoint is being written."""
        model = policy.model
        # a model that will be shared out waits on the CPU
        device = PartialState().device if sharding() else model.device
        facts = {"dtype": model.dtype, "device": device, "seed": seed, "out": out, "processes": processes}

        def compiler(**_: Any) -> list[float | None]:
            return self.rollout_phase.rewards()

        super().__init__(
            model=model,
            reward_funcs=compiler,
            args=to_trl(algorithm, settings, generation, eos_ids=policy.eos_ids, **facts),
            train_dataset=_prompts(policy, tasks, settings.batch_size // algorithm.group_size),
            processing_class=policy.tokenizer,
            peft_config=lora_config(adapter, model) if adapter else None,
        )
        policy.model = self.model
        _require_sharding(self.is_fsdp_enabled or self.is_deepspeed_enabled)
        _keep_adapter_in_float32(self.model)
        for one in filter(None, (self.accelerator.unwrap_model(self.model), self.ref_model)):
            count_positions(one)
            score_in_float32(one, self.temperature)
        self.remove_callback(PrinterCallback)
        self.rollout_phase = RolloutPhase(
            policy,
            tasks,
            RolloutScorer(verifier, policy.decode, policy.eos_ids, policy.chat, score, policy.thoughts),
            algorithm,
            settings,
            generation,
            stepcoder or StepCoderConfig(),
            seed=seed,
            out=out,
            accelerator=self.accelerator,
            on_phase=lambda phase: self.on_phase(phase),
            mixture=mixture,
            ahead=self._look_ahead() if generation.ahead else None,
        )
        self.update_phase = UpdatePhase(algorithm, guards, self.accelerator, self.model.dtype)
        if self.is_fsdp_enabled:
            self._share_out()
        if self.is_deepspeed_enabled:
            self.accelerator.backward = self.update_phase.unless_empty(self.accelerator.backward)

    def _share_out(self) -> None:
        """Share the weights out already, not when training begins: an evaluation before it must not need them whole."""
        self.model, self.optimizer = self.accelerator.prepare(self.model, self.create_optimizer())
        self.model_wrapped = self.policy.model = self.model
        register_fsdp_forward_method(self.model, "generate")

    def _prepare_for_training(self, *args: Any) -> Any:
        """trl's, which would prepare a second time what is shared out."""
        if not self.is_fsdp_enabled:
            return super()._prepare_for_training(*args)
        with attributes(self.accelerator, prepare=lambda *prepared: prepared):
            return super()._prepare_for_training(*args)

    @property
    def rollout_step(self) -> int:
        """The number of the rollout step that is under way, from 1."""
        return int(self.state.global_step) // self.algorithm.num_minibatches + 1

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
        """Train; from a checkpoint of this run on, exactly as if it had not been interrupted.

        Raises GuardStop where a guard ends the run.
        """
        named = list(self.model.named_parameters())
        self.update_phase.heed(coarse_dtype(named, self.args.learning_rate), self._canary(0))
        if resume_from_checkpoint is not None:
            self._load_state(read_state(Path(resume_from_checkpoint)))
        else:
            self.update_phase.start = fingerprint(named)
            self.update_phase.heed(self._prefix_finding())
        try:
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        finally:
            self.rollout_phase.close()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """trl's, and then the rate that the settings name: both would go on with the one that they were saved with."""
        super()._load_optimizer_and_scheduler(checkpoint)
        rate: float = self.args.learning_rate
        schedule: Any = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        if checkpoint is None or set(getattr(schedule, "base_lrs", [rate])) == {rate}:
            return
        schedule.base_lrs = [rate] * len(schedule.base_lrs)
        for group, share in zip(self.optimizer.param_groups, schedule.lr_lambdas, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * share(schedule.last_epoch)

    def load_weights(self, checkpoint: Path) -> None:
        """Only the trained weights of a checkpoint, where nothing is left to train."""
        self._load_from_checkpoint(str(checkpoint))

    def keep_as_best(self) -> None:
        """Write the trained weights to `checkpoints/best`, whole or not at all; asked of every process."""
        place = self.out / FOLDER / BEST
        if self.accelerator.is_main_process:
            open_draft(place)
        self.accelerator.wait_for_everyone()
        draft = place.parent / DRAFTS / place.name
        self.save_model(str(draft))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            publish(draft, place)
        self.accelerator.wait_for_everyone()

    def check_gradients(self) -> None:
        """Ask, at the price of a batch, whether an evaluation leaves the gradients over a quantised base as they were.

        To be asked before the first evaluation. Raises GuardStop where it does not.
        """
        if getattr(self.model.config, "quantization_config", None) is None:
            return
        prompts = [self.policy.prompt_ids(task) for task in list(self.rollout_phase.tasks.values())[:2]]
        before = self._gradients(prompts)
        with for_inference(self.model):
            ends = {"eos_ids": self.policy.eos_ids, "pad_id": self.policy.tokenizer.pad_token_id}
            sample(self.model, prompts, max_new_tokens=2, **ends)
        action = self.update_phase.guards.settings.action
        self.update_phase.heed(gradients_differ(before, self._gradients(prompts), action=action))

    def _gradients(self, prompts: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Of the prompts' log-probability, by the names of what is trained."""
        was_training = self.model.training
        self.model.train()
        for prompt in prompts:
            ids = torch.tensor([prompt], device=self.model.device)
            logps, *_ = self._get_per_token_logps_and_entropies(self.model, ids, torch.ones_like(ids), len(prompt) - 1)
            logps.sum().backward()
        found = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
        self.model.zero_grad()
        self.model.train(was_training)
        return found

    def reference_hash(self) -> str | None:
        """SHA-256 of the weights that KL is measured against; None where there is no KL term."""
        if not self.algorithm.kl_coeff:
            return None
        if self.ref_model is not None:
            # DeepSpeed's engine has names of its own
            return weights_hash(self.accelerator.unwrap_model(self.ref_model).named_parameters())
        own = "ref" if "ref" in self.model.peft_config else "none"
        named = self.model.named_parameters()
        return weights_hash((name, p) for name, p in named if ".lora_" not in name or f".{own}." in name)

    def _look_ahead(self) -> LookAhead:
        """What samples beside the update. Raises UserError where processes share out the weights that it would copy."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise UserError(
                "generation.ahead is 1 and the processes share out the weights by FSDP or DeepSpeed, so that none has "
                "all of those that it would sample with: use 0"
            )
        ahead = LookAhead(self.model, self._logps_of_one)
        fuse_head(ahead.twin.model, self.temperature)
        return ahead

    def _logps_of_one(self, model: Any, prompt: Sequence[int], completion: Sequence[int]) -> list[float]:
        """As a training pass of any model scores a completion, in whatever thread."""
        ids = torch.tensor([[*prompt, *completion]], device=model.device)
        scored = super()._get_per_token_logps_and_entropies(model, ids, torch.ones_like(ids), len(completion))
        logps: list[float] = scored[0][0].tolist()
        return logps

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return self.rollout_phase.order_of(super()._get_train_sampler(*args, **kwargs))

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        sampling_step = super()._generate_and_score_completions
        return self.rollout_phase.next_pass(generation_batch, self.rollout_step, sampling_step)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return self.rollout_phase.prompt_ids(), None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        engine = partial(super()._generate_single_turn, prompt_ids, *args, **kwargs)
        return self.rollout_phase.generate(prompt_ids, self.ready_to_sample, engine)

    @contextmanager
    def ready_to_sample(self) -> Iterator[Any]:
        """The model that completions are drawn from; under ZeRO-3 with its weights whole. Asked of every process."""
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            yield model

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        batch_size: Any = None,
        **options: Any,
    ) -> Scored:
        if self._scored:
            return self._scored
        size = batch_size or len(input_ids)
        score = partial(super()._get_per_token_logps_and_entropies, model)
        if (is_dead := self._dead_groups()) is not None:
            batches: Iterable[torch.Tensor] = by_groups(attention_mask, size, self.algorithm.group_size, is_dead)
        elif size < len(input_ids):
            batches = by_length(attention_mask, size)
        else:
            whole: Scored = score(input_ids, attention_mask, logits_to_keep, size, **options)
            return whole
        return scored_in_batches(score, input_ids, attention_mask, logits_to_keep, batches, **options)

    def _dead_groups(self) -> Callable[[int], bool] | None:
        """Tells of a group, by its first row, that it need not be scored; None where all rows are.

        Sharded processes have to make the same passes, and vLLM's log-probabilities are corrected for, dead or alive.
        """
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return None if sharded or self.use_vllm else self.rollout_phase.dead_groups()

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        scored = self._score(model, inputs)
        return self.update_phase.loss(
            inputs,
            scored[0],
            partial(self._policy_term, model, scored),
            passes=self.current_gradient_accumulation_steps,
            entropies=scored[1],
            router_term=None if scored[2] is None else self.router_aux_loss_coef * scored[2],
            is_first=self._step == 0 and self.state.global_step == 0,
        )

    def _score(self, model: Any, inputs: Batch) -> Scored:
        return self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
            compute_entropy=True,
            compute_aux_loss=self.aux_loss_enabled,
        )

    def _policy_term(self, model: Any, scored: Scored, inputs: Batch, level: str) -> torch.Tensor:
        """trl's loss of log-probabilities that are known, without its own KL and router terms."""
        ours = {"beta": 0.0, "importance_sampling_level": level, "aux_loss_enabled": False}
        weighed = "importance_sampling_ratio" in inputs  # which trl asks of vLLM alone
        with attributes(self, _scored=scored, use_vllm=weighed, **ours):
            loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """trl's forward and backward pass; an update without a live row is not taken."""
        scale = self.update_phase.loss_scale
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch) / scale
        self.update_phase.leave_out_empty(self.optimizer, self.model.parameters())
        return loss

    def try_optimizer(self) -> None:
        """Raise what the optimizer and its schedule raise of their settings, for which training asks them too late."""
        if self.is_deepspeed_enabled:  # which brings its own
            return
        with attributes(self, optimizer=self.optimizer, lr_scheduler=self.lr_scheduler):
            super().create_optimizer()
            self.create_scheduler(self.args.max_steps)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """trl's optimizer. Raises GuardStop where it would train nothing."""
        optimizer = super().create_optimizer(*args, **kwargs)
        self.update_phase.heed(empty_optimizer(self.model.parameters(), optimizer.param_groups))
        return optimizer

    def log(self, logs: StepMetrics, start_time: float | None = None) -> None:
        """Add a rollout step's metrics to trl's, tell `on_step`, ask the guards; other logs pass unchanged."""
        told = self.rollout_phase.metrics()
        if told:
            told = self.update_phase.metrics() | told
            logs.setdefault("grad_norm", 0.0)  # DeepSpeed has none before the first update that is taken
            self._metrics["train"].update({name: [float(value)] for name, value in told.items()})
        super().log(logs, start_time)
        if told:
            step = self.rollout_step - 1
            self.on_step(step, logs)
            self.update_phase.heed(*self.update_phase.findings(logs, self.model), self._canary(step))

    def _prefix_finding(self) -> Finding | None:
        phase, algorithm = self.rollout_phase, self.algorithm
        if phase.curriculum is None:
            return None
        openings = phase.openings(self.args.generation_batch_size // 2)
        sampling = Sampling(phase.seed, algorithm.temperature, algorithm.max_gen_len)
        pairs = answered_both_ways(self.policy, openings, self.verifier, sampling)
        return prefix_finding(pairs) if self.accelerator.is_main_process and pairs else None

    def _canary(self, step: int) -> Finding | None:
        settings = self.update_phase.guards.settings
        if not canary_due(step, settings.canary_every):
            return None
        return canary_finding(self.verifier, step, action=settings.action)

    def _state(self) -> dict[str, Any]:
        return {**self.rollout_phase.state(), **self.update_phase.state()}

    def _load_state(self, state: dict[str, Any]) -> None:
        self.rollout_phase.load_state(state)
        self.update_phase.load_state(state)

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
        state = self._state()
        if self.accelerator.is_main_process:
            write_state(draft, state)
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


def _prompts(policy: Policy, tasks: Sequence[Task], prompts_of_a_step: int) -> Dataset:
    """trl's data set. Raises UserError where a step takes more prompts than there are tasks."""
    if len(tasks) < prompts_of_a_step:
        raise UserError(
            f"there are {len(tasks)} training tasks and a step takes {prompts_of_a_step}: "
            "lower trainer.batch_size or give more tasks"
        )
    return Dataset.from_list([{"prompt": policy.prompt(task), "task_id": task.task_id} for task in tasks])


def _require_sharding(happens: bool) -> None:
    """Raise UserError where the launcher asks for sharding and accelerate goes on without a word and without it."""
    if (kind := sharding()) is not None and not happens:
        raise UserError(
            f"the launcher asks for {kind}, which accelerate has for GPUs alone, and for several processes: launch on "
            "GPUs with policy.device=auto, or with --multi_gpu, which shares out no weights"
        )


def _keep_adapter_in_float32(model: Any) -> None:
    """Undo that trl rounds an adapter to bf16 on a quantized base."""
    for parameter in model.parameters():
        if parameter.requires_grad and isinstance(model, PeftModel):
            parameter.data = parameter.data.float()


@contextmanager
def attributes(thing: Any, **values: Any) -> Iterator[None]:
    """Set attributes for the length of a block."""
    before = {name: getattr(thing, name) for name in values}
    try:
        for name, value in values.items():
            setattr(thing, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(thing, name, value)
