"""Help: every key of a command with the value that Hydra would give it and a meaning, and none of the heavy packages."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import rlvr_cpp.best_of_n
import rlvr_cpp.gspo
from rlvr_cpp.evaluation.config import EvaluationJob
from rlvr_cpp.runs.config import CONF
from rlvr_cpp.runs.help import default_values, help_page
from rlvr_cpp.search.config import BestOfNJob
from rlvr_cpp.training.config import TrainingJob

COMMANDS = {"gspo": TrainingJob, "grpo": TrainingJob, "evaluate": EvaluationJob, "best_of_n": BestOfNJob}
HEAVY = ("torch", "transformers", "trl", "hydra", "omegaconf")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_values_are_those_that_hydra_composes(command):
    def typed(values):  # PyYAML reads 1e-3 as a word, which the field's type makes a number
        return OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(COMMANDS[command]), values))

    with initialize_config_dir(CONF, version_base=None):
        assert typed(default_values(command)) == typed(compose(command))


@pytest.mark.parametrize(("module", "kind"), [(rlvr_cpp.gspo, TrainingJob), (rlvr_cpp.best_of_n, BestOfNJob)])
def test_every_key_stands_in_it_with_its_value(module, kind):
    name = module.__name__.rpartition(".")[2]
    lines = help_page(module.__doc__, name, kind).splitlines()
    values = default_values(name)
    for field in fields(kind):
        if is_dataclass(get_type_hints(kind)[field.name]):
            assert any(line.split(":")[0] == field.name for line in lines)
            assert {f"  {key}:" for key in values[field.name]} <= {line.split(":")[0] + ":" for line in lines}
        else:
            assert any(line.startswith(f"{field.name}: ") for line in lines)


def test_a_key_has_its_meaning_and_its_bounds():
    page = " ".join(help_page(rlvr_cpp.gspo.__doc__, "gspo", TrainingJob).split())
    assert "group_size: 8 Completions of each prompt; their mean reward is the baseline. (at least 2)" in page
    assert "algorithm: dapo, dapo_paper, dr_grpo, grpo, gspo, gspo_paper, luspo, luspo_paper" in page
    assert "scale_advantages: true Divide by the group's standard deviation" in page
    assert "targets: [all-linear]" in page
    assert "chat: {system: null, template_kwargs: {}}" in page
    assert "max_gen_len: 128" in page, "what the command's own file says counts, not the group's"


def test_a_command_shows_only_groups_that_it_takes():
    assert "benchmark:" not in help_page(rlvr_cpp.gspo.__doc__, "gspo", TrainingJob)
    assert "+recipe=" not in help_page(rlvr_cpp.best_of_n.__doc__, "best_of_n", BestOfNJob)


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_printed_without_any_heavy_package(command):
    blocked = f"import sys; sys.modules.update(dict.fromkeys({HEAVY}))"
    call = f"{blocked}; sys.argv[1:] = ['--help']; from rlvr_cpp.{command} import main; main()"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert f"python -m rlvr_cpp.{command}" in done.stdout
