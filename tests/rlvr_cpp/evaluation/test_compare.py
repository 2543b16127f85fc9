"""Two and more evaluations, task by task: the difference, its p, and what must not be compared."""

import dataclasses
from typing import Any

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.compare import main
from rlvr_cpp.evaluation.compare import compare_records, remarks
from rlvr_cpp.runs.evidence import Decoding
from rlvr_cpp.runs.files import contract_hash
from rlvr_cpp.runs.statistics import mcnemar_p
from tests.rlvr_cpp.runs.test_evidence import CONTRACT, RECORD

IDS = [f"t{n}" for n in range(12)]


def record(passes, rates=None, **changes):
    """Greedy passes as 0 and 1, and of four samples so many passes."""
    samples = {} if rates is None else {i: (True,) * n + (False,) * (4 - n) for i, n in zip(IDS, rates, strict=True)}
    decoding = dataclasses.replace(RECORD.decoding, samples=0 if rates is None else 4)
    greedy = {i: (None if passed is None else bool(passed),) for i, passed in zip(IDS, passes, strict=False)}
    return dataclasses.replace(RECORD, **{"greedy": greedy, "samples": samples, "decoding": decoding, **changes})


BASE = record([0] * 9 + [1] * 3, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 4])
BETTER = record([1] * 8 + [0] + [1] * 3, [1, 2, 2, 1, 2, 3, 2, 4, 3, 4, 4, 4])


def test_the_difference_and_its_p():
    rows = {row.measure: row for row in compare_records([BASE, BETTER], ["base", "better"])}
    assert list(rows) == ["greedy pass@1", "pass@1", "pass@4"]
    greedy = rows["greedy pass@1"]
    assert (greedy.first, greedy.other, greedy.difference.tasks) == (0.25, pytest.approx(11 / 12), 12)
    assert greedy.difference.p == greedy.adjusted_p == mcnemar_p([False] * 8, [True] * 8)
    assert rows["pass@1"].difference.low > 0
    assert rows["pass@4"].other == 1.0


def test_holm_counts_all_that_are_compared_with_the_first():
    rows = compare_records([BASE, BETTER, BASE, BETTER], ["base", "better", "same", "again"])
    greedy = {row.name: row for row in rows if row.measure == "greedy pass@1"}
    assert greedy["better"].adjusted_p == pytest.approx(3 * greedy["better"].difference.p)
    assert greedy["again"].adjusted_p == greedy["better"].adjusted_p
    assert (greedy["same"].difference.mean, greedy["same"].adjusted_p) == (0.0, 1.0)


def test_only_tasks_that_were_judged_in_both_are_paired():
    (row,) = compare_records([record([None, 0, 0]), record([1, 1, None])], ["a", "b"])
    assert (row.difference.tasks, row.difference.mean) == (1, 1.0)


def test_only_what_all_have_is_compared():
    rows = compare_records([BASE, record([0] * 12)], ["a", "b"])
    assert [row.measure for row in rows] == ["greedy pass@1"]
    with pytest.raises(UserError, match="have nothing in common"):
        compare_records([record([]), record([1])], ["a", "b"])


OTHER_CONTRACT = {**CONTRACT, "timeout": 60.0}
REFUSED: dict[str, Any] = {
    "problems": ({"benchmark_hash": "f" * 64}, "benchmark_hash: '"),
    "tests": ({"split": "public"}, "split: 'hidden' and 'public'"),
    "judge": (
        {"contract": OTHER_CONTRACT, "contract_hash": contract_hash(OTHER_CONTRACT)},
        "contract timeout: 10.0 and 60.0",
    ),
    "prefix": ({"prefix_frac": 0.5}, "prefix_frac: 0.0 and 0.5"),
    "invalid": ({"status": "INVALID", "reason": "3 tasks"}, "status: INVALID (3 tasks)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_was_measured_otherwise_is_refused_with_the_field(case):
    changes, words = REFUSED[case]
    with pytest.raises(UserError) as caught:
        compare_records([BASE, BETTER, dataclasses.replace(BETTER, **changes)], ["a", "b", "c"])
    assert str(caught.value).startswith("c cannot be compared with a: ")
    assert words in str(caught.value)


def test_other_decoding_is_told_and_compared():
    hotter = dataclasses.replace(BETTER, decoding=dataclasses.replace(BETTER.decoding, temperature=0.2))
    assert compare_records([BASE, hotter], ["a", "b"])
    assert remarks([BASE, hotter], ["a", "b"]) == ["b also differs from a in temperature 1.0 and 0.2"]
    assert remarks([BASE, BETTER], ["a", "b"]) == []
    assert isinstance(BASE.decoding, Decoding)


def test_the_command(tmp_path, capsys):
    for name, one in (("base", BASE), ("better", BETTER), ("other", dataclasses.replace(BASE, split="public"))):
        (tmp_path / name).mkdir()
        one.save(tmp_path / name / "evaluation.json")
    places = [str(tmp_path / name) for name in ("base", "better", "other")]
    assert main([places[0], f"{places[1]}/evaluation.json"]) == 0
    printed = capsys.readouterr().out
    assert "greedy pass@1" in printed
    assert "+0.667" in printed
    assert main(places) == 2
    assert "split: 'hidden' and 'public'" in capsys.readouterr().err
    assert main([places[0], str(tmp_path / "none")]) == 2
