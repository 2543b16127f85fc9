"""What a dry run says: the arithmetic of the plan and an estimate that is of the right size."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from benchmarks.kills import few_tasks
from rlvr_cpp import UserError
from rlvr_cpp.runs import processes
from rlvr_cpp.runs.config import CONF
from rlvr_cpp.runs.console import console
from rlvr_cpp.training.checks import load
from rlvr_cpp.training.plan import memory_of, print_plan
from rlvr_model.presets import load_preset


def job(*overrides: str):
    with initialize_config_dir(CONF, version_base=None):
        return load(compose("gspo", list(overrides)))


def test_the_weights_are_counted_from_the_config_alone():
    memory = memory_of(job(), 32)
    assert memory.base == 4 * 596_184
    assert 0 < memory.trained < memory.base
    assert memory.peak > memory.base + memory.trained + memory.cache


def test_a_quantized_base_is_smaller_and_full_training_larger():
    plain, nf4 = memory_of(job(), 32), memory_of(job("policy=nf4", "policy.dtype=float32"), 32)
    full = memory_of(job("adapter=none"), 32)
    assert nf4.base < plain.base
    assert (full.trained, full.gradients, full.optimizer) == (4 * 596_184, 4 * 596_184, 8 * 596_184)
    assert full.base == plain.base  # of the reference
    assert memory_of(job("adapter=none", "algorithm.kl_coeff=0"), 32).base == 0
    assert memory_of(job("adapter=none", "generation.ahead=1"), 32).trained == 2 * full.trained


def launched(monkeypatch, **told):
    """As accelerate tells eight processes what they are to share out."""
    for name, value in {"WORLD_SIZE": "8", **told}.items():
        monkeypatch.setenv(name, value)


FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}


def zero(stage: int) -> dict[str, str]:
    return {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)}


@pytest.mark.parametrize(
    ("told", "divided"),
    [
        ({}, set()),
        (FSDP2, {"base", "trained", "gradients", "optimizer"}),
        (zero(1), {"optimizer"}),
        (zero(2), {"gradients", "optimizer"}),
        (zero(3), {"base", "trained", "gradients", "optimizer"}),
    ],
)
def test_a_process_has_its_part_of_what_is_shared_out(monkeypatch, told, divided):
    alone = memory_of(job(), 8)
    launched(monkeypatch, **told)
    shared = memory_of(job(), 8)
    for part in ("base", "trained", "gradients", "optimizer"):
        assert getattr(shared, part) == getattr(alone, part) / (8 if part in divided else 1)
    assert (shared.gathered > 0) == ("base" in divided)


def test_the_plan_tells_what_is_shared_out(monkeypatch):
    launched(monkeypatch, **zero(2))
    with console.capture() as capture:
        print_plan(job())
    assert "what ZeRO-2 does, by 8 process(es)" in capture.get()


@pytest.mark.parametrize(
    ("told", "overrides", "words"),
    [
        (FSDP2, ["policy=nf4"], "under FSDP, which cannot share out weights of 4 bits: use policy.quantization=null"),
        (zero(3), ["policy=nf4"], "under DeepSpeed, which cannot share out weights of 4 bits"),
        (FSDP2, ["policy.dtype=float16"], "under FSDP, whose gradients cannot be brought to their size"),
        ({**FSDP2, "FSDP_VERSION": "1"}, [], "FSDP's first version: set fsdp_version: 2"),
        ({**FSDP2, "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, [], "fsdp_state_dict_type: FULL_STATE_DICT"),
        ({}, ["+trainer.trl.fsdp=full_shard"], "say it to the launcher: accelerate launch --config_file FILE"),
    ],
)
def test_what_cannot_be_shared_out_is_one_sentence(monkeypatch, told, overrides, words):
    launched(monkeypatch, **told)
    with pytest.raises(UserError, match=re.escape(words)):
        job(*overrides)


def test_a_base_of_4_bits_goes_with_zero_2(monkeypatch, tmp_path):
    file = tmp_path / "zero.json"
    file.write_text('{"zero_optimization": {"stage": 2}}')
    launched(monkeypatch, ACCELERATE_USE_DEEPSPEED="true", ACCELERATE_DEEPSPEED_CONFIG_FILE=str(file))
    assert job("policy=nf4").policy.quantization == "nf4"


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero2", "zero3"])
def test_the_launch_files_that_are_shipped_are_ones_that_accelerate_reads_and_a_job_bears(name, monkeypatch):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    file = Path(CONF) / "accelerate" / f"{name}.yaml"
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(file), "x.py"]))
    assert arguments.num_processes == 8
    assert (arguments.use_fsdp, arguments.use_deepspeed) == (name == "fsdp2", name.startswith("zero"))
    if name == "fsdp2":
        launched(monkeypatch, **{k: v for k, v in prepare_multi_gpu_env(arguments).items() if "FSDP" in k})
        assert processes.sharding() == "FSDP"
    assert job().policy.quantization is None


@pytest.mark.parametrize("hardware", ["1x24gb", "1x80gb", "8x80gb"])
def test_every_hardware_composes_with_the_production_recipe(hardware):
    asked = job("+recipe=prod", f"+hardware={hardware}")
    assert asked.trainer.gradient_checkpointing
    assert asked.policy.quantization == (None if hardware == "8x80gb" else "nf4")


def test_more_completions_at_a_time_need_a_larger_cache():
    assert memory_of(job("generation.batch_size=8"), 32).cache * 8 == memory_of(job(), 32).cache


def test_of_a_hybrids_layers_only_attention_has_keys_to_keep(tmp_path):
    caches = {}
    for pattern in ("AEME", "AAAA"):
        load_preset("demo_hybrid", block_pattern=pattern).save_pretrained(tmp_path / pattern)
        caches[pattern] = memory_of(job(f"model={tmp_path / pattern}"), 32).cache
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
