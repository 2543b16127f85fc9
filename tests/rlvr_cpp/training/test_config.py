"""The typed door: what it lets through and what it says of the rest."""

import dataclasses

import pytest
from hydra import compose, initialize_config_dir

from rlvr_cpp import UserError
from rlvr_cpp.runs.config import CONF
from rlvr_cpp.training.checks import load
from rlvr_cpp.training.config import GRPOConfig, GSPOConfig, GuardSettings, StepCoderConfig, TrainingJob


def job(*overrides: str, command: str = "gspo") -> TrainingJob:
    with initialize_config_dir(CONF, version_base=None):
        return load(compose(command, list(overrides)))


def test_the_default_is_the_demo():
    assert (job().model, job().tasks.source) == ("tiny-hybrid", None)


def test_a_model_is_a_plain_value():
    assert job("model=Qwen/Qwen2.5-Coder-0.5B-Instruct").model == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    assert job("model=../my/model").model == "../my/model"


@pytest.mark.parametrize("recipe", ["prod", "smoke", "grpo", "dapo", "stepcoder", "demo"])
def test_every_recipe_composes_and_the_command_line_wins(recipe):
    assert job(f"+recipe={recipe}", "algorithm.kl_coeff=0.7").algorithm.kl_coeff == 0.7


def test_short_answers_belong_to_the_demo_alone():
    assert job().algorithm.max_gen_len == job("algorithm=luspo").algorithm.max_gen_len == 128
    for others in (["trainer=gpu"], ["+recipe=grpo", "trainer=gpu"], ["+recipe=dapo", "trainer=gpu"], ["+recipe=prod"]):
        assert job(*others).algorithm.max_gen_len == 512
    assert job("algorithm.max_gen_len=64").algorithm.max_gen_len == 64


@pytest.mark.parametrize(
    "algorithm", ["gspo", "gspo_paper", "grpo", "luspo", "luspo_paper", "dapo", "dapo_paper", "dr_grpo"]
)
def test_every_algorithm_composes(algorithm):
    assert job(f"algorithm={algorithm}", "trainer.batch_size=64").algorithm.group_size == 8


@pytest.mark.parametrize(
    ("group", "options"),
    [
        ("policy", ["demo", "cpu", "gpu", "nf4"]),
        ("adapter", ["lora_r8", "lora_r8_mlp_mamba", "none"]),
        ("generation", ["transformers", "continuous_batching"]),
        ("reward", ["tiers", "binary", "shaped"]),
        ("stepcoder", ["none", "cccs", "fgo", "cccs_fgo", "paper"]),
        ("guards", ["stop", "warn"]),
        ("trainer", ["demo", "gpu"]),
    ],
)
def test_every_option_composes_and_passes_the_checks(group, options):
    for option in options:
        changes = ["policy=demo"] if (group, option) == ("adapter", "none") else []
        job(f"{group}={option}", *changes)


@pytest.mark.parametrize("engine", ["vllm", "vllm_server"])
def test_an_engine_that_is_not_installed_is_told_before_anything_is_loaded(engine):
    with pytest.raises(UserError, match=r"rlvr-cpp\[vllm\]"):
        job(f"generation={engine}")


def test_the_yaml_and_the_dataclasses_have_the_same_defaults():
    length = 512  # the one value that the demo shortens
    assert dataclasses.replace(job().algorithm, max_gen_len=length) == GRPOConfig(**dataclasses.asdict(GSPOConfig()))
    assert dataclasses.replace(job(command="grpo").algorithm, max_gen_len=length) == GRPOConfig()
    assert job().stepcoder == StepCoderConfig()
    assert job().guards == GuardSettings()


def test_the_production_recipe_is_the_one_of_the_design():
    prod = job("+recipe=prod")
    algorithm, stepcoder, adapter = prod.algorithm, prod.stepcoder, prod.adapter
    assert (algorithm.ratio, algorithm.loss_type, algorithm.zero_variance) == ("sequence", "luspo", "discard")
    assert (algorithm.group_size, algorithm.kl_coeff, algorithm.temperature, algorithm.max_gen_len) == (
        8,
        0.1,
        1.0,
        512,
    )
    assert (stepcoder.cccs, stepcoder.cccs_init_frac, stepcoder.cccs_decay_threshold) == (True, 0.7, 0.6)
    assert stepcoder.fgo == "compile_error"
    assert (adapter.rank, adapter.targets, prod.policy.quantization) == (8, ["mlp", "mamba"], "nf4")


