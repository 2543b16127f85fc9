"""Prompts that leave an answer no room are refused, or left out where the user says so."""

import dataclasses

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.policy.lengths import context_of, fitting
from rlvr_cpp.policy.policy import Policy, load_policy
from rlvr_cpp.policy.settings import PolicySettings
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.task import Task
from tests.tokenizers import tokenizer_of

SHORT, LONG = Task("short", "int f() {\n", "", "f"), Task("long", "// x\n" * 400 + "int f() {\n", "", "f")


@pytest.fixture(scope="module")
def policy():
    return load_policy("tiny-cpp", PolicySettings("float32", None, "cpu", None, "auto", 1))


def test_a_prompt_that_fits_is_kept_and_one_that_fills_the_context_is_refused_with_the_way_out(policy):
    assert fitting([SHORT], policy, None, 128) == [SHORT]
    with pytest.raises(UserError, match=r"prompts of 1 of 2 tasks fill .* of 512 tokens, such as 'long' .*=384,"):
        fitting([SHORT, LONG], policy, None, 128)
    with pytest.raises(UserError, match=r"max_prompt_tokens=256,"):
        fitting([SHORT, LONG], policy, None, 512)


def test_longer_prompts_are_left_out_where_there_is_a_limit(policy):
    assert fitting([LONG, SHORT], policy, 384, 128) == [SHORT]
    with pytest.raises(UserError, match=r"tasks.max_prompt_tokens is 384 and the shortest prompt has"):
        fitting([LONG], policy, 384, 128)


@pytest.mark.parametrize(("answer", "warned"), [(128, False), (512, True)])
def test_less_room_than_an_answer_may_take_is_told_and_no_reason_to_refuse(policy, answer, warned):
    with console.capture() as said:
        assert fitting([SHORT], policy, None, answer) == [SHORT]
    assert ("has less room than for the 512 tokens" in said.get()) == warned


def test_a_model_that_names_no_context_takes_everything(policy):
    config = type(policy.model.config)(max_position_embeddings=-1)
    boundless = dataclasses.replace(policy, model=type(policy.model)._from_config(tiny(config)))
    assert context_of(boundless) is None
    assert fitting([LONG], boundless, None, 128) == [LONG]


def tiny(config):
    config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers = 8, 8, 8, 1
    config.num_attention_heads = config.num_key_value_heads = 2
    config.head_dim = 4
    return config


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no') }}", "{% for %}", "{{ messages[9].content.x }}", "{{ 1 + '' }}"]
)
def test_a_template_that_raises_is_one_sentence(policy, template):
    tokenizer = tokenizer_of("gpt2")
    known, tokenizer.chat_template = tokenizer.chat_template, template
    try:
        with pytest.raises(UserError, match="the model's chat template fails"):
            fitting([SHORT], Policy(policy.model, tokenizer, chat=True), None, 128)
    finally:
        tokenizer.chat_template = known
