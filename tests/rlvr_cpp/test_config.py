"""The typed door: what it lets through and what it says of the rest."""

import dataclasses

import pytest

pytest.importorskip("hydra")

from hydra import compose, initialize_config_dir

from rlvr_cpp import UserError
from rlvr_cpp.config import CONF, GSPOConfig, GSPOJob, load


def job(*overrides: str) -> GSPOJob:
    with initialize_config_dir(CONF, version_base=None):
        return load(compose("gspo", list(overrides)))


def test_the_default_is_the_demo():
    assert (job().model, job().tasks.source) == ("tiny-cpp", None)


def test_a_model_is_a_plain_value():
    assert job("model=Qwen/Qwen2.5-Coder-0.5B-Instruct").model == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    assert job("model=../my/model").model == "../my/model"


@pytest.mark.parametrize("recipe", ["prod", "smoke"])
def test_every_recipe_composes_and_the_command_line_wins(recipe):
    assert job(f"+recipe={recipe}", "algorithm.kl_coeff=0.7").algorithm.kl_coeff == 0.7


@pytest.mark.parametrize("algorithm", ["gspo", "gspo_paper"])
def test_every_algorithm_composes(algorithm):
    assert job(f"algorithm={algorithm}").algorithm.group_size == 8


def test_the_yaml_and_the_dataclass_have_the_same_defaults():
    demo = dataclasses.replace(job().algorithm, max_gen_len=512)  # the one value that the demo shortens
    assert demo == GSPOConfig()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["algorithm.group_size=7"], "trainer.batch_size is 64 and algorithm.group_size is 7"),
        (["algorithm.group_size=1"], "algorithm.group_size is 1"),
        (["algorithm.num_minibatches=3"], "algorithm.num_minibatches is 3"),
        (["trainer.micro_batch_size=5"], "trainer.micro_batch_size is 5"),
        (["trainer.steps=0"], "trainer.steps is 0"),
        (["trainer.steps=many"], "config key 'trainer.steps'"),
        (["algorithm.temperature=0"], "algorithm.temperature is 0"),
        (["trainer.learning_rate=-1"], "trainer.learning_rate is -1"),
        (["trainer.save_every=0"], "trainer.save_every is 0"),
        (["evaluation.limit=0"], "evaluation.limit is 0"),
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
