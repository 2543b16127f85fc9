"""Fine-tuning a small model from scratch: it fits what it is shown, and what it writes loads again."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlvr_pretrain.fine_tuning import (
    build_model,
    encode_row,
    language_model_loss,
    learning_rate_factor,
    save_model,
    train_model,
)
from rlvr_pretrain.recipe import LLAMA, Recipe
from rlvr_pretrain.sft import main
from rlvr_pretrain.tokenizer import train_tokenizer

ROWS = [{"prompt": f"int f{n}() {{\n", "completion": f"    return {n};\n}}\n"} for n in range(8)]
SMALL = Recipe(steps=60, batch_rows=8, warmup_steps=5, vocab_size=300, hidden_size=32, intermediate_size=64)
TOKENIZER = train_tokenizer((row["prompt"] + row["completion"] for row in ROWS), 300)


@pytest.fixture(scope="module", params=[LLAMA, "demo_hybrid"])
def recipe(request):
    return replace(SMALL, architecture=request.param)


@pytest.fixture(scope="module")
def trained(recipe):
    return train_model(ROWS, recipe)


def test_it_fits_what_it_is_shown(trained):
    _, _, loss = trained
    untrained = torch.log(torch.tensor(300.0)).item()
    assert loss < untrained / 2


def test_routers_indexers_and_drafting_heads_of_a_hybrid_learn_along():
    recipe = replace(SMALL, architecture="everything_tiny", steps=3, warmup_steps=1, context=128)
    model, _, _ = train_model(ROWS, recipe)
    torch.manual_seed(recipe.seed)
    start = build_model(recipe, TOKENIZER)
    moved = {
        name
        for (name, value), before in zip(model.state_dict().items(), start.state_dict().values(), strict=True)
        if not torch.equal(value, before)
    }
    for part in ("e_score_correction_bias", ".gate.weight", ".indexer.q_proj.weight", "mtp.depths.0.merge_proj.weight"):
        assert any(name.endswith(part) for name in moved), part


def test_the_same_seed_gives_the_same_weights(trained, recipe):
    again, _, _ = train_model(ROWS, recipe)
    for name, value in trained[0].state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_what_it_writes_loads_again(trained, tmp_path):
    model, tokenizer, _ = trained
    save_model(model, tokenizer, tmp_path)
    loaded, reread = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = "int f3() {\n    return 3;\n}\n"
    assert reread(text)["input_ids"] == tokenizer(text)["input_ids"]
    ids = torch.tensor([reread(text)["input_ids"]])
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    # where a weight lies in memory may decide how its product is rounded
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=1e-5)
    assert loaded.generation_config.eos_token_id == tokenizer.eos_token_id


MISTAKES = {
    "architecture": (["--architecture", "nope"], "architecture is 'nope': it must be one of llama, demo_hybrid"),
    "steps": (["--steps", "0"], "steps is 0: it must be at least 1"),
    "rate": (["--learning-rate", "inf"], "learning_rate is inf: it must be more than 0 and finite"),
    "word for a number": (["--layers", "two"], "argument --layers: invalid int value: 'two'"),
    "heads": (["--heads", "3"], "hidden_size is 128 with heads 3: use a multiple of twice the heads"),
    "no data": (["--data", "nowhere.jsonl"], "--data nowhere.jsonl cannot be read"),
    "empty data": (["--data", "empty.jsonl"], "--data empty.jsonl is empty"),
    "no JSON": (["--data", "cut.jsonl"], "cut.jsonl line 2: not JSON"),
    "no completion": (["--data", "half.jsonl"], "half.jsonl line 1: field 'completion' must be a string"),
    "a file for a folder": (["--out", "rows.jsonl"], "rows.jsonl"),
}
ROW = json.dumps({"prompt": "int f() {", "completion": "return 1; }"})


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, case):
    files = {"rows.jsonl": ROW, "empty.jsonl": "", "cut.jsonl": f"{ROW}\n{ROW[:9]}", "half.jsonl": '{"prompt": ""}'}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    arguments, words = MISTAKES[case]
    assert main(["--data", "rows.jsonl", "--out", "model", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert {path.name for path in tmp_path.iterdir()} == files.keys()


@given(st.text(max_size=60))
def test_any_text_survives_the_tokenizer(text):
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_digits_stay_apart():
    ids = TOKENIZER("return 127;")["input_ids"]
    assert [TOKENIZER.decode([i]).strip() for i in ids][-4:] == ["1", "2", "7", ";"]


def test_prompt_and_completion_are_tokenized_apart():
    row = {"prompt": "int f() {\n", "completion": "    return 1;\n}\n"}
    ids = encode_row(row, TOKENIZER, 512)
    prompt = TOKENIZER(row["prompt"])["input_ids"]
    assert ids[: len(prompt)] == prompt
    assert ids[-1] == TOKENIZER.eos_token_id
    assert len(encode_row(row, TOKENIZER, 5)) == 5


def test_padding_does_not_change_the_loss(trained):
    model, tokenizer, _ = trained
    ids = encode_row(ROWS[0], tokenizer, 512)
    plain = language_model_loss(model, torch.tensor([ids]))
    padded = language_model_loss(model, torch.tensor([ids + [tokenizer.pad_token_id] * 5]))
    assert padded.item() == pytest.approx(plain.item(), rel=1e-5)


def test_the_learning_rate_rises_and_falls_to_zero():
    factors = [learning_rate_factor(step, SMALL) for step in range(SMALL.steps + 1)]
    assert factors[SMALL.warmup_steps] == max(factors) == 1.0
    assert factors[-1] == pytest.approx(0.0, abs=1e-9)
    assert sorted(factors[: SMALL.warmup_steps]) == factors[: SMALL.warmup_steps]
