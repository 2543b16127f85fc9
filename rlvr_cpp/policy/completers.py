"""Who answers: a model on this machine, reference solutions that are replayed, or a file; `endpoint.py` has one more.

All that an evaluation asks of them is one method, which tells of each answer as soon as it is there. An answer is a
completion of the task's prompt or, in a chat, an answer with its code in a fence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, get_args

from rlvr_cpp.policy.settings import Sampling
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.think import KNOWN_THOUGHTS, Thoughts

if TYPE_CHECKING:
    from rlvr_cpp.policy.policy import Policy

Kind = Literal["greedy", "sampled"]
"""How a completion is decoded: the most likely token each time, or one that is drawn."""
GREEDY: Final = "greedy"
SAMPLED: Final = "sampled"
Answered = Callable[[int, str], None]
"""Called with a question's place in the batch and its answer."""


@dataclass(frozen=True)
class Question:
    """One completion that is asked for."""

    task: Task
    kind: Kind
    sample: int
    """Which of the task's completions of this kind, from 0."""

    @property
    def key(self) -> tuple[Kind, str, int]:
        """What its answer is filed under."""
        return self.kind, self.task.task_id, self.sample


class Completer(Protocol):
    """Answers questions."""

    @property
    def chat(self) -> bool:
        """Whether answers carry their code in a fence."""

    @property
    def thoughts(self) -> Thoughts:
        """What is taken off answers before they are judged."""

    def complete(self, questions: Sequence[Question], on_answer: Answered) -> None:
        """Answer every question; `on_answer` hears of each in this thread, in any order."""


@dataclass(frozen=True)
class Replay:
    """Answers each task always the same."""

    answer: Callable[[Task], str]
    chat: bool = False
    thoughts: Thoughts = KNOWN_THOUGHTS

    def complete(self, questions: Sequence[Question], on_answer: Answered) -> None:
        """Answer every question."""
        for place, question in enumerate(questions):
            on_answer(place, self.answer(question.task))


@dataclass(frozen=True)
class Given:
    """Answers that were written elsewhere. What nobody has answered stays without an answer."""

    by_task: Mapping[str, Sequence[str]]
    chat: bool = False
    thoughts: Thoughts = KNOWN_THOUGHTS

    def complete(self, questions: Sequence[Question], on_answer: Answered) -> None:
        """Answer the questions for which there is an answer."""
        for place, question in enumerate(questions):
            texts = self.by_task.get(question.task.task_id, ())
            if question.sample < len(texts):
                on_answer(place, texts[question.sample])


@dataclass(frozen=True)
class LocalModel:
    """A Hugging Face model. Each sample has a random stream of its own, made of seed, task and number."""

    policy: Policy
    sampling: Sampling

    @property
    def chat(self) -> bool:
        """Whether the policy is asked in a chat."""
        return self.policy.chat

    @property
    def thoughts(self) -> Thoughts:
        """How the policy marks them."""
        return self.policy.thoughts

    def complete(self, questions: Sequence[Question], on_answer: Answered) -> None:
        """Answer every question, all of one kind together."""
        for kind in get_args(Kind):
            places = [place for place, question in enumerate(questions) if question.kind == kind]
            if places:
                self._complete_kind(kind, [questions[place] for place in places], places, on_answer)

    def _complete_kind(
        self, kind: Kind, questions: Sequence[Question], places: Sequence[int], on_answer: Answered
    ) -> None:
        from rlvr_cpp.policy.sampling import completion_seed, for_inference, sample

        policy, sampling = self.policy, self.sampling
        with for_inference(policy.model):
            sample(
                policy.model,
                [policy.prompt_ids(question.task) for question in questions],
                max_new_tokens=sampling.max_new_tokens,
                eos_ids=policy.eos_ids,
                pad_id=policy.tokenizer.pad_token_id,
                temperature=sampling.temperature if kind == SAMPLED else 0.0,
                seeds=[completion_seed("evaluation", sampling.seed, q.task.task_id, q.sample) for q in questions],
                on_finished=lambda index, ids: on_answer(places[index], policy.decode(ids)),
            )
