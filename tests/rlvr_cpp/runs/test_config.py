"""The YAML files and the dataclasses that read them: each says what the other says."""

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlvr_cpp.evaluation.config import EvaluationJob
from rlvr_cpp.policy.settings import AdapterSettings, PolicySettings
from rlvr_cpp.reward.settings import RewardSettings
from rlvr_cpp.runs.config import CONF
from rlvr_cpp.search.config import BestOfNJob
from rlvr_cpp.tasks.settings import BenchmarkSettings, TaskSettings
from rlvr_cpp.training.config import (
    EvaluationSettings,
    GenerationSettings,
    GRPOConfig,
    GuardSettings,
    StepCoderConfig,
    TrainerSettings,
    TrainingJob,
)
from rlvr_cpp.verifier.settings import VerifierSettings

GROUPS: dict[str, type] = {
    "adapter": AdapterSettings,
    "algorithm": GRPOConfig,
    "benchmark": BenchmarkSettings,
    "evaluation": EvaluationSettings,
    "generation": GenerationSettings,
    "guards": GuardSettings,
    "hardware": TrainingJob,
    "policy": PolicySettings,
    "recipe": TrainingJob,
    "reward": RewardSettings,
    "stepcoder": StepCoderConfig,
    "tasks": TaskSettings,
    "trainer": TrainerSettings,
    "verifier": VerifierSettings,
}
JOBS = {"gspo": TrainingJob, "grpo": TrainingJob, "evaluate": EvaluationJob, "best_of_n": BestOfNJob}
NO_GROUPS = ("accelerate", "architecture")
"""Folders of files that accelerate and the model read, and refuse where they do not know a key."""
OPTIONS = sorted(
    path.relative_to(CONF).as_posix() for path in Path(CONF).glob("*/*.yaml") if path.parent.name not in NO_GROUPS
)
HYDRAS_OWN = {"defaults", "hydra"}


def unknown_keys(given: Any, settings: type) -> Iterator[str]:
    """Keys that no field reads."""
    types = get_type_hints(settings)
    for key, value in given.items():
        if key not in types:
            yield key
        elif is_dataclass(types[key]):
            yield from (f"{key}.{below}" for below in unknown_keys(value, types[key]))


def missing_keys(given: Any, settings: type) -> Iterator[str]:
    """Fields that have no default and that nobody gives."""
    types = get_type_hints(settings)
    for field in fields(settings):
        if is_dataclass(types[field.name]):
            yield from (f"{field.name}.{below}" for below in missing_keys(given[field.name], types[field.name]))
        elif field.name not in given and field.default is MISSING and field.default_factory is MISSING:
            yield field.name


def test_every_group_and_every_command_has_its_dataclass():
    assert {Path(option).parent.name for option in OPTIONS} == set(GROUPS)
    assert {path.stem for path in Path(CONF).glob("*.yaml")} == {*JOBS, "base"}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_key_of_a_group_is_read(option):
    given = {key: value for key, value in OmegaConf.load(f"{CONF}/{option}").items() if key not in HYDRAS_OWN}
    is_global = Path(CONF, option).read_text().startswith("# @package _global_")
    assert list(unknown_keys(given, TrainingJob if is_global else GROUPS[Path(option).parent.name])) == []


@pytest.mark.parametrize("command", JOBS)
def test_a_command_is_given_every_field_and_nothing_else(command):
    with initialize_config_dir(CONF, version_base=None):
        given = compose(command)
    assert list(unknown_keys(given, JOBS[command])) == []
    assert list(missing_keys(given, JOBS[command])) == []


def test_a_misspelt_and_a_forgotten_key_are_seen():
    assert list(unknown_keys({"policy": {"dtpye": "float32"}}, TrainingJob)) == ["policy.dtpye"]
    assert "limit" in list(missing_keys({}, BenchmarkSettings))
