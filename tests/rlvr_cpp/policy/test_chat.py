"""What a model's chat template makes of a request, however it is stored and whatever it leaves out."""

import dataclasses
import json

import pytest
from tokenizers import processors

from rlvr_cpp import UserError
from rlvr_cpp.policy.chat import SAID, check_template, turn_end
from rlvr_cpp.policy.policy import load_policy
from rlvr_cpp.policy.settings import ChatSettings, PolicySettings
from rlvr_cpp.policy.thinking import CANARY
from tests.rlvr_cpp.policy.chains import THINKING, write_chain
from tests.rlvr_cpp.policy.families import CHATML, FAMILIES, tokenizer_of

CPU = PolicySettings("float32", None, "cpu", None, "auto", 1)
PLAIN = ChatSettings()
SHORT = "{% for m in messages %}>> {{ m.content }}\n{% endfor %}<<"
PARTS = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"
NO_SYSTEM = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
GEMMA = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + SHORT


@pytest.fixture
def folder(tmp_path):
    """A model whose tokenizer is ChatML's."""
    write_chain(tmp_path, tokenizer_of("ChatML"), THINKING["ChatML"], "<|im_end|>", "\n")
    return tmp_path


def store(folder, **changes):
    """Change what the tokenizer's config says; its template is there, too, and in no file of its own."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    path.write_text(json.dumps({**config, "chat_template": CHATML, **changes}))


def asked_of(folder, chat=PLAIN):
    policy = load_policy(str(folder), dataclasses.replace(CPU, chat=chat))
    return policy, policy.tokenizer.decode(policy.prompt_ids(CANARY))


def test_a_template_in_a_file_of_its_own_is_found(folder):
    (folder / "chat_template.jinja").write_text(SHORT)
    assert asked_of(folder)[1].startswith(">> Complete this C++")


def test_of_several_templates_the_default_one_is_taken_or_the_one_that_is_named(folder):
    store(folder, chat_template=[{"name": "default", "template": CHATML}, {"name": "short", "template": SHORT}])
    assert asked_of(folder)[1].startswith("<|im_start|>user\nComplete this C++")
    policy, text = asked_of(folder, ChatSettings(template_kwargs={"chat_template": "short"}))
    assert text.startswith(">> Complete this C++")
    assert policy.eos_ids == [policy.tokenizer.eos_token_id]


def test_several_templates_without_a_default_one_are_told_in_a_sentence(folder):
    store(folder, chat_template=[{"name": "long", "template": CHATML}, {"name": "short", "template": SHORT}])
    with pytest.raises(UserError, match=r"chat template fails \(This model has multiple chat templates"):
        load_policy(str(folder), CPU)
    assert asked_of(folder, ChatSettings(template_kwargs={"chat_template": "short"}))[1].startswith(">> ")


def test_a_model_without_a_template_is_asked_to_continue(folder):
    store(folder, chat_template=None)
    policy = load_policy(str(folder), CPU)
    assert not policy.chat
    assert policy.eos_ids == [policy.tokenizer.eos_token_id]


@pytest.mark.parametrize(
    ("template", "asked", "words"),
    [
        (PARTS, PLAIN, "chat template does not write what the user says"),
        (NO_SYSTEM, ChatSettings("Be brief."), r"policy\.chat\.system is 'Be brief\.', which .* leaves out: use null"),
        (GEMMA, ChatSettings("Be brief."), r"fails \(System role not supported\): look at .* policy\.chat\.system"),
        (CHATML, ChatSettings(None, {"enable_thinkng": False}), "template_kwargs has enable_thinkng, which .* does not read"),
        (CHATML, ChatSettings(None, {"tokenize": True}), r"chat template fails \(.*tokenize"),
    ],
)  # fmt: skip
def test_what_does_not_reach_the_model_is_refused(template, asked, words):
    tokenizer = tokenizer_of("ChatML")
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=words):
        check_template(tokenizer, CANARY, asked)


def test_a_template_that_takes_no_system_prompt_takes_a_request():
    tokenizer = tokenizer_of("ChatML")
    tokenizer.chat_template = GEMMA
    assert check_template(tokenizer, CANARY, PLAIN).startswith(">> Complete this C++")


def test_what_ends_a_turn_is_read_off_the_template():
    ends = {family: turn_end(tokenizer_of(family), CANARY, PLAIN) for family in FAMILIES}
    names = {family: end and tokenizer_of(family).convert_ids_to_tokens(end) for family, end in ends.items()}
    assert names == {
        "ChatML": "<|im_end|>", "Llama 3": "<|eot_id|>", "DeepSeek": "</s>", "Qwen3": "<|im_end|>", "Mistral": "</s>",
        "gpt-oss": "<|end|>",
    }  # fmt: skip


@pytest.mark.parametrize("template", [SHORT, NO_SYSTEM.replace("m.role != 'system'", "m.role == 'user'"),
    "{% if messages | length > 1 %}{{ raise_exception('one message') }}{% endif %}{{ messages[0].content }}",
    "{% for m in messages %}{{ m.content }}{% endfor %}###"])  # fmt: skip
def test_a_template_that_ends_no_turn_with_a_token_adds_none(template):
    tokenizer = tokenizer_of("ChatML")
    tokenizer.chat_template = template
    assert turn_end(tokenizer, CANARY, PLAIN) is None


def test_an_answer_ends_with_its_turn_although_the_tokenizer_names_another_end(folder):
    policy = load_policy(str(folder), CPU)
    end = policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert policy.eos_ids == sorted({policy.tokenizer.eos_token_id, end})
    assert set(policy.model.generation_config.eos_token_id) == set(policy.eos_ids)


def test_what_ends_a_channel_does_not_end_an_answer(tmp_path):
    write_chain(tmp_path, tokenizer_of("gpt-oss"), THINKING["gpt-oss"], "<|return|>", "t")
    policy = load_policy(str(tmp_path), CPU)
    assert policy.tokenizer.convert_ids_to_tokens(policy.eos_ids) == ["<|return|>"]


def test_an_end_of_turn_that_is_no_special_token_is_not_judged(folder):
    store(folder, chat_template=CHATML.replace("<|im_end|>", "<end>"))
    state = json.loads((folder / "tokenizer.json").read_text())
    number = next(row["id"] for row in state["added_tokens"] if row["content"] == "</think>")
    for row in state["added_tokens"]:
        if row["id"] == number:
            row["content"] = "<end>"
    (folder / "tokenizer.json").write_text(json.dumps(state))
    policy = load_policy(str(folder), CPU)
    assert policy.eos_ids == sorted({policy.tokenizer.eos_token_id, number})
    assert policy.decode([*policy.tokenizer(SAID)["input_ids"], number]) == SAID


def test_a_tokenizer_that_ends_every_text_does_not_end_the_prompt(folder):
    store(folder, chat_template=None)
    policy = load_policy(str(folder), CPU)
    plain = policy.prompt_ids(CANARY)
    end = ("</s>", policy.tokenizer.eos_token_id)
    policy.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[end]
    )
    assert policy.tokenizer(CANARY.prompt)["input_ids"] == [*plain, end[1]]
    assert policy.prompt_ids(CANARY) == plain


@pytest.mark.parametrize("padding", [None, "<|im_end|>"])
def test_a_tokenizer_without_an_end_is_refused(folder, padding):
    store(folder, eos_token=None, pad_token=padding, chat_template=SHORT)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
    with pytest.raises(UserError, match=r"the tokenizer of model .* has no end token"):
        load_policy(str(folder), CPU)


@pytest.mark.parametrize("chat", [ChatSettings("Be brief."), ChatSettings(None, {"enable_thinking": False})])
def test_what_belongs_to_a_chat_is_refused_without_one(folder, chat):
    store(folder, chat_template=None)
    with pytest.raises(UserError, match=r"policy\.chat\.(system|template_kwargs) is .* has no chat template: leave it"):
        load_policy(str(folder), dataclasses.replace(CPU, chat=chat))
    store(folder)
    with pytest.raises(UserError, match=r"but policy\.prompt_format is completion: leave it out"):
        load_policy(str(folder), dataclasses.replace(CPU, prompt_format="completion", chat=chat))
