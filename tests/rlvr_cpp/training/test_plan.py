"""What a dry run says: the arithmetic of the plan and an estimate that is of the right size."""

import pytest
from hydra import compose, initialize_config_dir

from rlvr_cpp import UserError
from rlvr_cpp.runs.config import CONF
from rlvr_cpp.runs.console import console
from rlvr_cpp.training.checks import load
from rlvr_cpp.training.plan import estimate_memory, print_plan
from rlvr_model.presets import load_preset


def job(*overrides: str):
    with initialize_config_dir(CONF, version_base=None):
        return load(compose("gspo", list(overrides)))


def test_the_weights_are_counted_from_the_config_alone():
    memory = estimate_memory(job(), 32)
    assert memory.base == 4 * 596_184
    assert 0 < memory.trained < memory.base
    assert memory.total > memory.base + memory.trained + memory.cache


def test_a_quantized_base_is_smaller_and_full_training_larger():
    plain, nf4 = estimate_memory(job(), 32), estimate_memory(job("policy=nf4", "policy.dtype=float32"), 32)
    full = estimate_memory(job("adapter=none"), 32)
    assert nf4.base < plain.base
    assert full.trained == 16 * 596_184


def test_more_completions_at_a_time_need_a_larger_cache():
    assert estimate_memory(job("generation.batch_size=8"), 32).cache * 8 == estimate_memory(job(), 32).cache


def test_of_a_hybrids_layers_only_attention_has_keys_to_keep(tmp_path):
    caches = {}
    for pattern in ("AEME", "AAAA"):
        load_preset("demo_hybrid", block_pattern=pattern).save_pretrained(tmp_path / pattern)
        caches[pattern] = estimate_memory(job(f"model={tmp_path / pattern}"), 32).cache
    assert caches["AAAA"] == 4 * caches["AEME"] > 0


def test_the_plan_adds_up():
    with console.capture() as capture:
        print_plan(job("trainer.steps=10", "trainer.micro_batch_size=8", "algorithm.refill_rounds=2"))
    said = capture.get()
    for words in (
        "8 prompts x 8 = 64 completions", "up to 192 completions", "2 of 4 passes of 8 completions", "640 completions",
        "at most 20",
    ):  # fmt: skip
        assert words in said


def test_a_model_that_cannot_be_found_is_one_sentence():
    with pytest.raises(UserError, match="set model= to a shipped model"):
        print_plan(job("model=./no/such/folder"))
