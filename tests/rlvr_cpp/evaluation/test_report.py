"""The numbers of an evaluation, and that terminal, Markdown and HTML all show them."""

import dataclasses

import pytest

from rlvr_cpp import VerifyResult
from rlvr_cpp.evaluation.attempts import Attempt, Evaluation
from rlvr_cpp.evaluation.report import print_summary, summarize, write_pages
from rlvr_cpp.policy.completers import Kind
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.task import Task
from tests.rlvr_cpp.runs.test_evidence import RECORD

PASS = VerifyResult("ok", True, True, 0, tests_passed=1, tests_total=1)
FAIL = VerifyResult("compile_error", False, False, tests_total=1)
LOST = VerifyResult("sandbox_error", False, False)
TASKS = [
    Task(f"t{n}", "int f() {", "x", "f", tags=("all", "even" if n % 2 == 0 else "odd", *more))
    for n, more in enumerate((("difficulty:easy",), ("difficulty:hard",), ("difficulty:hard",), ()))
]


def evaluation(greedy, *sampled):
    rows: list[tuple[Kind, int, list[VerifyResult]]] = [
        ("greedy", 0, greedy),
        *(("sampled", s, row) for s, row in enumerate(sampled)),
    ]
    return Evaluation(
        tuple(
            Attempt(kind=kind, task_id=f"t{n}", sample=sample, completion="", result=result)
            for kind, sample, results in rows
            for n, result in enumerate(results)
        )
    )


FOUND = evaluation([PASS, FAIL, LOST, PASS], [PASS, FAIL, PASS, LOST], [PASS, FAIL, FAIL, LOST])


def test_every_number_is_over_what_was_judged_often_enough():
    found = summarize(FOUND, TASKS, [1, 2])
    assert [(row.name, row.tasks, row.passed) for row in found.measures] == [
        ("greedy pass@1", 3, 2.0),
        ("pass@1", 3, 1.5),
        ("pass@2", 3, 2.0),
    ]
    assert [row.estimate.mean for row in found.measures] == pytest.approx([2 / 3, 0.5, 2 / 3])
    assert found.unscorable == 3
    assert dict(found.endings) == {"ok": 5, "compile_error": 4, "sandbox_error": 3}


def test_groups_by_difficulty_and_by_tag():
    found = summarize(FOUND, TASKS, [2])
    assert [(group.name, group.tasks, group.rates) for group in found.difficulties] == [
        ("easy", 1, (1.0, 1.0)),
        ("hard", 2, (0.0, 0.5)),
    ]
    assert [(group.name, group.tasks, group.rates) for group in found.tags] == [
        ("all", 4, (2 / 3, 2 / 3)),
        ("even", 2, (1.0, 1.0)),
        ("odd", 2, (0.5, 0.0)),
    ]


def test_a_group_that_could_not_be_judged_has_no_number():
    lost = summarize(evaluation([LOST]), TASKS[:1], [])
    assert lost.difficulties[0].rates == (None,)
    assert lost.measures[0].tasks == 0


def shown(record, summary, folder):
    with console.capture() as captured:
        print_summary(summary, record)
    page = write_pages(folder, summary, record, ["python", "-m", "rlvr_cpp.evaluate"])
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.md"]
    return captured.get(), (folder / "report.md").read_text(), page.read_text()


def test_the_same_numbers_stand_everywhere(tmp_path):
    for text in shown(RECORD, summarize(FOUND, TASKS, [1, 2]), tmp_path):
        for words in ("greedy pass@1", "pass@2", "0.667", "hard", "odd"):
            assert words in text
        assert "INVALID" not in text


def test_the_pages_carry_what_makes_the_numbers_believable(tmp_path):
    _, *pages = shown(RECORD, summarize(FOUND, TASKS, [1]), tmp_path)
    for page in pages:
        for words in (RECORD.record_id, RECORD.benchmark_hash, "temperature 1, seed 0", "torch 2.13.0", "timeout 10.0"):
            assert words in page
        assert "3 completions could not be judged" in page
    assert "http" not in pages[1]


def test_an_invalid_evaluation_says_so_first(tmp_path):
    record = dataclasses.replace(RECORD, status="INVALID", reason="1 of 4 tasks could not be judged")
    for text in shown(record, summarize(FOUND, TASKS, [1]), tmp_path):
        assert "INVALID" in text
        assert "1 of 4 tasks could not be judged" in text


def test_a_models_name_is_no_markup(tmp_path):
    record = dataclasses.replace(RECORD, model="<script>[red]x")
    terminal, _, page = shown(record, summarize(FOUND, TASKS, [1]), tmp_path)
    assert "<script>" not in page
    assert "[red]x" in terminal
