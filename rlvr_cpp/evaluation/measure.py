"""Ask a model every problem and judge every answer, for trainers and for `python -m rlvr_cpp.evaluate`.

Completions are asked for in batches and judged while others are still being written. A batch is handed on as soon as
it is judged, so that what is on disk need not be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rlvr_cpp.evaluation.attempts import Attempt, Evaluation, in_order
from rlvr_cpp.policy.completers import GREEDY, SAMPLED, Completer, Question
from rlvr_cpp.runs import interruption
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.verifier import Verifier


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
    asked = [Question(task, GREEDY, 0) for task in tasks] if greedy else []
    asked += [Question(task, SAMPLED, number) for number in range(samples) for task in tasks]
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
            code = read_completion(question.task, completion, completer.chat, completer.thoughts).code
            stream.submit(question.task.program(code, hidden=hidden))
            answers.append((question, completion))
            on_answer()

        completer.complete(questions, judge)
        results = stream.results(on_verdict)
    return [
        Attempt(
            kind=question.kind,
            task_id=question.task.task_id,
            sample=question.sample,
            completion=completion,
            result=result,
        )
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
