"""The core of every measurement: what is asked, what is judged, what is kept, and what counts in nothing."""

import dataclasses
from collections import Counter
from typing import Any

import pytest

from rlvr_cpp import UserError, Verifier, VerifyResult
from rlvr_cpp.evaluation.attempts import Attempt, Evaluation, ends, in_order, open_samples
from rlvr_cpp.evaluation.measure import evaluate
from rlvr_cpp.policy.completers import GREEDY, SAMPLED, Question, Replay
from rlvr_cpp.runs import interruption
from rlvr_cpp.runs.evidence import task_scores
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cases import Case
from rlvr_cpp.verifier.think import KNOWN_THOUGHTS

PUBLIC = '#include <cstdio>\nint main() { std::puts("PASSED 1/1"); }\n'
HIDDEN = '#include <cstdio>\nint main() { bool ok = twice(2) == 4; std::printf("PASSED %d/1\\n", ok); return !ok; }\n'
TASKS = [
    Task(f"t{n}", f"// {'long ' * n}\nint twice(int x) {{\n", PUBLIC, "twice", 1, reference="return 2 * x; }",
         hidden_test=HIDDEN, hidden_tests_declared=1)
    for n in range(3)
]  # fmt: skip
RIGHT, WRONG = "return x + x; }", "return x + 1; }"
PASS = VerifyResult("ok", True, True, 0, tests_passed=1, tests_total=1)
FAIL = VerifyResult("wrong", True, False, 1, tests_total=1)
LOST = VerifyResult("sandbox_error", False, False)


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as made:
        yield made


class Asked:
    """Answers the last question first, and remembers the batches."""

    chat = False
    thoughts = KNOWN_THOUGHTS

    def __init__(self, answer):
        self.answer, self.batches = answer, []

    def complete(self, questions, on_answer):
        self.batches.append([question.key for question in questions])
        for place in reversed(range(len(questions))):
            on_answer(place, self.answer(questions[place]))


def run(completer, verifier, **options):
    settings = {"label": "test", "batch_size": 4, "samples": 2, **options}
    return evaluate(completer, TASKS, verifier, **settings)


def test_programs_of_input_and_output_are_measured_by_their_hidden_cases(verifier):
    sees, keeps = (Case("1", "1"),), (Case("1", "1"), Case("2", "YES"))
    task = Task("t", "// Echo.\n", "", "main", cases=sees, hidden_cases=keeps, checker="tokens_nocase")
    one = '#include <cstdio>\nint main() { std::puts("1"); }'
    both = one.replace('"1"', 'std::getchar() == 49 ? "1" : "yes"')
    answers = Asked(lambda question: one if question.kind == GREEDY else both)
    found = evaluate(answers, [task], verifier, label="test", batch_size=2, samples=1)
    assert [(each.result.tests_passed, each.result.tests_total) for each in found.attempts] == [(1, 2), (2, 2)]


def test_each_answer_is_judged_as_its_own_and_in_order(verifier):
    """Task 1 is answered right when greedy, task 2 in its second sample."""
    right = {(GREEDY, "t1", 0), (SAMPLED, "t2", 1)}
    found = run(Asked(lambda question: RIGHT if question.key in right else WRONG), verifier)
    keys = [(GREEDY, f"t{n}", 0) for n in range(3)] + [(SAMPLED, f"t{n}", s) for s in range(2) for n in range(3)]
    assert [attempt.key for attempt in found.attempts] == keys
    assert {attempt.key for attempt in found.attempts if attempt.passed} == right
    assert found.outcomes(GREEDY) == {"t0": (False,), "t1": (True,), "t2": (False,)}
    assert found.outcomes(SAMPLED) == {"t0": (False, False), "t1": (False, False), "t2": (False, True)}
    assert found.greedy_pass_at_1().mean == pytest.approx(1 / 3)
    assert found.pass_at_k() == pytest.approx({1: 1 / 6, 2: 1 / 3})


def test_hidden_tests_judge_where_they_are_asked_for(verifier):
    wrong = Replay(lambda task: WRONG)
    assert not any(attempt.passed for attempt in run(wrong, verifier, samples=0).attempts)
    assert all(attempt.passed for attempt in run(wrong, verifier, samples=0, hidden=False).attempts)


def test_prompts_of_like_length_share_a_batch_and_no_batch_is_too_large(verifier):
    completer = Asked(lambda question: RIGHT)
    run(completer, verifier)
    assert [len(batch) for batch in completer.batches] == [4, 4, 1]
    asked = [key for batch in completer.batches for key in batch]
    assert [task_id for kind, task_id, _ in asked if kind == SAMPLED] == ["t0", "t0", "t1", "t1", "t2", "t2"]


