"""Is the difference real: `python -m rlvr_cpp.compare FIRST OTHER [OTHER ...]`.

Two or more evaluations of the same problems, each compared with the first, task by task: the paired difference with
its interval and p. With several others each p is also given as Holm adjusts it for their number. What was judged by
other tests or another judge is not compared, and the fields that differ are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.evidence import EVIDENCE_FILE, EvaluationRecord, obstacles, task_scores
from rlvr_cpp.runs.pages import print_table
from rlvr_cpp.runs.statistics import PairedDifference, holm, paired_difference


@dataclass(frozen=True, kw_only=True)
class ComparedMeasure:
    """One evaluation against the first, by one measure."""

    measure: str
    """`greedy pass@1`, or `pass@k` of the samples."""
    name: str
    """The other evaluation's."""
    first: float
    other: float
    difference: PairedDifference
    adjusted_p: float
    """Holm's, over all evaluations that were compared with the first by this measure."""


def load_record(place: Path) -> EvaluationRecord:
    """The record in a run folder, or in the file itself. Raises UserError where there is none."""
    return EvaluationRecord.load(place / EVIDENCE_FILE if place.is_dir() else place)


def compare_records(records: Sequence[EvaluationRecord], names: Sequence[str]) -> list[ComparedMeasure]:
    """Each record against the first, over the tasks that were judged in both, measure by measure.

    pass@k is compared for k of 1 and of the fewest samples that any has. Raises UserError where two of them must not be
    compared, or share no measure.
    """
    first, *others = records
    for other, name in zip(others, names[1:], strict=True):
        if problems := obstacles(first, other):
            raise UserError(f"{name} cannot be compared with {names[0]}: {'; '.join(problems)}")
    found = []
    for measure, scores in _measures(records):
        pairs = [[(scores[0][i], own[i]) for i in scores[0] if i in own] for own in scores[1:]]
        if not all(pairs):
            raise UserError(f"{measure} is known of no task that all of {', '.join(names)} have: evaluate them again")
        differences = [paired_difference([a for a, _ in pair], [b for _, b in pair]) for pair in pairs]
        adjusted = holm([difference.p for difference in differences])
        for name, pair, difference, p in zip(names[1:], pairs, differences, adjusted, strict=True):
            before, after = map(fmean, zip(*pair, strict=True))
            found.append(
                ComparedMeasure(
                    measure=measure, name=name, first=before, other=after, difference=difference, adjusted_p=p
                )
            )
    if not found:
        raise UserError(f"{', '.join(names)} have nothing in common: evaluate all of them with greedy or with samples")
    return found


def _measures(records: Sequence[EvaluationRecord]) -> list[tuple[str, list[dict[str, float]]]]:
    """What all records have, with every record's value by task."""
    found = []
    if all(record.greedy for record in records):
        found.append(("greedy pass@1", [task_scores(record.greedy) for record in records]))
    fewest = min(record.decoding.samples for record in records)
    for k in sorted({1, fewest} if fewest else ()):
        found.append((f"pass@{k}", [task_scores(record.samples, k) for record in records]))
    return found


def remarks(records: Sequence[EvaluationRecord], names: Sequence[str]) -> list[str]:
    """In what else the evaluations differ: it may be what is compared, and should be meant."""
    first = _treatment(records[0])
    told = []
    for record, name in zip(records[1:], names[1:], strict=True):
        own = _treatment(record)
        fields = [f"{key} {first[key]} and {own[key]}" for key in first if first[key] != own[key]]
        if fields:
            told.append(f"{name} also differs from {names[0]} in {', '.join(fields)}")
    return told


def _treatment(record: EvaluationRecord) -> dict[str, object]:
    return {**asdict(record.decoding), "prompt_format": record.prompt_format}


def print_comparison(rows: Sequence[ComparedMeasure], first: str, console: Console) -> None:
    """One table a measure."""
    for measure in dict.fromkeys(row.measure for row in rows):
        own = [row for row in rows if row.measure == measure]
        print_table(
            console,
            f"{measure} against {first}, paired by task, 95 % intervals",
            ("", "tasks", "first", "this", "difference", "p", "Holm p"),
            [_cells(row) for row in own],
        )


def _cells(row: ComparedMeasure) -> tuple[str, ...]:
    found = row.difference
    return (
        row.name,
        str(found.tasks),
        f"{row.first:.3f}",
        f"{row.other:.3f}",
        f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]",
        f"{found.p:.2g}",
        f"{row.adjusted_p:.2g}",
    )
