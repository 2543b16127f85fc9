"""Which rows share a pass, and what is said of those that share none."""

import copy

import pytest
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from rlvr_cpp.training.config import GuardSettings
from rlvr_cpp.training.logps import by_groups, by_length, count_positions, scored_in_batches
from tests.rlvr_cpp.training.decided import MIXED, DecidedVerifier, _shipped_policy, build

MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]])
IDS = torch.arange(24).reshape(6, 4)


def forward(ids, mask, kept, size):
    """Each kept token's own number: what the trainer's model would say of it."""
    assert len(ids) == size
    return (ids[:, ids.shape[1] - kept :].float(), None, None)


def test_every_row_gets_what_belongs_to_it_without_the_padding_of_others():
    logps, *_ = scored_in_batches(forward, IDS, MASK, 2, by_length(MASK, 2))
    seen = MASK[:, 2:].bool()
    assert torch.equal(logps[seen], IDS[:, 2:].float()[seen])


def test_a_dead_group_is_left_out_when_its_turn_comes_and_changes_no_other_batch():
    asked = []

    def is_dead(first):
        asked.append(first)
        return first == 2

    batches = by_groups(MASK, 2, 2, is_dead)
    assert next(batches).tolist() == [1, 0]
    assert asked == [0]
    assert [rows.tolist() for rows in batches] == [[5, 4]]
    logps, *_ = scored_in_batches(forward, IDS, MASK, 2, by_groups(MASK, 2, 2, is_dead))
    assert logps[2:4].tolist() == [[0.0, 0.0]] * 2
    assert logps[4].tolist() == [18.0, 19.0]
    assert scored_in_batches(forward, IDS, MASK, 2, [])[0].tolist() == [[0.0, 0.0]] * 6


def gpt2():
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 512, "initializer_range": 0.5}
    return GPT2LMHeadModel(GPT2Config(vocab_size=512, **sizes)).eval()


@pytest.mark.parametrize(("counts", "equal"), [(True, True), (False, False)])
def test_padding_before_a_row_moves_no_learned_position(counts, equal):
    model, ids = gpt2(), torch.tensor([[5, 6, 7]])
    alone = model(ids).logits
    if counts:
        count_positions(model)
    padded = model(
        input_ids=torch.cat([torch.zeros(1, 4, dtype=torch.long), ids], dim=1),
        attention_mask=torch.tensor([[0, 0, 0, 0, 1, 1, 1]]),
    ).logits[:, 4:]
    assert torch.allclose(alone, padded, atol=1e-5) is equal


def test_a_model_with_rotary_positions_is_left_as_it_is():
    model = copy.deepcopy(_shipped_policy()).model
    count_positions(model)
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("ahead", [0, 1])
def test_the_ratio_of_an_unchanged_gpt2_is_one_whatever_shares_its_pass(tasks, tmp_path, ahead):
    policy = copy.deepcopy(_shipped_policy())
    ends = policy.model.generation_config
    policy.model = gpt2()
    policy.model.generation_config = GenerationConfig(eos_token_id=ends.eos_token_id, pad_token_id=ends.pad_token_id)
    trainer = build(
        tasks, DecidedVerifier(*MIXED), tmp_path, policy=policy, guards=GuardSettings(), ahead=ahead, batch_size=16
    )
    steps = []
    trainer.on_step = lambda step, metrics: steps.append(metrics)
    trainer.train()
    assert steps[0]["start_ratio_error"] < 1e-5
    assert steps[-1]["sampler_error"] < 1e-5
