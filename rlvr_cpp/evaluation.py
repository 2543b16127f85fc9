"""Measure a model: ask it every problem, judge every answer, keep everything. Trainers and the command do it by this.

Completions are asked for in batches and judged while others are still being written. A batch is handed on as soon as
it is judged, so that what is on disk need not be made again. What the infrastructure failed to judge is unscorable: it
counts in no rate, and is not known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rlvr_cpp import interruption
from rlvr_cpp.completers import GREEDY, SAMPLED, Completer, Question
from rlvr_cpp.completion import read_completion
from rlvr_cpp.evaluation_record import Outcomes, task_scores
from rlvr_cpp.progress import console
from rlvr_cpp.result import VerifyResult
from rlvr_cpp.statistics import Estimate, pass_rate
from rlvr_cpp.tasks import Task
from rlvr_cpp.verifier import Verifier


@dataclass(frozen=True)
class Attempt:
    """One completion of one task and what became of it."""

    kind: str
    """`greedy` or `sampled`."""
    task_id: str
    sample: int
    """Which of the task's completions of this kind, from 0."""
    completion: str
    result: VerifyResult

    @property
    def key(self) -> tuple[str, str, int]:
        """Which question it answers."""
        return self.kind, self.task_id, self.sample

    @property
    def passed(self) -> bool | None:
        """It passed every test; None where the infrastructure failed to judge it."""
        return None if self.result.status == "sandbox_error" else self.result.passed

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Attempt:
        """What `to_json` wrote."""
        row = json.loads(line)
        return cls(**{**row, "result": VerifyResult.from_json(json.dumps(row["result"]))})


@dataclass(frozen=True)
class Evaluation:
    """Attempts at the same tasks."""

    attempts: tuple[Attempt, ...]
    """The greedy one of every task, then the first sampled one of every task, then the second."""

    def of(self, kind: str) -> tuple[Attempt, ...]:
        """The attempts of one kind."""
        return tuple(attempt for attempt in self.attempts if attempt.kind == kind)

    def outcomes(self, kind: str) -> Outcomes:
        """By task: did each of its completions pass."""
        found: dict[str, tuple[bool | None, ...]] = {}
        for attempt in self.of(kind):
            found[attempt.task_id] = (*found.get(attempt.task_id, ()), attempt.passed)
        return found

    @property
    def unscorable(self) -> int:
        """Attempts that the infrastructure failed to judge; they count in no rate."""
        return sum(attempt.passed is None for attempt in self.attempts)

    @property
    def samples(self) -> int:
        """Sampled completions of each task."""
        return max((attempt.sample + 1 for attempt in self.of(SAMPLED)), default=0)

    def greedy_pass_at_1(self) -> Estimate:
        """With Wilson's interval; NaN where nothing could be judged."""
        return pass_rate([bool(score) for score in task_scores(self.outcomes(GREEDY)).values()])

    def pass_at_k(self) -> dict[int, float]:
        """Unbiased, by k: for 1 and the number of samples, over the tasks that were judged as often."""
        scores = {k: task_scores(self.outcomes(SAMPLED), k) for k in ends(self.samples)}
        return {k: sum(values.values()) / len(values) for k, values in scores.items() if values}

    def save(self, path: Path) -> None:
        """Every attempt, one JSON object a line; all or nothing."""
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text("".join(attempt.to_json() + "\n" for attempt in self.attempts))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """What `save` wrote."""
        return cls(tuple(map(Attempt.from_json, path.read_text().splitlines())))


def ends(samples: int) -> tuple[int, ...]:
    """The least and the greatest k that so many samples are good for; none without samples."""
    return tuple(sorted({1, samples} - {0})) if samples else ()


def in_order(attempts: Collection[Attempt], tasks: Sequence[Task]) -> Evaluation:
    """The attempts as one evaluation of the tasks, whoever made them and whenever."""
    place = {task.task_id: n for n, task in enumerate(tasks)}
    return Evaluation(tuple(sorted(attempts, key=lambda a: (a.kind != GREEDY, a.sample, place[a.task_id]))))


def evaluate(
    completer: Completer,
    tasks: Sequence[Task],
    verifier: Verifier,
    *,
    label: str,
    batch_size: int,
    samples: int,
    greedy: bool = True,
    hidden: bool = True,
    known: Collection[Attempt] = (),
    on_judged: Callable[[Sequence[Attempt]], None] = lambda attempts: None,
) -> Evaluation:
    """Ask, judge and keep: a greedy completion of each task, if `greedy`, and `samples` sampled ones.

    `hidden` judges by hidden tests where a task has any. Questions that a `known` attempt answers are not asked again;
    `on_judged` hears of each batch of new ones.
    """
    answered = {attempt.key for attempt in known}
    kinds = [(GREEDY, 0)] * greedy + [(SAMPLED, n) for n in range(samples)]
    asked = [Question(task, kind, sample) for kind, sample in kinds for task in tasks]
    missing = [question for question in asked if question.key not in answered]
    missing.sort(key=lambda question: (question.kind, len(question.task.prompt)))  # like lengths share a batch
    attempts = list(known)
    with _bars(label, len(missing)) as (on_answer, on_verdict):
        for start in range(0, len(missing), batch_size):
            interruption.check()
            batch = missing[start : start + batch_size]
            judged = _ask_and_judge(completer, batch, verifier, hidden, on_answer, on_verdict)
            on_judged(judged)
            attempts += judged
    return in_order(attempts, tasks)


def _ask_and_judge(
    completer: Completer,
    questions: Sequence[Question],
    verifier: Verifier,
    hidden: bool,
    on_answer: Callable[[], None],
    on_verdict: Callable[[], None],
) -> list[Attempt]:
    """An attempt at each question, in the order in which they were answered."""
    answers: list[tuple[Question, str]] = []
    with verifier.stream() as stream:

        def judge(place: int, completion: str) -> None:
            question = questions[place]
            code = read_completion(question.task, completion, completer.chat).code
            stream.submit(question.task.program(code, hidden=hidden))
            answers.append((question, completion))
            on_answer()

        completer.complete(questions, judge)
        results = stream.results(on_verdict)
    return [
        Attempt(question.kind, question.task.task_id, question.sample, completion, result)
        for (question, completion), result in zip(answers, results, strict=True)
    ]


@contextmanager
def _bars(label: str, total: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Two bars on standard error: completions that are written, and those that are judged."""
    columns = (TextColumn("{task.description:<34}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, refresh_per_second=5) as progress:
        written = progress.add_task(f"{label}: generate", total=total)
        judged = progress.add_task(f"{label}: compile and run", total=total)
        yield lambda: progress.advance(written), lambda: progress.advance(judged)