@pytest.mark.parametrize(
    ("algorithm", "band"),
    [("gspo_paper", (3e-4, 4e-4)), ("luspo_paper", (2e-3, 2.5e-3)), ("dapo_paper", (0.2, 0.28))],
)
def test_the_papers_presets_have_the_papers_clip_ranges(algorithm, band):
    found = job(f"algorithm={algorithm}").algorithm
    assert (found.clip_eps, found.clip_eps_high) == band
    assert found.kl_coeff == 0
    assert found.num_minibatches > 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["algorithm.group_size=7"], "trainer.batch_size is 64 and algorithm.group_size is 7"),
        (["algorithm.group_size=1"], "algorithm.group_size is 1"),
        (["algorithm.num_minibatches=3"], "algorithm.num_minibatches is 3"),
        (["algorithm.loss_type=luspo", "algorithm.ratio=token"], "algorithm.loss_type is 'luspo' with algorithm.ratio"),
        (["algorithm.loss_type=dapo"], "algorithm.loss_type is 'dapo' with algorithm.ratio 'sequence'"),
        (["algorithm.luspo_norm=max_len"], "algorithm.luspo_norm is 'max_len'"),
        (["algorithm.refill_rounds=1", "algorithm.zero_variance=keep"], "algorithm.refill_rounds is 1"),
        (["algorithm.overlong_buffer=9", "algorithm.truncated=mask"], "algorithm.overlong_buffer is 9"),
        (["algorithm.overlong_buffer=128"], "algorithm.overlong_buffer is 128"),
        (["algorithm.kl_estimator=k1"], "algorithm.kl_estimator is 'k1'"),
        (["stepcoder.fgo=lines"], "stepcoder.fgo is 'lines'"),
        (["stepcoder.cccs_init_frac=1.5"], "stepcoder.cccs_init_frac is 1.5"),
        (["stepcoder.cccs_min_prefix_frac=0.9"], "stepcoder.cccs_min_prefix_frac is 0.9"),
        (["policy.quantization=int3"], "policy.quantization is 'int3'"),
        (["policy.quantization=nf4", "adapter=none"], "policy.quantization is 'nf4' with adapter.enabled false"),
        (["policy.dtype=float16", "adapter=none"], "policy.dtype is 'float16' with adapter.enabled false"),
        (["adapter=none", "adapter.start=x"], "adapter.start is 'x'"),
        (["guards.action=shout"], "guards.action is 'shout'"),
        (["+trainer.trl.beta=1"], "trainer.trl.beta cannot be set"),
        (["+trainer.trl.save_steps=1"], "trainer.trl.save_steps cannot be set"),
        (["+trainer.trl.temperature=0.5"], "trainer.trl.temperature cannot be set: use algorithm.temperature"),
        (["+trainer.trl.sync_ref_model=true"], "trainer.trl.sync_ref_model cannot be set: the reference is the start"),
        (["+trainer.trl.top_p=0.9"], "trainer.trl.top_p cannot be set: what is sampled and what is scored"),
        (["+trainer.trl.generation_kwargs={top_p: 0.9}"], "trainer.trl.generation_kwargs cannot be set"),
        (["+trainer.trl.chat_template_kwargs={a: 1}"], "trainer.trl.chat_template_kwargs cannot be set"),
        (["+trainer.trl.neftune_noise_alpha=5"], "trainer.trl.neftune_noise_alpha cannot be set: nothing here reads"),
        (["generation.engine=sglang"], "generation.engine is 'sglang'"),
        (["generation.ahead=2"], "generation.ahead is 2"),
        (
            ["generation=continuous_batching", "generation.ahead=1"],
            "generation.ahead is 1 with generation.engine 'cont",
        ),
        (["trainer.micro_batch_size=0"], "trainer.micro_batch_size is 0"),
        (["trainer.steps=0"], "trainer.steps is 0"),
        (["trainer.steps=many"], "config key 'trainer.steps'"),
        (["algorithm.temperature=0"], "algorithm.temperature is 0"),
        (["trainer.learning_rate=-1"], "trainer.learning_rate is -1"),
        (["trainer.learning_rate=inf"], "trainer.learning_rate is inf: it must be at least 0 and finite"),
        (["trainer.save_every=0"], "trainer.save_every is 0"),
        (["evaluation.limit=0"], "evaluation.limit is 0"),
        (["evaluation.patience=2", "evaluation.every=null"], "evaluation.patience is 2 without evaluation.every"),
        (["adapter.rank=0"], "adapter.rank is 0"),
        (["tasks.held_out_fraction=-0.2"], "tasks.held_out_fraction is -0.2"),
        (["+trainer.trl.num_iterations=2"], "trainer.trl.num_iterations cannot be set"),
        (["policy.dtype=int8"], "policy.dtype is 'int8'"),
        (["policy.prompt_format=poem"], "policy.prompt_format is 'poem'"),
        (["+algorithm.kl_coef=1"], "config key 'algorithm.kl_coef'"),
    ],
)
def test_a_mistake_names_the_key(overrides, words):
    with pytest.raises(UserError) as caught:
        job(*overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_problems_are_told_at_once():
    with pytest.raises(UserError) as caught:
        job("policy.dtype=int8", "algorithm.temperature=-1", "trainer.batch_size=20")
    assert str(caught.value).count(";") == 2
