"""What a dry run says: the arithmetic of the plan and an estimate that is of the right size."""

import pytest
from hydra import compose, initialize_config_dir

from benchmarks.kills import few_tasks
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
    assert estimate_memory(job("adapter=none", "generation.ahead=1"), 32).trained == 20 * 596_184


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


def test_what_is_mixed_is_told_and_a_share_that_cannot_be_given_is_refused(tmp_path):
    few = few_tasks(tmp_path / "few.jsonl", training=8, held_out=2)
    few.write_text(few.read_text().replace('"task_id": "', '"task_id": "few/'))
    mixed = f"tasks.source={{{few}:1,shipped:3}}"
    with console.capture() as shown:
        print_plan(job(mixed, "trainer.batch_size=64", "algorithm.group_size=8"))
    told = " ".join(shown.get().split())
    assert "8 training tasks, 25.0% of the prompts" in told
    assert "shipped: 480 training tasks, 75.0% of the prompts" in told
    with pytest.raises(UserError, match=r"give .*few\.jsonl 16.0 of 64 prompts a step and it has 8 training tasks"):
        print_plan(job(mixed, "trainer.batch_size=512", "algorithm.group_size=8"))
