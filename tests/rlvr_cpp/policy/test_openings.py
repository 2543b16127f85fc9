"""What is given of an answer is written in the tokens in which the whole answer is."""

import dataclasses

import pytest

from rlvr_cpp.policy.openings import Opening, answer_ids
from rlvr_cpp.policy.policy import Policy
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from tests.tokenizers import FAMILIES, tokenizer_of

SHIPPED = [task for task in load_tasks(BUILTIN) if task.reference][::60]
AWKWARD = [
    '    auto s = "é → 漢字 🙂";\r\n\treturn s;\n}\n',
    "\n\n    // comment\n\n        if (n)\n            return 1;\n    return 12345;\n}\n",
    "return std::vector<s>{};\n} // <s> </s>\n",
]
TASKS = [*SHIPPED, *(dataclasses.replace(SHIPPED[0], reference=text) for text in AWKWARD)]
PROMPT = """#include <vector>

// Given.
int twice(int x) { return 2 * x; }

// Returns the sum of twice the elements.
int total(const std::vector<int>& v) {
"""
CHATTED = Task(
    "total",
    PROMPT,
    "",
    "total",
    reference="    int r = 0;\n    for (int x : v)\n        r += twice(x);\n    return r;\n}\n",
)


def policy_of(family: str, chat: bool = False) -> Policy:
    return Policy(None, tokenizer_of(family), chat)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", TASKS, ids=range(len(TASKS)))
def test_an_opening_is_as_much_of_the_answer_as_whole_tokens_can_give(family, task):
    policy = policy_of(family)
    prompt, reference = policy.prompt_ids(task), task.reference
    whole = answer_ids(policy.tokenizer, task.prompt, prompt, reference)
    for given in (0, 1, len(reference) // 3, len(reference) // 2, len(reference) - 2):
        opening = policy.opening(task, given)
        assert list(opening.ids) == list(whole[: len(opening.ids)])
        assert reference.startswith(opening.text)
        assert len(opening.text) <= given
        assert policy.decode([*prompt, *opening.ids]) == policy.decode(prompt) + opening.text
        longer = policy.decode([*prompt, *whole[: len(opening.ids) + 1]])[len(policy.decode(prompt)) :]
        assert len(longer) > given or not reference.startswith(longer)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rest_of_a_shipped_answer_follows_in_its_own_tokens(family):
    policy = policy_of(family)
    for task in SHIPPED:
        whole = answer_ids(policy.tokenizer, task.prompt, policy.prompt_ids(task), task.reference)
        opening = policy.opening(task, len(task.reference) // 2)
        assert opening.text
        rest = policy.decode([*policy.prompt_ids(task), *opening.ids, *whole[len(opening.ids) :]])
        assert rest == policy.decode(policy.prompt_ids(task)) + task.reference


@pytest.mark.parametrize("family", ["qwen", "llama3", "sentencepiece"])
def test_where_a_token_ends_with_the_prompt_the_tokens_are_those_of_prompt_and_answer_together(family):
    policy = policy_of(family)
    for task in SHIPPED:
        opening = policy.opening(task, len(task.reference) // 2)
        together = policy.tokenizer(task.prompt + task.reference)["input_ids"]
        mine = [*policy.prompt_ids(task), *opening.ids]
        assert mine == together[: len(mine)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chat_opens_with_the_declaration_alone_and_ends_as_the_whole_program(family):
    policy = policy_of(family, chat=True)
    opening = policy.opening(CHATTED, CHATTED.reference.index("        r +="))
    assert opening.text.startswith(
        "```cpp\nint total(const std::vector<int>& v) {\n    int r = 0;\n    for (int x : v)"
    )
    answer = (
        opening.text
        + "```cpp\nint total(const std::vector<int>& v) {\n".join(("", CHATTED.reference))[len(opening.text) :]
    )
    candidate = read_completion(CHATTED, answer + "```", chat=True)
    assert candidate.code == PROMPT + CHATTED.reference + "\n"


def test_nothing_is_given_of_what_is_unknown_or_not_asked_for():
    policy = policy_of("gpt2")
    assert policy.opening(SHIPPED[0], 0) == Opening()
    assert policy.opening(dataclasses.replace(SHIPPED[0], reference=None), 9) == Opening()
    assert policy_of("gpt2", chat=True).opening(SHIPPED[0], 1) == Opening()
