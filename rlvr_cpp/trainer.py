"""GRPO and its kin with a compiler as the judge: where our parts meet trl's GRPOTrainer, and the only file that does.

What is ours enters as data. One rollout step goes: prompts, with a curriculum's prefixes -> completions, each judged
as soon as it ends -> group rules and masks -> live rows dealt out to the optimizer steps -> trl's loss. That loss is
not copied but called, over rows and masks of our making; the KL term and the exact denominators around it are in
`objective.py`. An optimizer step without any live row is not taken, by the schedule neither.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before trl is imported: it reports home otherwise

import torch
import trl
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel
from transformers.trainer_callback import PrinterCallback
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import add_fused_lm_head

from rlvr_cpp.batches import Batch, deal, is_per_row, join_batches, pass_rows, pass_width
from rlvr_cpp.canary import canary_due, canary_finding
from rlvr_cpp.checkpoints import FOLDER, open_draft, publish, read_state, remove_old, weights_hash, write_state
from rlvr_cpp.config import (
    AdapterSettings,
    GenerationSettings,
    GRPOConfig,
    GSPOConfig,
    GuardSettings,
    StepCoderConfig,
    TrainerSettings,
)
from rlvr_cpp.curriculum import PrefixCurriculum
from rlvr_cpp.errors import UserError
from rlvr_cpp.focus import token_masks
from rlvr_cpp.groups import Signal, group_signal
from rlvr_cpp.guards import (
    Finding,
    Guards,
    coarse_dtype,
    empty_optimizer,
    fingerprint,
    heed,
    nothing_moved,
    start_differs,
)
from rlvr_cpp.objective import (
    Window,
    clipped,
    importance_ratio,
    items_in_batch,
    kl_term,
    kl_weights,
    old_for_sequence_ratio,
    policy_scale,
    window_of,
)
from rlvr_cpp.policy import Policy, lora_config
from rlvr_cpp.progress import console
from rlvr_cpp.rollout import Request, Rollout, RolloutJudge, batch_metrics, group_outcomes, mean_reward
from rlvr_cpp.sampling import completion_seed, sample
from rlvr_cpp.shaping import CompilerRewardShaper
from rlvr_cpp.tasks import Task
from rlvr_cpp.trl_arguments import to_trl
from rlvr_cpp.verifier import Verifier

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

StepMetrics = dict[str, Any]
"""Numbers by name; None where a step has none."""


class GRPOTrainer(trl.GRPOTrainer):  # type: ignore[misc]
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
        self.guards = Guards(guards, kl_coeff=algorithm.kl_coeff, num_minibatches=algorithm.num_minibatches)
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
        self._clock = _Clock()
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
            peft_config=lora_config(adapter) if adapter else None,
        )
        policy.model = self.model
        for parameter in self.model.parameters():
            if parameter.requires_grad and isinstance(self.model, PeftModel):
                parameter.data = parameter.data.float()  # trl rounds them to bf16 on a quantized base
        self._score_in_float32()
        self.remove_callback(PrinterCallback)

    def _score_in_float32(self) -> None:
        """Project and normalise in float32, tile by tile: bf16 logits move a sequence's ratio by more than GSPO's band.

        trl's own switch for it also casts the head's weights, which fails for an adapter on tied embeddings.
        """
        for model in (self.accelerator.unwrap_model(self.model), self.ref_model):
            if model is not None and model.dtype != torch.float32:
                base = model.get_base_model() if isinstance(model, PeftModel) else model
                add_fused_lm_head(base, self.temperature, cast_lm_head_to_fp32=True, outputs=("log_probs", "entropy"))

    def _reward_function(self) -> Callable[..., list[float | None]]:
        def compiler(**_: Any) -> list[float | None]:
            self.on_phase("wait for verdicts")
            with self._clock.phase("wait"):
                self.rollouts = self.judge.finish()
            return [rollout.reward for rollout in self.rollouts]

        return compiler

    @property
    def rollout_step(self) -> int:
        """The number of the rollout step that is under way, from 1."""
        return int(self.state.global_step) // self.algorithm.num_minibatches + 1

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        """trl's order of tasks, which draws each epoch's from what the last one left: past the epochs that are done."""
        sampler = super()._get_train_sampler(*args, **kwargs)
        for _ in range(self._epochs if sampler.shuffle else 0):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
        return sampler

    # --- from prompts to completions ---

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        """A batch of scored rows, some of them refilled, with what the group rules and masks say of each."""
        self._clock.restart()
        wanted = self.args.generation_batch_size // self.algorithm.group_size
        batch, everyone = self._round(inputs, 0)
        signal = self._signal(everyone)
        for number in range(1, self.algorithm.refill_rounds + 1):
            missing = wanted - signal.rows.kept
            if missing <= 0:
                break
            more, others = self._round(self._refill(missing), number)
            batch, everyone = join_batches(batch, more), [*everyone, *others]
            signal = self._signal(everyone)
        self.rollouts = [rollout for part in everyone for rollout in part]
        batch |= self._masks_and_advantages(batch, everyone, signal)
        self._tell_rollouts(signal)
        return batch

    def _round(self, inputs: list[dict[str, Any]], number: int) -> tuple[Batch, list[list[Rollout]]]:
        """Sample and judge rows; gives this process's batch and the rollouts of every process."""
        self._requests = [self._request(row["task_id"], number) for row in inputs]
        self._round_number = number
        self.judge.begin(self._requests)
        batch = super()._generate_and_score_completions(inputs)
        rows = {key: value for key, value in batch.items() if is_per_row(value, len(inputs))}
        return rows, gather_object([self.rollouts])

    def _request(self, task_id: str, number: int) -> Request:
        task = self.tasks[task_id]
        prefix = self.curriculum.prefix(task) if self.curriculum else ""
        group = f"{self.rollout_step}:{number}:{task_id}"
        return Request(task, self.policy.answer_prefix(task, prefix), group)

    def _refill(self, groups: int) -> list[dict[str, Any]]:
        """This process's rows of further prompts in the place of discarded groups."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        size = self.algorithm.group_size
        while groups * size % processes:
            groups += 1
        names = [self._next_refill() for _ in range(groups)]
        rows = [{"prompt": self.policy.prompt(self.tasks[n]), "task_id": n} for n in names for _ in range(size)]
        share = len(rows) // processes
        return rows[rank * share : (rank + 1) * share]

    def _next_refill(self) -> str:
        """The next task of an endless shuffled order of its own."""
        names = list(self.tasks)
        epoch, place = divmod(self._refilled, len(names))
        Random(f"refill:{self.seed}:{epoch}").shuffle(names)
        self._refilled += 1
        return names[place]

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self.policy.prompt_ids(request.task, request.prefix) for request in self._requests], None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Completions of tokenized prompts; each goes to the judge when it ends."""
        self.on_phase("generate")
        with self._clock.phase("generate"):
            if self.generation.engine != "transformers":
                completions, logprobs = super()._generate_single_turn(prompt_ids, *args, **kwargs)
                for index, ids in enumerate(completions):
                    self.judge.submit(index, ids)
            else:
                completions, logprobs = self._sample(prompt_ids), None
        self.on_phase("score")
        return completions, logprobs

    def _sample(self, prompt_ids: list[list[int]]) -> list[list[int]]:
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
            return sample(
                model,
                prompt_ids,
                max_new_tokens=self.algorithm.max_gen_len,
                eos_ids=self.policy.eos_ids,
                pad_id=self.policy.tokenizer.pad_token_id,
                temperature=self.algorithm.temperature,
                seeds=self._seeds(),
                batch_size=self.generation.batch_size,
                on_finished=self.judge.submit,
            )

    def _seeds(self) -> list[int]:
        first = self.accelerator.process_index * len(self._requests)
        return [
            completion_seed(self.seed, request.group, (first + row) % self.algorithm.group_size)
            for row, request in enumerate(self._requests)
        ]

    # --- from verdicts to passes ---

    def _signal(self, everyone: list[list[Rollout]]) -> Signal:
        rollouts = [rollout for part in everyone for rollout in part]
        return group_signal(
            [rollout.primary for rollout in rollouts],
            [rollout.reward for rollout in rollouts],
            [len(rollout.ids) for rollout in rollouts],
            [rollout.truncated for rollout in rollouts],
            self.algorithm,
        )

    def _masks_and_advantages(self, batch: Batch, everyone: list[list[Rollout]], signal: Signal) -> Batch:
        """By row of this process: `update`, `advantages`, `loss_mask` and, with FGO's coverage, `ratio_mask`."""
        mine = self._own_rows([len(part) for part in everyone])
        device = batch["completion_ids"].device
        update = signal.rows.update_of_rows(self.algorithm.group_size, self.algorithm.num_minibatches)[mine]
        found: Batch = {
            "update": update.to(device),
            "advantages": signal.advantages[mine].to(device, torch.float32),
            "loss_mask": torch.ones_like(batch["completion_mask"]),
        }
        if self.stepcoder.fgo != "off":
            rollouts = [self.rollouts[row] for row in mine.tolist()]
            found |= self._focus(rollouts, update, found["loss_mask"], batch["completion_mask"])
        return found

    def _own_rows(self, sizes: list[int]) -> torch.Tensor:
        """Which rows of all rounds and processes are this process's, in the order of its batch."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        starts = [sum(sizes[:part]) for part in range(rank, len(sizes), processes)]
        own = [torch.arange(start, start + size) for start, size in zip(starts, sizes[rank::processes], strict=True)]
        return torch.cat(own)

    def _focus(
        self, rollouts: list[Rollout], update: torch.Tensor, loss_mask: torch.Tensor, response: torch.Tensor
    ) -> Batch:
        """FGO's masks for live rows; a row of the coverage mask keeps the ratio of all its tokens."""
        self.on_phase("focus")
        live = (update >= 0).tolist()
        masks = token_masks(rollouts, live, self.stepcoder.fgo, self.policy.decode, self.judge.verifier)
        ratio_mask = loss_mask.clone()
        for row, mask in enumerate(masks):
            kept = torch.tensor(mask.tokens, dtype=loss_mask.dtype, device=loss_mask.device)
            loss_mask[row, : len(kept)] = kept
            if not mask.keeps_ratio:
                ratio_mask[row, : len(kept)] = kept
        self._totals["focused_rows"] += sum(0 in mask.tokens for mask in masks)
        self._totals["masked_tokens"] += int((response * (1 - loss_mask)).sum())
        return {"loss_mask": loss_mask, "ratio_mask": ratio_mask}

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        """The next pass: every rollout step begins with a new batch, whose live rows are dealt out to its passes."""
        number = int(self._step % self.args.steps_per_generation)
        if number == 0 or not self._passes:
            self._passes = self._deal(self._generate_and_score_completions(generation_batch))
            self.on_phase("update")
        return self._passes[number]

    def _deal(self, batch: Batch) -> list[Batch]:
        updates, passes = self.algorithm.num_minibatches, self.args.gradient_accumulation_steps
        update = batch.pop("update")
        counts = torch.stack([window_of(batch, update, step) for step in range(updates)])
        windows = [Window(*row) for row in self.accelerator.reduce(counts, reduction="sum").tolist()]
        width = torch.tensor([pass_width(update, updates, passes)], device=update.device)
        dealt = deal(update, updates, passes, int(self.accelerator.gather(width).max()))
        return [
            {**pass_rows(batch, rows, counts), "window": windows[number // passes]}
            for number, (rows, counts) in enumerate(zip(dealt.rows, dealt.counts, strict=True))
        ]

    # --- from passes to updates ---

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """trl's forward pass, or what `_compute_loss` already has of it."""
        return self._scored or super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        """trl's policy loss over the rows and masks of this pass, our KL term, both over the update's own counts."""
        algorithm, window = self.algorithm, inputs["window"]
        self._window = window
        scored = self._score(model, inputs)
        new, aux_loss = scored[0], scored[2]
        old = inputs.get("old_per_token_logps", new.detach())
        level, ratio_mask = algorithm.ratio, inputs.get("ratio_mask")
        data = {**inputs, "tool_mask": inputs["loss_mask"], "old_per_token_logps": old}
        if level == "sequence" and ratio_mask is not None:
            data["old_per_token_logps"] = old_for_sequence_ratio(new, old, inputs["completion_mask"] * ratio_mask)
            level = "token"
        items = items_in_batch(window, algorithm.num_minibatches)
        exact = torch.promote_types(new.dtype, torch.float32)
        data["num_items_in_batch"] = torch.tensor(items, dtype=exact, device=new.device)
        with _attributes(self, _scored=scored, beta=0.0, importance_sampling_level=level, aux_loss_enabled=False):
            loss: torch.Tensor = super()._compute_loss(model, data)
        passes, processes = self.current_gradient_accumulation_steps, self.accelerator.num_processes
        loss = loss * policy_scale(algorithm.loss_type, len(new), passes, processes, window, self._constant)
        self._check_start(new, old, inputs)
        self._count_clipped(new.detach(), old, inputs)
        if algorithm.kl_coeff:
            loss = loss + algorithm.kl_coeff * processes * self._kl(new, old, inputs)
        if aux_loss is not None:
            loss = loss + self.router_aux_loss_coef * aux_loss / passes
        return loss

    def _score(self, model: Any, inputs: Batch) -> tuple[Any, Any, Any]:
        return self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
            compute_entropy=True,
            compute_aux_loss=self.aux_loss_enabled,
        )

    @property
    def _constant(self) -> float:
        return float(self.algorithm.max_gen_len) if self.algorithm.luspo_norm == "max_len" else 1.0

    def _kl(self, new: torch.Tensor, old: torch.Tensor, inputs: Batch) -> torch.Tensor:
        """This pass's share of the update's KL term, over whole responses of live rows."""
        algorithm, mask = self.algorithm, live_response(inputs)
        ratio = importance_ratio(new, old, mask, algorithm.ratio) if algorithm.kl_estimator == "k3_is" else 1.0
        kl = kl_term(new, inputs["ref_per_token_logps"], algorithm.kl_estimator, ratio)
        self._totals["kl"] += (kl.detach() * mask).sum().item()
        self._totals["kl_tokens"] += mask.sum().item()
        window, mask = inputs["window"], mask.to(kl.dtype)
        weights = kl_weights(mask, algorithm.loss_type, window, algorithm.max_gen_len, self._constant)
        return (weights * kl).sum()

    def _count_clipped(self, new: torch.Tensor, old: torch.Tensor, inputs: Batch) -> None:
        """Of the ratios that enter the loss, by sequence or by token; trl's mean over passes counts filled-up rows."""
        tokens = inputs["completion_mask"] * inputs["loss_mask"]
        ratio_tokens = inputs["completion_mask"] * inputs.get("ratio_mask", inputs["loss_mask"])
        ratio = importance_ratio(new, old, ratio_tokens, self.algorithm.ratio)
        counted = inputs["live"][:, None] if self.algorithm.ratio == "sequence" else tokens
        gone = clipped(ratio, inputs["advantages"], self.epsilon_low, self.epsilon_high)
        self._totals["clipped"] += (gone * counted).sum().item()
        self._totals["clippable"] += counted.sum().item()

    def _check_start(self, new: torch.Tensor, old: torch.Tensor, inputs: Batch) -> None:
        """Before the first update sampler, policy and reference are one: ratio 1 and KL 0."""
        if self._step > 0 or self.state.global_step > 0:
            return
        mask = live_response(inputs)
        error = (importance_ratio(new, old, mask, self.algorithm.ratio).detach() - 1).abs() * mask
        kl = kl_term(new, inputs.get("ref_per_token_logps", new)).detach() * mask
        count = mask.sum().clamp(min=1)
        # in 16 bits a single token may be off by a tenth for the rounding of another padding alone
        error = error.max() if self.model.dtype == torch.float32 else error.sum() / count
        numbers = torch.stack([error, kl.sum() / count])
        ratio, mean = self.accelerator.gather(numbers[None]).amax(dim=0).tolist()
        self._totals["start_ratio_error"], self._totals["start_kl"] = ratio, mean
        self._heed(start_differs(ratio, mean, self.model.dtype, action=self.guard_settings.action))

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """One forward and backward pass; an update without a live row is not taken, nor the schedule's step."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            skipped = self._window.sequences == 0
            self.optimizer._is_overflow = skipped  # what accelerate asks before the schedule steps
            self._totals["skipped_updates"] += skipped
            if skipped:
                for parameter in self.model.parameters():
                    parameter.grad = None  # the optimizer then leaves weights and momentum alone
        return loss

    # --- what is told and kept ---

    def _tell_rollouts(self, signal: Signal) -> None:
        rows = signal.rows
        self._record(batch_metrics(self.rollouts))
        self._record({"kept_groups": rows.kept, "tied_groups": rows.tied, "infra_groups": rows.infra})
        self._metrics["train"]["reward"] = [mean_reward(self.rollouts)]  # trl's is a mean of rounds of unlike size
        if self.curriculum is not None:
            self.curriculum.observe(group_outcomes(self.rollouts, self.algorithm.group_size))
            self._record({"prefix_frac": self.curriculum.mean_fraction(self.tasks.values())})
        if self.accelerator.is_main_process:
            with (self.out / "completions.jsonl").open("a") as log:
                log.writelines(rollout.log_line(self.rollout_step) + "\n" for rollout in self.rollouts)

    def _record(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._metrics["train"][name].append(float(value))

    def log(self, logs: StepMetrics, start_time: float | None = None) -> None:
        """Add our names and times to trl's metrics, ask the guards and tell `on_step`; other logs pass unchanged."""
        is_step = "kept_groups" in self._metrics["train"]
        if is_step:
            self._record(self._clock.seconds() | {"verify": self.judge.busy_seconds})
            self._record(self._step_totals())
        super().log(logs, start_time)
        if is_step:
            step = self.rollout_step - 1
            self._guard(step, logs)
            self.on_step(step, logs)

    def _step_totals(self) -> StepMetrics:
        """What the passes of a step added up, over all processes."""
        names = ("kl", "kl_tokens", "clipped", "clippable", "focused_rows", "masked_tokens")
        sums = torch.tensor([self._totals[name] for name in names], dtype=torch.float64, device=self.accelerator.device)
        total = dict(zip(names, self.accelerator.reduce(sums, reduction="sum").tolist(), strict=True))
        found = {name: total[name] for name in names[-2:]} if self.stepcoder.fgo != "off" else {}
        found["skipped_updates"] = self._totals["skipped_updates"]
        found["clip_fraction"] = total["clipped"] / max(1, total["clippable"])
        if total["kl_tokens"]:
            found["kl"] = total["kl"] / total["kl_tokens"]
        found |= {name: self._totals[name] for name in ("start_ratio_error", "start_kl") if name in self._totals}
        self._totals.clear()
        return found

    def _warn(self, message: str) -> None:
        if self.accelerator.is_main_process:
            console.print(f"warning: {message}", style="yellow", soft_wrap=True)

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

    def _heed(self, *findings: Finding | None) -> None:
        """What any process found, all of them heed, so that none goes on alone."""
        heed([found for mine in gather_object([findings]) for found in mine if found], self._warn)

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
        in_epoch = len(self.tasks) * self.algorithm.group_size // self.args.generation_batch_size
        return {
            "epochs": (self.rollout_step - 1) // in_epoch,
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
        draft = place.parent / ".partial" / place.name
        with _attributes(self, _drafts=draft.parent):
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


def live_response(inputs: Batch) -> torch.Tensor:
    """(B, T) every token of the completions that count, masked by FGO or not."""
    mask: torch.Tensor = inputs["completion_mask"] * inputs["live"][:, None]
    return mask


@contextmanager
def _attributes(thing: Any, **values: Any) -> Iterator[None]:
    """Set attributes for the length of a block."""
    before = {name: getattr(thing, name) for name in values}
    try:
        for name, value in values.items():
            setattr(thing, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(thing, name, value)


class _Clock:
    """Where the seconds of a rollout step go: its phases, and `update` for all that is none of them."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A step begins."""
        self._started = time.monotonic()
        self._phases = {"generate": 0.0, "wait": 0.0}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time as a phase's."""
        started = time.monotonic()
        yield
        self._phases[name] += time.monotonic() - started

    def seconds(self) -> StepMetrics:
        """Of the step so far; `generate`, `wait` and `update` add up to `seconds`."""
        whole = time.monotonic() - self._started
        return {**self._phases, "update": whole - sum(self._phases.values()), "seconds": whole}
