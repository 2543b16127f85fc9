"""Completions that depend on their own seed and on nothing else, told as they end."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlvr_cpp.policy import sampling
from rlvr_cpp.policy.sampling import completion_seed, sample

EOS, PAD, VOCAB = 1, 0, 12
PROMPTS = [[2, 3], [4, 5, 6], [7], [8, 9, 10, 11], [2, 2, 2]]
SEEDS = [completion_seed("test", n) for n in range(len(PROMPTS))]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def draw(model, prompts=PROMPTS, seeds=SEEDS, **options):
    settings = {"max_new_tokens": 12, "eos_ids": [EOS], "pad_id": PAD, "temperature": 1.0, **options}
    with torch.no_grad():
        return sample(model, prompts, seeds=seeds, **settings)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_neither_batches_nor_padding_nor_order_change_a_completion(model, batch_size):
    whole = draw(model)
    assert draw(model, batch_size=batch_size) == whole
    assert draw(model, PROMPTS[::-1], SEEDS[::-1], batch_size=batch_size)[::-1] == whole


MANY = PROMPTS * 8
MANY_SEEDS = [completion_seed("many", n) for n in range(len(MANY))]


@pytest.fixture
def starts(model, monkeypatch):
    """The rows with which generation began each time."""
    rows = []
    real = model.generate
    monkeypatch.setattr(model, "generate", lambda **named: rows.append(len(named["input_ids"])) or real(**named))
    return rows


def test_rows_that_are_left_behind_change_no_other(model, starts):
    together = draw(model, MANY, MANY_SEEDS, max_new_tokens=40)
    assert len(starts) > 2
    assert starts == sorted(starts, reverse=True)
    alone = [draw(model, [one], [seed], max_new_tokens=40)[0] for one, seed in zip(MANY, MANY_SEEDS, strict=True)]
    assert together == alone


@pytest.fixture
def a_group_of_one():
    """A process that has only itself to keep in step with."""
    distributed: Any = torch.distributed
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_model_shared_out_among_processes_is_called_in_step(model, starts, monkeypatch, a_group_of_one):
    """Generation that begins anew on one process alone would wait for the others for ever."""
    monkeypatch.setattr(sampling, "is_shared_out", lambda _: True)
    in_step = draw(model, MANY, MANY_SEEDS, max_new_tokens=40)
    assert starts == [len(MANY)]
    monkeypatch.undo()
    assert draw(model, MANY, MANY_SEEDS, max_new_tokens=40) == in_step


def test_the_global_random_state_is_left_alone(model):
    before = torch.random.get_rng_state()
    draw(model)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_seed_is_another_completion(model):
    assert draw(model, [PROMPTS[0]] * 5, SEEDS) != draw(model, [PROMPTS[0]] * 5, [SEEDS[0]] * 5)


def test_at_temperature_0_it_is_the_models_own_greedy_completion(model):
    for prompt, completion in zip(PROMPTS, draw(model, temperature=0.0), strict=True):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            expected = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        assert completion == expected[0, len(prompt) :].tolist()


def test_a_completion_ends_with_its_end_token_or_at_the_limit(model):
    for completion in draw(model, [PROMPTS[0]] * 40, [completion_seed(n) for n in range(40)]):
        assert EOS not in completion[:-1]
        assert completion[-1] == EOS or len(completion) == 12


def test_every_completion_is_told_once_when_it_ends(model):
    told = []
    completions = draw(model, on_finished=lambda index, ids: told.append((index, ids)))
    assert sorted(told) == list(enumerate(completions))
    lengths = [len(ids) for _, ids in told]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_from_the_models_distribution(model, temperature):
    count = 4000
    seeds = [completion_seed("chi", n) for n in range(count)]
    first = draw(model, [PROMPTS[1]] * count, seeds, temperature=temperature, max_new_tokens=1)
    found = torch.bincount(torch.tensor([ids[0] for ids in first]), minlength=VOCAB) / count
    with torch.no_grad():
        expected = (model(torch.tensor([PROMPTS[1]])).logits[0, -1] / temperature).softmax(-1)
    error = (expected * (1 - expected) / count).sqrt()
    assert ((found - expected).abs() < 4.5 * error + 1e-9).all()


def test_a_seed_is_the_same_tomorrow():
    assert completion_seed(0, "1:0:task", 3) == 6689458169492902122
    assert 0 <= completion_seed("x") < 2**63


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_each_token_is_told_with_the_log_probability_by_which_it_was_drawn(model, temperature):
    told: dict[int, list[float]] = {}
    completions = draw(
        model, MANY, MANY_SEEDS, max_new_tokens=40, temperature=temperature, on_logps=told.__setitem__, batch_size=24
    )
    for row, (prompt, ids) in enumerate(zip(MANY, completions, strict=True)):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1] / temperature
        expected = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(told[row]), expected, atol=1e-5)
    assert len({len(ids) for ids in completions}) > 3
