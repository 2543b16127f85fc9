"""The reward function for trl, and the call that trl makes of it."""

from collections import defaultdict
from types import SimpleNamespace

import pytest

from rlvr_cpp import UserError, Verifier, VerifyResult
from rlvr_cpp.reward.trl import CompilerReward, reward

TEST = """
#include <cassert>
int main() { assert(twice(1) == 2); assert(twice(3) == 6); }
"""
OPENING = "int twice(int x) {\n"
CASES = {"inputs": ["1 2", "2 2"], "outputs": ["3", "4"]}
ADDS = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }\n"


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def ask(completion, prompt=OPENING, **row) -> float | None:
    (value,) = reward([prompt], [completion], [[0]], **{name: [column] for name, column in row.items()})
    return value


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("    return 2 * x;\n}", 1.0),
        ("    return 2 * x;\n}\nint overrun( {", 1.0),
        ("<think>2x}</think>    return 2 * x;\n}", 1.0),
        ("    return x < 3 ? 2 * x : 0;\n}", 0.65),
        ("    return 2 * y;\n}", 0.0),
        ("<think>no end", 0.0),
    ],
)
def test_a_plain_completion_continues_its_prompt(completion, expected):
    assert ask(completion, test=TEST, entry_point="twice") == pytest.approx(expected)


@pytest.mark.parametrize(
    "answer",
    [
        "Here:\n```cpp\nint twice(int x) { return 2 * x; }\n```\nDone.",
        "<think>```cpp\nint wrong;\n```</think>```cpp\nint twice(int x) { return 2 * x; }\n```",
        "```cpp\n    return 2 * x;\n}\n```",
        "    return 2 * x;\n}",
    ],
)
def test_an_answer_in_a_chat_implements_the_declaration(answer):
    row = {"test": TEST, "declaration": OPENING, "entry_point": "twice", "tests_declared": 2}
    assert ask(chat(answer), [{"role": "user", "content": "Double it."}], **row) == 1.0
    assert ask(answer, "Double it.", **row) == 1.0


@pytest.mark.parametrize("answer", [ADDS, f"```cpp\n{ADDS}```"])
def test_a_whole_program_is_put_to_cases(answer):
    assert ask(chat(answer), [{"role": "user", "content": "Add."}], cases=CASES) == 1.0
    assert ask(answer, "Add.", cases=CASES, declaration="", checker="exact") == 1.0


def test_a_message_may_come_in_parts():
    parts = [{"type": "text", "text": "```cpp\nint twice(int x) "}, {"type": "text", "text": "{ return 2 * x; }\n```"}]
    assert ask([{"role": "assistant", "content": parts}], chat("?"), test=TEST) == 1.0
    assert ask([{"role": "assistant", "content": None}], chat("?"), test=TEST) == 0.0


def test_a_column_of_none_is_a_column_that_is_missing():
    empty = dict.fromkeys(("cases", "declaration", "entry_point", "tests_declared", "std", "checker"))
    assert ask("    return 2 * x;\n}", test=TEST, **empty) == 1.0


def test_a_row_without_a_test_asks_for_a_program_that_runs():
    assert ask(chat("```cpp\nint main() {}\n```"), chat("?"), test="") == 0.5


def test_what_could_not_be_judged_has_no_reward(monkeypatch):
    verifier = Verifier()
    failure = VerifyResult("sandbox_error", False, False)
    monkeypatch.setattr(verifier, "verify_many", lambda programs: [failure for _ in programs])
    assert CompilerReward(verifier)([OPENING] * 2, ["}"] * 2, test=[TEST] * 2) == [None, None]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "the row has neither test nor cases"),
        ({"test": None, "cases": None}, "the row has neither test nor cases"),
        ({"tests": TEST}, "the row has neither test nor cases"),
        ({"test": TEST, "cases": CASES}, "the row has both test and cases"),
        ({"test": 7}, "test is a int: it must be text"),
        ({"test": TEST, "declaration": OPENING}, "the row has a declaration and no entry_point"),
        ({"test": TEST, "std": "c++99"}, "std is 'c\\+\\+99'"),
        ({"test": TEST, "tests_declared": 0}, "tests_declared is 0"),
        ({"cases": []}, "cases holds no cases"),
    ],
)
def test_columns_that_make_no_sense_are_named(row, said):
    with pytest.raises(UserError, match=said):
        ask("}", **row)


class TrainerParts(SimpleNamespace):
    """As much of a GRPOTrainer as scoring needs."""


def test_trl_gets_its_rewards():
    trl = pytest.importorskip("trl", reason="trl is not installed: pip install 'rlvr-cpp[train]'")
    from trl.trainer.utils import get_callable_name, is_async_callable

    assert get_callable_name(reward) == "compiler"
    assert not is_async_callable(reward)
    extra, metrics = defaultdict(list), defaultdict(list)
    trainer = TrainerParts(
        accelerator=SimpleNamespace(device="cpu", is_main_process=True),
        args=SimpleNamespace(report_to=[]),
        state=SimpleNamespace(global_step=0),
        environments=None,
        reward_funcs=[reward],
        reward_processing_classes=[None],
        reward_func_names=["compiler"],
        _log_completion_extra=lambda column, values: extra[column].extend(values),
        _log_metric=lambda name, value: metrics[name].append(value),
    )
    completions = ["    return 2 * x;\n}", "    return x < 3 ? 2 * x : 0;\n}", "    return y;\n}"]
    prompts = [OPENING] * 3
    inputs = [{"prompt": OPENING, "test": TEST, "entry_point": "twice", "unrelated": None}] * 3
    rewards = trl.GRPOTrainer._calculate_rewards(trainer, inputs, prompts, completions, [[1], [2], [3]])
    assert rewards[:, 0].tolist() == pytest.approx([1.0, 0.65, 0.0])
    assert extra == {"status": ["ok", "wrong", "compile_error"]}
    assert {name: values[0] for name, values in metrics.items()} == pytest.approx(
        {"compile_rate": 2 / 3, "pass_rate": 1 / 3, "unscorable": 0.0}
    )


def test_trl_leaves_an_unscorable_completion_out(monkeypatch):
    trl = pytest.importorskip("trl", reason="trl is not installed: pip install 'rlvr-cpp[train]'")
    pytest.importorskip("accelerate").PartialState()  # trl's logger wants one
    verifier = Verifier()
    results = [
        VerifyResult("ok", True, True, 0, tests_passed=2, tests_total=2),
        VerifyResult("sandbox_error", False, False),
    ]
    monkeypatch.setattr(verifier, "verify_many", lambda programs: results)
    trainer = TrainerParts(
        accelerator=SimpleNamespace(device="cpu", is_main_process=True),
        args=SimpleNamespace(report_to=[]),
        state=SimpleNamespace(global_step=0),
        environments=None,
        reward_funcs=[CompilerReward(verifier)],
        reward_processing_classes=[None],
        reward_func_names=["compiler"],
        _log_completion_extra=lambda column, values: None,
        _log_metric=lambda name, value: None,
    )
    inputs = [{"prompt": OPENING, "test": TEST}] * 2
    rewards = trl.GRPOTrainer._calculate_rewards(trainer, inputs, [OPENING] * 2, ["}", "}"], [[1], [2]])
    assert str(rewards[:, 0].tolist()) == "[1.0, nan]"
