"""The first half of a rollout step: from prompts to completions, verdicts and the forward passes they are dealt to.

What is ours enters trl's GRPOTrainer as data: prompts with a curriculum's prefixes, completions that are judged as
soon as they end, group rules, masks, and passes that hold nothing but live rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from rlvr_cpp.training.steps import Clock

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before trl is imported: it reports home otherwise

import torch
import trl
from accelerate.utils import gather_object
from trl.models import unwrap_model_for_generation

from rlvr_cpp.policy.policy import Policy
from rlvr_cpp.policy.sampling import completion_seed, sample
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.batches import (
    Batch,
    TaskOrder,
    deal,
    is_per_row,
    join_batches,
    pass_rows,
    pass_width,
    without_fillers,
)
from rlvr_cpp.training.config import GenerationSettings, GRPOConfig, StepCoderConfig
from rlvr_cpp.training.groups import Signal, group_signal
from rlvr_cpp.training.objective import Window, window_of
from rlvr_cpp.training.rollout import Request, Rollout, RolloutJudge, batch_metrics, mean_reward
from rlvr_cpp.training.stepcoder.curriculum import PrefixCurriculum, group_outcomes
from rlvr_cpp.training.stepcoder.focus import token_masks


class RolloutPhase(trl.GRPOTrainer):  # type: ignore[misc]
    """trl's trainer with batches of ours; `trainer.GRPOTrainer` sets the attributes."""

    policy: Policy
    algorithm: GRPOConfig
    generation: GenerationSettings
    stepcoder: StepCoderConfig
    tasks: Mapping[str, Task]
    curriculum: PrefixCurriculum | None
    judge: RolloutJudge
    out: Path
    seed: int
    on_phase: Callable[[str], None]
    rollouts: list[Rollout]
    """Of the last batch, all processes' and rounds'."""
    _requests: list[Request]
    _passes: list[Batch]
    _refilled: int
    _epochs: int
    """Behind a run that goes on."""
    _order: TaskOrder
    _totals: dict[str, float]
    _clock: Clock

    @property
    def rollout_step(self) -> int:
        """The number of the rollout step that is under way, from 1."""
        return int(self.state.global_step) // self.algorithm.num_minibatches + 1

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        """trl's order of tasks, which draws each epoch's from what the last one left: past the epochs that are done."""
        sampler = super()._get_train_sampler(*args, **kwargs)
        for _ in range(self._epochs if sampler.shuffle else 0):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
        self._order = TaskOrder(sampler)
        return self._order

    def _reward_function(self) -> Callable[..., list[float | None]]:
        def compiler(**_: Any) -> list[float | None]:
            self.on_phase("wait for verdicts")
            with self._clock.phase("wait"):
                self.rollouts = self.judge.finish()
            return [rollout.reward for rollout in self.rollouts]

        return compiler

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
        self.judge.begin(self._requests)
        batch = super()._generate_and_score_completions(inputs)
        self._totals["verify"] += self.judge.busy_seconds
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

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        """The next pass: every rollout step begins with a new batch, whose live rows are dealt out to its passes."""
        number = int(self._step % self.args.steps_per_generation)
        if number == 0 or not self._passes:
            self._passes = self._deal(self._generate_and_score_completions(generation_batch))
            self.on_phase("update")
            self.judge.prepare(self._next_tasks())
        return self._passes[number]

    def _next_tasks(self) -> list[Task]:
        """Of the rollout step behind this one; none at the end of an epoch, whose successor is not drawn yet."""
        tasks, number = list(self.tasks.values()), self.rollout_step % self._steps_in_epoch
        return [tasks[index] for index in self._order.rollout(number)] if number else []

    @property
    def _steps_in_epoch(self) -> int:
        return len(self.tasks) * self.algorithm.group_size // int(self.args.generation_batch_size)

    def _deal(self, batch: Batch) -> list[Batch]:
        updates, passes = self.algorithm.num_minibatches, self.args.gradient_accumulation_steps
        update = batch.pop("update")
        counts = torch.stack([window_of(batch, update, step) for step in range(updates)])
        windows = [Window(*row) for row in self.accelerator.reduce(counts, reduction="sum").tolist()]
        width = torch.tensor([pass_width(update, updates, passes)], device=update.device)
        lengths = batch["prompt_mask"].sum(dim=1) + batch["completion_mask"].sum(dim=1)
        dealt = deal(update, lengths, updates, passes, int(self.accelerator.gather(width).max()))
        chosen = list(zip(dealt.rows, dealt.counts, strict=True))
        if self.accelerator.num_processes == 1:
            chosen = [without_fillers(*one) for one in chosen]
        return [
            {**pass_rows(batch, rows, counts), "window": windows[number // passes]}
            for number, (rows, counts) in enumerate(chosen)
        ]
