"""What the command may be told, and every refusal before anything is loaded."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from rlvr_cpp import UserError
from rlvr_cpp.evaluation.config import load
from rlvr_cpp.runs.config import CONF


def job(*overrides):
    with initialize_config_dir(CONF, version_base=None):
        return load(compose("evaluate", overrides=list(overrides)))


def test_the_values_that_are_shipped_are_sound():
    for name in ("tasks", "humaneval_cpp", "mbpp_cpp"):
        assert job(f"benchmark={name}").benchmark.name == name


def test_replayed_solutions_are_not_sampled():
    assert [job(f"model={name}").sampled for name in ("canonical", "negated", "demo")] == [0, 0, 10]


REFUSED: dict[str, Any] = {
    "k above n": (["samples=4"], "k is 5 and samples is 4", "k is 10 and samples is 4", "use samples=10"),
    "k of nothing": (["k=[0]"], "k is 0 and samples is 10"),
    "no k": (["k=[]"], "k is [] with samples 10"),
    "nothing to measure": (["greedy=false", "samples=0"], "there is nothing to measure"),
    "no temperature": (["temperature=0"], "temperature is 0.0: sampling needs a positive number"),
    "negative": (["samples=-1", "batch_size=0"], "samples is -1: it must be at least 0", "batch_size is 0"),
    "benchmark": (["benchmark.name=mmlu"], "benchmark.name is 'mmlu': it must be one of humaneval_cpp"),
    "part": (["benchmark.part=test"], "benchmark.part is 'test'"),
    "tests": (["benchmark.tests=all"], "benchmark.tests is 'all'"),
    "no source": (["benchmark=mbpp_cpp", "benchmark.source=null"], "the problems of mbpp_cpp are not shipped"),
    "format": (["policy.prompt_format=base"], "policy.prompt_format is 'base': it must be one of auto"),
    "adapter of none": (["model=canonical", "adapter_from=x"], "adapter_from is 'x' with model 'canonical'"),
    "endpoint of none": (["model=negated", "endpoint=http://x/v1"], "endpoint is 'http://x/v1' with model 'negated'"),
    "no URL": (["endpoint=x", "policy.prompt_format=chat"], "endpoint is 'x': it must be a URL"),
    "adapter there": (["endpoint=http://x", "adapter_from=y", "policy.prompt_format=chat"], "adapter_from is 'y' with an endpoint"),
    "format there": (["endpoint=http://x"], "policy.prompt_format is 'auto' with an endpoint"),
    "type": (["samples=many"], "config key 'samples'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_all_at_once(case):
    overrides, *words = REFUSED[case]
    with pytest.raises(UserError) as caught:
        job(*overrides)
    for text in words:
        assert text in str(caught.value)


def test_greedy_alone_needs_no_k():
    assert job("samples=0").sampled == 0
