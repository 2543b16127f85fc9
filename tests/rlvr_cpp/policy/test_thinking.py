"""Thoughts are told from answers in the templates and tokenizers of the field."""

import dataclasses

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.policy.policy import Policy, find_thoughts
from rlvr_cpp.policy.settings import ChatSettings, PolicySettings
from rlvr_cpp.policy.thinking import ANSWER, CANARY, DRAFT
from rlvr_cpp.tasks.completion import read_completion
from tests.rlvr_cpp.policy.families import FAMILIES, tokenizer_of

CHAT = PolicySettings("float32", None, "cpu", None, "chat", 1)
PLAIN = ChatSettings()
WITHOUT_THINKING = ChatSettings(template_kwargs={"enable_thinking": False})
THOUGHTS = {
    "ChatML": f"<think>{DRAFT}</think>",
    "Llama 3": f"<thinking>{DRAFT}</thinking>",
    "DeepSeek": f"{DRAFT}</think>",
    "Qwen3": f"<think>\n{DRAFT}\n</think>",
    "Mistral": f"[THINK]{DRAFT}[/THINK]",
    "gpt-oss": f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>",
}


def policy_of(family, chat=PLAIN):
    settings = dataclasses.replace(CHAT, chat=chat)
    tokenizer = tokenizer_of(family)
    return Policy(None, tokenizer, True, find_thoughts(tokenizer, True, settings), chat)


def code_of(policy, text):
    """What is judged of a completion that has gone through the tokenizer and back."""
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    return read_completion(CANARY, policy.decode(ids), policy.chat, policy.thoughts).code.strip()


RIGHT = "int twice(int x) { return 2 * x; }"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_behind_thoughts_is_judged(family):
    policy = policy_of(family)
    assert code_of(policy, THOUGHTS[family] + ANSWER + policy.tokenizer.eos_token) == RIGHT


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "DeepSeek"])
def test_an_answer_without_thoughts_is_judged(family):
    assert code_of(policy_of(family), ANSWER) == RIGHT


@pytest.mark.parametrize("family", ["DeepSeek", "Qwen3", "Mistral", "gpt-oss"])
def test_an_answer_that_is_cut_while_it_thinks_has_no_code(family):
    closing = policy_of(family).thoughts.markers[0][1]
    thought = THOUGHTS[family].partition(closing)[0]
    assert code_of(policy_of(family), thought) == ""


def test_what_was_found_is_told():
    told = [policy_of(*one).thinking.describe() for one in (("DeepSeek",), ("Qwen3", WITHOUT_THINKING), ("Llama 3",))]
    assert told == [
        "opened by the template, closed by </think>, special tokens",
        "opened by <think>, closed by </think>, special tokens",
        "no marker in template or tokenizer; the known ones are looked for",
    ]


def test_an_answers_given_beginning_closes_the_thoughts_that_the_template_has_opened():
    policy = policy_of("DeepSeek")
    task = dataclasses.replace(CANARY, reference="    int y = 2;\n    return y * x;\n}\n")
    opening = policy.opening(task, len("    int y = 2;\n"))
    assert "int y = 2;" in opening.text
    text = opening.text.removesuffix("\n") + "\n    return y * x;\n}\n```"
    assert read_completion(task, text, True, policy.thoughts).code.split() == (task.prompt + task.reference).split()
    assert policy.tokenizer.decode([*policy.prompt_ids(task), *opening.ids]).endswith(opening.text)


def test_a_system_prompt_and_arguments_reach_the_template():
    rendered = policy_of("Qwen3", ChatSettings("Be brief.", {"enable_thinking": False})).tokenizer
    policy = Policy(None, rendered, True, asked=ChatSettings("Be brief.", {"enable_thinking": False}))
    text = policy.tokenizer.decode(policy.prompt_ids(CANARY))
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    assert text.endswith("<think>\n\n</think>\n\n")
    assert CANARY.prompt.strip() in text


def test_a_template_that_fails_is_told_in_a_sentence():
    with pytest.raises(UserError, match=r"template fails \(Only user and assistant .* policy\.chat\.system"):
        policy_of("Mistral", ChatSettings(system="Be brief."))


def test_markers_of_ones_own():
    tokenizer = tokenizer_of("ChatML")
    tokenizer.chat_template += "<plan>"
    settings = dataclasses.replace(CHAT, think_markers=[["<plan>", "<do>"]])
    policy = Policy(None, tokenizer, True, find_thoughts(tokenizer, True, settings))
    assert code_of(policy, f"{DRAFT}<do>{ANSWER}") == RIGHT


@pytest.mark.parametrize("markers", [[["<plan>"]], [["<plan>", ""]]])
def test_a_marker_that_is_no_pair_is_refused(markers):
    with pytest.raises(UserError, match=r"policy\.think_markers has "):
        find_thoughts(tokenizer_of("ChatML"), True, dataclasses.replace(CHAT, think_markers=markers))


def test_markers_that_do_not_survive_the_tokenizer_are_refused():
    tokenizer = tokenizer_of("DeepSeek")
    tokenizer.chat_template = tokenizer.chat_template.replace("<think>", "<s>")
    settings = dataclasses.replace(CHAT, think_markers=[["<s>", "</s>"]])
    with pytest.raises(UserError, match=r"name the model's own in policy\.think_markers"):
        find_thoughts(tokenizer, True, settings)
