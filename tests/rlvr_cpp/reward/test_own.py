"""A reward of the user's own: what it sees, what it may give, and that no slip of it is a score."""

import hashlib
import math
import sys
from io import StringIO

import pytest

from rlvr_cpp import Program, UserError, VerifyResult
from rlvr_cpp.reward.own import OwnReward, load_reward, own_reward_facts, reward_problems
from rlvr_cpp.reward.score import Judged
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.task import Task

TASK = Task("twice", "int twice(int x) {\n", entry_point="twice", test="int main() {}")
PASS = VerifyResult("ok", True, True, 0, tests_passed=2, tests_total=2)
BROKEN = VerifyResult("sandbox_error", False, False, None)
FILE = """
def short(prompt, completion, result, task):
    return result.passed / len(completion)

def few(prompt, completion):
    return 1.0

number = 3
"""


def judged(completion: str = "return x;", result: VerifyResult = PASS) -> Judged:
    return Judged(TASK, "  int y;\n", completion, Program(completion), result, "g")


def paid(function, *completions: str) -> list:
    return OwnReward("mine:mine", function, "").values([judged(text) for text in completions])


@pytest.fixture
def told(monkeypatch):
    """What the terminal shows."""
    monkeypatch.setattr(console, "file", StringIO())
    return console.file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the user's file that Python does not look in by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "my_own_reward.py").write_text(FILE)
    (tmp_path / "my_broken_reward.py").write_text("1 / 0")
    (tmp_path / "my_script.py").write_text("raise SystemExit(0)")
    yield tmp_path
    for name in ("my_own_reward", "my_broken_reward", "my_script"):
        sys.modules.pop(name, None)


def test_it_is_imported_from_the_working_folder_and_noted_by_the_hash_of_its_file(folder):
    assert load_reward("my_own_reward:short").values([judged("12345678")]) == [0.125]
    assert list(reward_problems("my_own_reward:short")) == []
    assert own_reward_facts("my_own_reward:short") == {
        "function": "my_own_reward:short",
        "sha256": hashlib.sha256(FILE.encode()).hexdigest(),
    }
    assert own_reward_facts("tiers") is None


def test_it_sees_prompt_with_prefix_completion_verdict_and_task():
    seen = []
    assert paid(lambda **given: seen.append(given) or 0.5, "return x;") == [0.5]
    assert seen == [{"prompt": TASK.prompt + "  int y;\n", "completion": "return x;", "result": PASS, "task": TASK}]


def test_what_the_infrastructure_failed_to_judge_is_never_shown_to_it():
    assert OwnReward("m:f", lambda **_: 1.0, "").values([judged(result=BROKEN), judged()]) == [None, 1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, "1", [1.0], 1j])
def test_what_is_no_finite_number_is_unscorable_and_told_once(value, told):
    assert paid(lambda **_: value, "a", "b") == [None, None]
    assert told.getvalue().count("warning: mine:mine gives") == 1


def test_a_raise_is_unscorable_for_the_one_completion_and_told(told):
    def raises_for_a(completion, **_):
        return {"b": True}[completion]

    assert paid(raises_for_a, "a", "b") == [None, 1.0]
    assert (
        told.getvalue()
        == "warning: mine:mine raises KeyError ('a') for a completion of twice, which is left unscored\n"
    )


def test_an_integer_beyond_all_floats_is_unscorable_and_told(told):
    assert paid(lambda **_: 10**400, "a") == [None]
    assert "raises OverflowError" in told.getvalue()


WRONG = {
    "gold": "reward.kind is 'gold': it must be one of tiers, binary, shaped, or a function of yours",
    "my_missing_reward:f": r"cannot be imported \(ModuleNotFoundError: No module named 'my_missing_reward'\)",
    "my_broken_reward:f": r"cannot be imported \(ZeroDivisionError: division by zero\)",
    "my_script:f": r"cannot be imported \(SystemExit: 0\)",
    "my_own_reward:long": "cannot be imported .AttributeError: .*'long'",
    ":f": "cannot be imported",
    "my_own_reward:few": r"cannot be called with prompt, completion, result, task by name.* def few\(prompt,",
    "my_own_reward:number": "cannot be called with",
    "math:hypot": "cannot be called with",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_name_that_leads_to_no_reward_is_one_sentence(folder, kind):
    (problem,) = reward_problems(kind)
    with pytest.raises(UserError, match=WRONG[kind]):
        raise UserError(problem)
    assert problem.startswith(f"reward.kind is {kind!r}")
    assert "\n" not in problem
