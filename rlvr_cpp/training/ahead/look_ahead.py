"""The completions of the next step, written and judged while the step before it is updated.

When a step has its completions, those of the next one are begun, with the weights of that moment: a twin of the model
writes them in a thread, and torch lets go of Python's lock within its operations. So a completion is one step old when
it is learned from, never more. What it was drawn by is kept with it: `sampler_error` compares that with what a training
pass gives for a few of them under the very weights that wrote them, and the loss is weighed for what the policy has
moved since (`objective.stale_weights`).

One step is under way at most. What was written is plain data, which a checkpoint holds, so that a run that goes on
learns from the same completions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from transformers import PreTrainedModel

from rlvr_cpp.policy.openings import Opening
from rlvr_cpp.policy.sampling import Finished
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.ahead.twin import Twin
from rlvr_cpp.training.rollout import Request, RolloutScorer

Completions = tuple[list[list[int]], list[list[float]]]
"""Tokens and the log-probabilities by which they were drawn, row by row."""
Write = Callable[[PreTrainedModel, Finished], Completions]
"""Writes completions with a model, telling of each one that ends."""
Score = Callable[[PreTrainedModel, Sequence[int], Sequence[int]], list[float]]
"""The log-probabilities that a training pass of a model gives the tokens of a completion behind a prompt."""


@dataclass(frozen=True)
class Written:
    """What the thread leaves."""

    completions: list[list[int]]
    logps: list[list[float]]
    sampler_error: float
    """Mean difference between the log-probability by which a token was drawn and a training pass's, of one group."""


@dataclass(frozen=True)
class AheadOfStep:
    """The completions of a step's tasks that were begun before the step."""

    step: int
    requests: Sequence[Request]
    prompts: Sequence[Sequence[int]]
    """The tokens of each request."""
    scorer: RolloutScorer
    """Takes each completion when it ends."""
    written: Future[Written]


class LookAhead:
    """Has a step's completions written and judged beside the update of the one before it."""

    def __init__(self, model: PreTrainedModel, score: Score) -> None:
        """On the CPU the threads of torch are shared out: half of them sample from now on, and no fewer than one."""
        self.twin = Twin(model)
        self._score = score
        share = max(1, torch.get_num_threads() // 2)
        if model.device.type == "cpu":
            torch.set_num_threads(max(1, torch.get_num_threads() - share))
        self._thread = ThreadPoolExecutor(1, "rlvr-ahead", initializer=torch.set_num_threads, initargs=(share,))
        self._closing = threading.Event()
        self._begun: AheadOfStep | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing was begun that was not taken."""
        return self._begun is None

    def begin(
        self,
        step: int,
        requests: Sequence[Request],
        prompts: Sequence[Sequence[int]],
        scorer: RolloutScorer,
        write: Write,
    ) -> None:
        """Have the completions of a coming step written, with the weights of now, and judged."""
        scorer.begin(requests)
        self.twin.sync()
        written = self._thread.submit(self._work, requests, prompts, scorer, write)
        self._begun = AheadOfStep(step, requests, prompts, scorer, written)

    def take(self, step: int) -> AheadOfStep | None:
        """What was begun for a step; None where nothing was."""
        begun, self._begun = self._begun, None
        return begun if begun is not None and begun.step == step else None

    def state(self) -> dict[str, Any] | None:
        """What was begun, once it is written, as JSON has it."""
        if (begun := self._begun) is None:
            return None
        written = begun.written.result()
        asked = [(r.task.task_id, r.opening.text, [*r.opening.ids], r.group) for r in begun.requests]
        rows = [list(row) for row in zip(asked, begun.prompts, written.completions, written.logps, strict=True)]
        return {"step": begun.step, "rows": rows, "sampler_error": written.sampler_error}

    def load_state(
        self,
        state: Mapping[str, Any],
        tasks: Mapping[str, Task],
        prompts_of: Callable[[Sequence[Request]], list[list[int]]],
        scorer: RolloutScorer,
    ) -> None:
        """Go on with what was written, judged anew; a run that lacks one of its `tasks` or asks for it otherwise by
        now writes it again."""
        asked, prompts, completions, logps = zip(*state["rows"], strict=True)
        if not {name for name, *_ in asked} <= tasks.keys():
            return
        requests = [Request(tasks[name], Opening(text, tuple(ids)), group) for name, text, ids, group in asked]
        if prompts_of(requests) != [*prompts]:
            return
        scorer.begin(requests)
        for index, ids in enumerate(completions):
            scorer.submit(index, ids)
        written: Future[Written] = Future()
        written.set_result(Written([*completions], [*logps], state["sampler_error"]))
        self._begun = AheadOfStep(state["step"], requests, prompts, scorer, written)

    def close(self) -> None:
        """Drop what was begun, as soon as one more completion has ended."""
        self._closing.set()
        self._thread.shutdown(cancel_futures=True)
        if self._begun is not None:
            self._begun.scorer.drop()

    def _work(
        self, requests: Sequence[Request], prompts: Sequence[Sequence[int]], scorer: RolloutScorer, write: Write
    ) -> Written:
        def finished(index: int, ids: list[int]) -> None:
            if self._closing.is_set():
                raise InterruptedError("the run has ended")
            scorer.submit(index, ids)

        with torch.no_grad():
            completions, logps = write(self.twin.model, finished)
            first_group = [row for row, request in enumerate(requests) if request.group == requests[0].group]
            errors = [
                abs(scored - drawn)
                for row in first_group
                for scored, drawn in zip(
                    self._score(self.twin.model, prompts[row], completions[row]), logps[row], strict=True
                )
            ]
        return Written(completions, logps, fmean(errors))
