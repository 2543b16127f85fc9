"""The first half of a rollout step: from prompts to completions, verdicts and the forward passes they are dealt to.

Prompts come with a curriculum's prefixes, completions are judged as soon as they end, and where group rules discard a
group further prompts may take its place. trl's own sampling step is called for a row's rewards and the old policy's
log-probabilities, and asks back for tokens (`prompt_ids`), completions (`generate`) and their rewards (`rewards`).
With `generation.ahead` a step's completions were begun when the one before had its own (`ahead/look_ahead.py`): which
tasks they are of, and which prefixes, goes by what was known then.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from rlvr_cpp.policy.lengths import context_of
from rlvr_cpp.policy.openings import Opening
from rlvr_cpp.policy.policy import Policy
from rlvr_cpp.policy.sampling import Finished, completion_seed, sample
from rlvr_cpp.tasks.choice import evenly_spaced
from rlvr_cpp.tasks.learnability import LearnableTasks
from rlvr_cpp.tasks.mixture import Mixture
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.ahead.look_ahead import AheadOfStep, Completions, LookAhead
from rlvr_cpp.training.batches import Batch, TaskOrder, is_per_row, join_batches
from rlvr_cpp.training.config import GenerationSettings, GRPOConfig, StepCoderConfig, TrainerSettings
from rlvr_cpp.training.groups import Signal
from rlvr_cpp.training.passes import deal_passes, own_rows, signal_of, with_signal, with_token_masks
from rlvr_cpp.training.rollout import Request, Rollout, RolloutScorer, batch_metrics, mean_reward
from rlvr_cpp.training.stepcoder.curriculum import PrefixCurriculum, group_outcomes
from rlvr_cpp.training.stepcoder.token_masks import token_masks
from rlvr_cpp.training.steps import COMPLETIONS, Clock, StepMetrics, summed
from rlvr_cpp.training.trl_arguments import pass_sizes

Rows = list[dict[str, Any]]
"""Rows of trl's data set, with `prompt` and `task_id`."""


