"""Every completion that a run has judged, to be looked at: read from what the run left, written as one page.

The page is `samples.html` in the run folder. It needs neither a network nor a server, and stays quick with ten thousand
completions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import read_lines, replace_text
from rlvr_cpp.runs.pages import render

STEP = "step "
PAGE = "samples.html"
SHOWN_ROLLOUTS = 20_000
"""Of a training; of a longer one the newest."""
SAID_LIMIT = 2_000
"""Characters of what a compiler or a program said that are shown of one completion."""
DIAGNOSTICS_LIMIT = 8
"""Diagnostics that are shown of one completion."""


class Asked(Protocol):
    """A task, of which this is shown."""

    @property
    def task_id(self) -> str:
        """Its name."""

    @property
    def prompt(self) -> str:
        """C++ that the completion continues, or an exercise in words."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The first one is its family."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One completion and what became of it."""

    when: str
    """`step 12`, `before, greedy`, ...: samples of a task that have this in common are a group."""
    task_id: str
    completion: str
    status: str
    tests_passed: int
    tests_total: int
    reward: float | None
    """None where it is unscorable, or nobody was rewarded."""
    notes: tuple[tuple[int, str, str], ...]
    """Diagnostics: line of the program (0 where there is none), severity, message."""
    said: str
    """What the compiler or the program said, where it failed."""
    remarks: tuple[str, ...]
    """What else is worth knowing: `cut at its length`, `with a prefix`, `chosen`, ..."""


def write_page(folder: Path, title: str, tasks: Iterable[Asked], *, is_continued: bool) -> Path:
    """The page of a run's samples; of a task that is not among `tasks` the prompt is not shown.

    `is_continued` says that completions continue their prompts, so that a diagnostic's line is one of both together.
    Raises UserError where the run has judged nothing.
    """
    everything = list(read_samples(folder))
    left_out = max(0, sum(sample.when.startswith(STEP) for sample in everything) - SHOWN_ROLLOUTS)
    samples = list(_without_oldest(everything, left_out))
    if not samples:
        raise UserError(f"{folder} holds no completion that was judged: give the folder of a run that has some")
    known = {task.task_id: (task.prompt, *task.tags[:1]) for task in tasks}
    places = {name: n for n, name in enumerate(dict.fromkeys(sample.task_id for sample in samples))}
    texts = {text: n for n, text in enumerate(dict.fromkeys(sample.completion for sample in samples))}
    data = {
        "tasks": [[name, *known.get(name, ("",))] for name in places],
        "texts": list(texts),
        "continued": is_continued,
        "samples": [_row(sample, places[sample.task_id], texts[sample.completion]) for sample in samples],
    }
    # Within a script element an end tag, or a comment that opens one, would be read.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    path = folder / PAGE
    replace_text(path, render(Path(__file__).with_name("samples.html.j2"), title=title, left_out=left_out, data=text))
    return path


def _without_oldest(samples: Iterable[Sample], rollouts: int) -> Iterator[Sample]:
    for sample in samples:
        if sample.when.startswith(STEP) and rollouts > 0:
            rollouts -= 1
        else:
            yield sample


def _row(sample: Sample, task: int, text: int) -> list[Any]:
    """A sample in the order that the page's script knows."""
    tests = [sample.tests_passed, sample.tests_total]
    return [sample.when, task, text, sample.status, *tests, sample.reward, sample.notes, sample.said, sample.remarks]


def read_samples(folder: Path) -> Iterator[Sample]:
    """What trainings, evaluations and searches leave, in the order in which it was made."""
    for name, read in (
        ("evaluation_before.jsonl", _attempts("before")),
        ("completions.jsonl", _rollout),
        ("evaluation_after.jsonl", _attempts("after")),
        ("samples.jsonl", _attempts("")),
        ("candidates.jsonl", _candidates),
    ):
        if (folder / name).is_file():
            for samples in read_lines(folder / name, partial(_samples_of, read)):
                yield from samples


def _samples_of(read: Callable[[Mapping[str, Any]], Iterator[Sample]], line: str) -> list[Sample]:
    """Raises ValueError, KeyError or TypeError for a line that no run has written."""
    row = json.loads(line)
    if not isinstance(row, dict):
        raise TypeError(f"a {type(row).__name__} where an object should stand")
    return list(read(row))


def _rollout(row: Mapping[str, Any]) -> Iterator[Sample]:
    remarks = [word for key, word in (("truncated", "cut at its length"), ("prefix", "with a prefix")) if row.get(key)]
    yield Sample(
        when=f"{STEP}{row['step']}",
        task_id=row["task_id"],
        completion=row.get("prefix", "") + row["completion"],
        status=row["status"],
        tests_passed=row["tests_passed"],
        tests_total=row["tests_total"],
        reward=row["reward"],
        notes=tuple(tuple(note) for note in row.get("diagnostics", ())),
        said=row.get("said", ""),
        remarks=(*remarks, f"{row['tokens']} tokens"),
    )


def _attempts(when: str) -> Callable[[Mapping[str, Any]], Iterator[Sample]]:
    def read(row: Mapping[str, Any]) -> Iterator[Sample]:
        kind = row["kind"] if row["kind"] == "greedy" else f"sample {row['sample'] + 1}"
        words = f"{when}, {kind}" if when else kind
        yield _judged(words, row["task_id"], row["completion"], row["result"])

    return read


def _candidates(row: Mapping[str, Any]) -> Iterator[Sample]:
    words = {True: "passes the hidden tests", False: "fails hidden tests", None: "hidden tests not judged"}
    for candidate, hidden in zip(row["found"]["samples"], row["hidden"], strict=True):
        one = _judged("candidate", row["task_id"], candidate["completion"], candidate["result"], words[hidden])
        yield replace(one, reward=candidate["reward"])


def _judged(when: str, task_id: str, completion: str, result: Mapping[str, Any] | None, *remarks: str) -> Sample:
    known = result or {"status": "not judged", "tests_passed": 0, "tests_total": 0, "stderr": "", "diagnostics": []}
    return Sample(
        when=when,
        task_id=task_id,
        completion=completion,
        status=known["status"],
        tests_passed=known["tests_passed"],
        tests_total=known["tests_total"],
        reward=None,
        notes=tuple((d["line"], d["severity"], d["message"]) for d in known["diagnostics"][:DIAGNOSTICS_LIMIT]),
        said=known["stderr"][:SAID_LIMIT] if known["status"] != "ok" else "",
        remarks=remarks,
    )