def test_what_is_known_is_not_asked_again(verifier):
    whole = run(Asked(lambda question: RIGHT), verifier)
    completer = Asked(lambda question: RIGHT)
    heard: list[Any] = []
    again = run(completer, verifier, known=whole.attempts[2:7], on_judged=heard.extend)
    asked = [key for batch in completer.batches for key in batch]
    missing = [attempt.key for attempt in (*whole.attempts[:2], *whole.attempts[7:])]
    assert Counter(asked) == Counter(missing)
    assert Counter(attempt.key for attempt in heard) == Counter(missing)
    assert [attempt.key for attempt in again.attempts] == [attempt.key for attempt in whole.attempts]


def test_only_samples_are_asked_where_nothing_is_greedy(verifier):
    assert {attempt.kind for attempt in run(Replay(lambda task: RIGHT), verifier, greedy=False).attempts} == {SAMPLED}


def test_an_interruption_that_was_lost_ends_it_between_two_batches(verifier, monkeypatch):
    monkeypatch.setattr(interruption, "_wished", [])
    heard = []

    def hear(attempts):
        heard.extend(attempts)
        interruption._wished.append(2)

    with pytest.raises(KeyboardInterrupt):
        run(Replay(lambda task: RIGHT), verifier, on_judged=hear)
    assert len(heard) == 4


def attempts(kind, *results):
    return [
        Attempt(kind=kind, task_id=f"t{n}", sample=0, completion=RIGHT, result=result)
        for n, result in enumerate(results)
    ]


def test_what_could_not_be_judged_counts_in_nothing():
    found = Evaluation(tuple(attempts(GREEDY, PASS, FAIL, LOST)))
    assert found.unscorable == 1
    assert found.outcomes(GREEDY) == {"t0": (True,), "t1": (False,), "t2": (None,)}
    assert found.greedy_pass_at_1().mean == 0.5


def test_scores_are_over_what_was_judged():
    outcomes = {"all": (True, False, False), "one lost": (None, True, False), "all lost": (None, None, None)}
    assert task_scores(outcomes) == {"all": pytest.approx(1 / 3), "one lost": 0.5}
    assert task_scores(outcomes, 2) == {"all": pytest.approx(2 / 3), "one lost": 1.0}
    assert task_scores(outcomes, 3) == {"all": 1.0}


def test_the_ks_that_samples_are_good_for():
    assert [ends(n) for n in (0, 1, 2, 9)] == [(), (1,), (1, 2), (1, 9)]


def test_shares_of_several_processes_are_one_evaluation():
    whole = [*attempts(GREEDY, PASS, FAIL, PASS), *attempts(SAMPLED, FAIL, FAIL, PASS)]
    assert in_order([*whole[1::2], *whole[::2]], TASKS).attempts == tuple(whole)


def test_saving_and_loading_are_inverse(tmp_path):
    found = Evaluation(tuple(attempts(GREEDY, PASS, FAIL, LOST)))
    found.save(tmp_path / "evaluation.jsonl")
    assert Evaluation.load(tmp_path / "evaluation.jsonl") == found


def test_a_log_forgets_what_was_cut_off_and_what_was_not_judged(tmp_path):
    path = tmp_path / "samples.jsonl"
    done, lost = attempts(GREEDY, PASS, FAIL), attempts(SAMPLED, LOST)
    with open_samples(path) as log:
        assert log.known == []
        log.write(attempt.to_json() for attempt in done)
        log.write([lost[0].to_json()])
    whole = path.read_text()
    path.write_text(whole + done[0].to_json()[:-1])  # all but its last brace and line end
    with open_samples(path) as log:
        assert log.known == done
        log.write([dataclasses.replace(lost[0], result=PASS).to_json()])
    assert [Attempt.from_json(line).passed for line in path.read_text().splitlines()] == [True, False, True]


def test_a_line_that_is_whole_and_no_sample_is_an_error(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text(attempts(GREEDY, PASS)[0].to_json() + "\n{}\n")
    with pytest.raises(UserError, match=r"samples\.jsonl line 2: cannot be read \(KeyError"):
        open_samples(path)
    assert path.read_text().endswith("{}\n")


def test_a_question_is_filed_under_what_it_asks():
    assert Question(TASKS[0], SAMPLED, 3).key == (SAMPLED, "t0", 3)