class RolloutPhase:
    """Samples a step's completions, has them scored and deals the live ones out to the step's forward passes."""

    def __init__(
        self,
        policy: Policy,
        tasks: Sequence[Task],
        scorer: RolloutScorer,
        algorithm: GRPOConfig,
        settings: TrainerSettings,
        generation: GenerationSettings,
        stepcoder: StepCoderConfig,
        *,
        seed: int,
        out: Path,
        accelerator: Accelerator,
        on_phase: Callable[[str], None],
        mixture: Mixture | None = None,
        ahead: LookAhead | None = None,
    ) -> None:
        """`on_phase` is told what begins; a step's rollouts are appended to a log in the folder `out`.

        `mixture` draws the tasks; without it trl does, each as often as any other. `ahead` samples the next step's
        completions beside the update.
        """
        self.policy, self.scorer, self.seed, self.out = policy, scorer, seed, out
        self.algorithm, self.generation, self.stepcoder = algorithm, generation, stepcoder
        self.tasks: Mapping[str, Task] = {task.task_id: task for task in tasks}
        self.curriculum = PrefixCurriculum(stepcoder) if stepcoder.cccs else None
        self.accelerator, self.on_phase = accelerator, on_phase
        self.clock = Clock()
        self.step = 0
        """The number of the step that is under way or was the last one, from 1."""
        self.rollouts: list[Rollout] = []
        """The last batch, of all processes and rounds."""
        self._in_round = False
        self._round_number = 0
        """0, or that of the refill under way or behind."""
        self._batch_size, self._last_step = settings.batch_size, settings.steps
        self._ahead = ahead
        self._taken: AheadOfStep | None = None
        """What was begun before the step under way, in its first round."""
        self._passes_of_update = pass_sizes(algorithm, settings, accelerator.num_processes)[1]
        self._requests: Sequence[Request] = []
        self._passes: deque[Batch] = deque()
        self._refilled = 0
        """How many tasks the refills have taken so far."""
        self._mixture = mixture
        self._refills = mixture.again("refill") if mixture else None
        self._learnable = self._by_learnability() if algorithm.prompt_sampling == "learnability" else None
        self._epochs_before = 0
        """The epochs that the interrupted run had finished."""
        self._told: StepMetrics = {}
        """Numbers of the step under way; empty once they were asked for."""
        self._counts: dict[str, float] = defaultdict(float)
        """What this process adds to the step's sums."""

    def next_pass(self, rows: Rows, step: int, score_rows: Callable[[Rows], Batch]) -> Batch:
        """The next forward pass; where the last step's are used up, those of `step`, sampled on the prompts of `rows`.

        `score_rows` is trl's sampling step.
        """
        if not self._passes:
            self.step = step
            batch = self._roll_out(rows, score_rows)
            updates, passes = self.algorithm.num_minibatches, self._passes_of_update
            self._passes.extend(deal_passes(batch, updates, passes, self.accelerator))
            self.on_phase("update")
            if self._ahead is None:
                self.scorer.prepare(self._next_tasks())
        return self._passes.popleft()

    def openings(self, most: int) -> dict[Task, Opening]:
        """At most `most` tasks that the curriculum gives something of, and what the policy is given."""
        able = [task for task in self.tasks.values() if self.curriculum and self.curriculum.prefix(task)]
        return {task: self._opening(task) for task in evenly_spaced(able, most)}

    def prompt_ids(self) -> list[list[int]]:
        """The tokens of what is asked of the policy, row by row."""
        return self._prompt_ids_of(self._requests)

    def _prompt_ids_of(self, requests: Sequence[Request]) -> list[list[int]]:
        return [[*self.policy.prompt_ids(request.task), *request.opening.ids] for request in requests]

    def generate(
        self,
        prompt_ids: Sequence[Sequence[int]],
        open_model: Callable[[], AbstractContextManager[Any]],
        engine: Callable[[], tuple[Any, Any]],
    ) -> tuple[Any, Any]:
        """Completions of tokenized prompts, each handed to the scorer when it ends, and `engine`'s log-probabilities.

        `engine` is trl's way to sample, for all engines but transformers, which samples the model that `open_model`
        makes ready.
        """
        self.on_phase("generate")
        with self.clock.phase("generate"):
            if self._taken is not None and self._round_number == 0:
                written = self._taken.written.result()
                completions, logprobs = written.completions, written.logps
            elif self.generation.engine != "transformers":
                completions, logprobs = engine()
                for index, ids in enumerate(completions):
                    self.scorer.submit(index, ids)
            else:
                with open_model() as model:
                    completions, logprobs = self._sample(model, self._requests, prompt_ids, self.scorer.submit)
        if self._ahead is not None and self._ahead.is_idle:
            self._begin_next(self._ahead)
        self.on_phase("score")
        return completions, logprobs

    def rewards(self) -> list[float | None]:
        """Each row's reward, once all are judged."""
        self.on_phase("wait for verdicts")
        with self.clock.phase("wait"):
            self.rollouts = self.scorer.finish()
        return [rollout.reward for rollout in self.rollouts]

    def dead_groups(self) -> Callable[[int], bool] | None:
        """Tells of a group of the round under way, by its first row here, whether it is known to say nothing.

        None outside of a round, and where a group may be shared by processes.
        """
        size = self.algorithm.group_size
        if not self._in_round or len(self._requests) % size:
            return None
        return lambda first: self.scorer.is_dead(range(first, first + size), self.algorithm)

    def order_of(self, sampler: Any) -> TaskOrder:
        """trl's order of tasks, which draws each epoch's from what the last one left: past the epochs that are done."""
        if (mixture := self._mixture) is not None:
            for _ in range(self._epochs_before * self._steps_in_epoch):
                mixture.take(sampler.batch_size)
            index = {name: number for number, name in enumerate(self.tasks)}
            self._order = TaskOrder(sampler, lambda count: [index[name] for name in mixture.take(count)])
            return self._order
        for _ in range(self._epochs_before if sampler.shuffle else 0):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
        self._order = TaskOrder(sampler)
        return self._order

    def metrics(self) -> StepMetrics:
        """The numbers of the step under way, over all processes, and its times; nothing where they were told."""
        told, self._told = self._told, {}
        if not told:
            return {}
        told |= self.clock.seconds()
        told["verify"] = self._counts["verify"]
        if self._taken is not None:
            error = {"sampler_error": self._taken.written.result().sampler_error / self.accelerator.num_processes}
            told |= summed(error, self.accelerator)
        if self.stepcoder.fgo != "off":
            names = ("focused_rows", "masked_tokens")
            told |= summed({name: self._counts[name] for name in names}, self.accelerator)
        self._counts.clear()
        return told

    def state(self) -> dict[str, Any]:
        """What a run that goes on needs, as JSON has it."""
        return {
            "epochs": self.step // self._steps_in_epoch,
            "refilled": self._refilled,
            "curriculum": self.curriculum.state() if self.curriculum else None,
            "learnable": self._learnable.state() if self._learnable else None,
            "ahead": gather_object([self._ahead.state()]) if self._ahead else None,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._epochs_before, self._refilled = state["epochs"], state["refilled"]
        if self._refills is not None:
            for _ in range(self._refilled):
                self._refills.take(1)
        if self.curriculum is not None:
            self.curriculum.load_state(state["curriculum"])
        if self._learnable is not None:
            self._learnable.load_state(state["learnable"])
        if self._ahead is not None and (begun := state["ahead"][self.accelerator.process_index]) is not None:
            self._ahead.load_state(begun, self.tasks, self._prompt_ids_of, self.scorer.another())

    def close(self) -> None:
        """Drop what was begun for a step that will not come."""
        if self._ahead is not None:
            self._ahead.close()

    def _roll_out(self, rows: Rows, score_rows: Callable[[Rows], Batch]) -> Batch:
        """A batch of scored rows, some of them refilled, with what the group rules and masks say of each."""
        self.clock.restart()
        wanted = self._batch_size // self.algorithm.group_size
        self._taken = self._ahead.take(self.step) if self._ahead else None
        if self._taken is not None:
            rows = [self._row(request.task) for request in self._taken.requests]
        elif self._learnable is not None:
            rows = self._own_rows(self._learnable.take(wanted, self.step))
        batch, everyone = self._round(rows, 0, score_rows)
        signal = signal_of(_joined(everyone), self.algorithm)
        for number in range(1, self.algorithm.refill_rounds + 1):
            missing = wanted - signal.rows.kept
            if missing <= 0:
                break
            asked = {rollout.task_id for rollout in _joined(everyone)}
            more, others = self._round(self._refill(missing, number, asked), number, score_rows)
            batch, everyone = join_batches(batch, more), [*everyone, *others]
            signal = signal_of(_joined(everyone), self.algorithm)
        self.rollouts = _joined(everyone)
        mine = own_rows([len(part) for part in everyone], self.accelerator)
        batch = with_signal(batch, signal, mine, self.algorithm)
        if self.stepcoder.fgo != "off":
            batch = self._focus(batch, [self.rollouts[row] for row in mine.tolist()])
        self._tell(signal)
        if self._ahead is not None:
            old = map(len, everyone[: self.accelerator.num_processes] if self._taken else [])
            self._told["staleness"] = sum(old) / len(self.rollouts)
        return batch

    def _round(self, rows: Rows, number: int, score_rows: Callable[[Rows], Batch]) -> tuple[Batch, list[list[Rollout]]]:
        """Sample and judge rows; gives this process's batch and the rollouts of every process."""
        self._round_number = number
        if self._taken is not None and number == 0:
            self._requests, self.scorer = self._taken.requests, self._taken.scorer
        else:
            self._requests = self._requests_of(rows, self.step, number)
            self.scorer.begin(self._requests)
        self._in_round = True
        batch = score_rows(rows)
        self._in_round = False
        self._counts["verify"] += self.scorer.busy_seconds
        by_row = {key: value for key, value in batch.items() if is_per_row(value, len(rows))}
        if self._ahead is not None:  # further rounds are written by the policy of now
            by_row["staleness"] = torch.full_like(by_row["advantages"], self._taken is not None and number == 0)
        return by_row, gather_object([self.rollouts])

    def _requests_of(self, rows: Rows, step: int, number: int) -> list[Request]:
        names = [row["task_id"] for row in rows]
        requests = {
            name: Request(self.tasks[name], self._opening(self.tasks[name]), f"{step}:{number}:{name}")
            for name in dict.fromkeys(names)
        }
        return [requests[name] for name in names]

    def _begin_next(self, ahead: LookAhead) -> None:
        """Have the next step's completions written with the weights of now; behind the last step there is none."""
        tasks = self._next_tasks()
        if not tasks:
            return
        requests = self._requests_of(self._own_rows([task.task_id for task in tasks]), self.step + 1, 0)
        prompts, scorer = self._prompt_ids_of(requests), self.scorer.another()
        scorer.prepare(tasks)

        def write(model: PreTrainedModel, finished: Finished) -> Completions:
            with self.accelerator.autocast():
                return self._sample(model, requests, prompts, finished)

        ahead.begin(self.step + 1, requests, prompts, scorer, write)

    def _opening(self, task: Task) -> Opening:
        """What the curriculum gives of a task's answer; nothing where that fills the context."""
        if self.curriculum is None:
            return Opening()
        opening, context = self.policy.opening(task, len(self.curriculum.prefix(task))), context_of(self.policy)
        asked = len(self.policy.prompt_ids(task)) + len(opening.ids)
        return opening if context is None or asked < context else Opening()

    def _by_learnability(self) -> LearnableTasks:
        if (mixture := self._mixture) is None:
            return LearnableTasks({"": [*self.tasks]}, {"": 1.0}, self.seed)
        return LearnableTasks(mixture.tasks, mixture.shares, self.seed)

    def _refill(self, groups: int, number: int, asked: Collection[str]) -> Rows:
        """This process's rows of further prompts in the place of discarded groups, in a step that has `asked` some."""
        while groups * self.algorithm.group_size % self.accelerator.num_processes:
            groups += 1
        if self._learnable is not None:
            return self._own_rows(self._learnable.take(groups, self.step, number, asked))
        return self._own_rows([self._next_refill() for _ in range(groups)])

    def _own_rows(self, names: Sequence[str]) -> Rows:
        """This process's rows of a group for each of the tasks."""
        processes, rank, size = (
            self.accelerator.num_processes,
            self.accelerator.process_index,
            self.algorithm.group_size,
        )
        rows = [self._row(self.tasks[name]) for name in names for _ in range(size)]
        share = len(rows) // processes
        return rows[rank * share : (rank + 1) * share]

    def _row(self, task: Task) -> dict[str, Any]:
        return {"prompt": self.policy.prompt(task), "task_id": task.task_id}

    def _next_refill(self) -> str:
        """The next task of an endless shuffled order of its own."""
        if self._refills is not None:
            self._refilled += 1
            return self._refills.take(1)[0]
        names = list(self.tasks)
        epoch, place = divmod(self._refilled, len(names))
        Random(f"refill:{self.seed}:{epoch}").shuffle(names)
        self._refilled += 1
        return names[place]

    def _sample(
        self,
        model: PreTrainedModel,
        requests: Sequence[Request],
        prompt_ids: Sequence[Sequence[int]],
        finished: Finished,
    ) -> Completions:
        logps: dict[int, list[float]] = {}
        completions = sample(
            model,
            prompt_ids,
            max_new_tokens=self.algorithm.max_gen_len,
            eos_ids=self.policy.eos_ids,
            pad_id=self.policy.tokenizer.pad_token_id,
            temperature=self.algorithm.temperature,
            seeds=self._seeds(requests),
            batch_size=self.generation.batch_size,
            on_finished=finished,
            on_logps=logps.__setitem__,
        )
        return completions, [logps[row] for row in range(len(completions))]

    def _seeds(self, requests: Sequence[Request]) -> list[int]:
        first = self.accelerator.process_index * len(requests)
        return [
            completion_seed(self.seed, request.group, (first + row) % self.algorithm.group_size)
            for row, request in enumerate(requests)
        ]

    def _focus(self, batch: Batch, rollouts: Sequence[Rollout]) -> Batch:
        """The batch with FGO's masks of its live rows."""
        self.on_phase("focus")
        live = (batch["update"] >= 0).tolist()
        masks = token_masks(rollouts, live, self.stepcoder.fgo, self.policy.decode, self.scorer.verifier)
        batch = with_token_masks(batch, masks)
        self._counts["focused_rows"] += sum(0 in mask.tokens for mask in masks)
        self._counts["masked_tokens"] += int((batch["completion_mask"] * (1 - batch["loss_mask"])).sum())
        return batch

    def _tell(self, signal: Signal) -> None:
        rows = signal.rows
        self._told = {
            **batch_metrics(self.rollouts),
            "kept_groups": rows.kept,
            "tied_groups": rows.tied,
            "infra_groups": rows.infra,
            "reward": mean_reward(self.rollouts),  # trl's is a mean of rounds of unlike size
        }
        if self.curriculum is not None:
            self.curriculum.observe(group_outcomes(self.rollouts, self.algorithm.group_size))
            self._told["prefix_frac"] = self.curriculum.mean_fraction(self.tasks.values())
        if self._learnable is not None:
            self._told["learnability"] = self._learnable.gain({rollout.task_id for rollout in self.rollouts})
            judged = (r for r in self.rollouts if r.result.status != "sandbox_error")
            self._learnable.observe((r.task_id, r.result.passed) for r in judged)
        if self.accelerator.is_main_process:
            with (self.out / COMPLETIONS).open("a") as log:
                log.writelines(rollout.log_line(self.step) + "\n" for rollout in self.rollouts)

    def _next_tasks(self) -> list[Task]:
        """The next step's; none behind the last one."""
        if self.step >= self._last_step:
            return []
        if self._learnable is not None:
            wanted = self._batch_size // self.algorithm.group_size
            return [self.tasks[name] for name in self._learnable.take(wanted, self.step + 1)]
        tasks, done = list(self.tasks.values()), self.step % self._steps_in_epoch
        return [tasks[index] for index in self._order.rollout(done or self._steps_in_epoch)]

    @property
    def _steps_in_epoch(self) -> int:
        return len(self.tasks) * self.algorithm.group_size // self._batch_size


def _joined(everyone: Sequence[Sequence[Rollout]]) -> list[Rollout]:
    return [rollout for part in everyone for rollout in part]
