"""Our words in trl's, and what trl's private methods must look like for ours to stand in their place."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch
import trl

from rlvr_cpp import UserError
from rlvr_cpp.training.checks import ALLOWED, INSTEAD
from rlvr_cpp.training.config import GenerationSettings, GRPOConfig, GSPOConfig
from rlvr_cpp.training.trainer import GRPOTrainer, GSPOTrainer
from rlvr_cpp.training.trl_arguments import _engine, pass_sizes, to_trl
from tests.rlvr_cpp.training.decided import SMALL, settings


def arguments(algorithm=SMALL, *, engine="transformers", url=None, seed=0, processes=1, **changes) -> trl.GRPOConfig:
    return to_trl(
        algorithm, settings(**changes), GenerationSettings(engine, None, 0.3, url),
        dtype=torch.float32, device=torch.device("cpu"), seed=seed, out=Path("run"), eos_ids=[1, 7],
        processes=processes,
    )  # fmt: skip


CALLED = {"_generate_and_score_completions", "_load_from_checkpoint"}


def test_the_methods_of_trl_that_ours_extend_or_call_are_as_we_know_them():
    ours = {name for name, value in vars(GRPOTrainer).items() if inspect.isfunction(value)} - {"__init__"}
    known = {name for name in ours | CALLED if hasattr(trl.GRPOTrainer, name)}
    parameters = {name: list(inspect.signature(getattr(trl.GRPOTrainer, name)).parameters)[1:] for name in known}
    assert parameters == {
        "_tokenize_prompts": ["prompts"],
        "_generate_single_turn": ["prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"],
        "_generate_and_score_completions": ["inputs"],
        "_get_train_sampler": ["dataset"],
        "_prepare_inputs": ["generation_batch"],
        "_get_per_token_logps_and_entropies": [
            "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy",
            "compute_aux_loss", "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask",
            "spatial_shapes", "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
        ],
        "_compute_loss": ["model", "inputs"],
        "training_step": ["model", "inputs", "num_items_in_batch"],
        "log": ["logs", "start_time"],
        "_save_checkpoint": ["model", "trial"],
        "_get_output_dir": ["trial"],
        "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
        "create_optimizer": ["model"],
        "_load_optimizer_and_scheduler": ["checkpoint"],
        "_prepare_for_training": ["max_steps", "train_dataloader", "resume_from_checkpoint"],
        "train": ["resume_from_checkpoint", "trial", "ignore_keys_for_eval"],
        "create_model_card": ["model_name", "dataset_name", "tags"],
    }  # fmt: skip


@pytest.mark.parametrize(("most", "sizes"), [(None, (24, 1)), (24, (24, 1)), (16, (12, 2)), (5, (4, 6)), (1, (1, 24))])
def test_a_mini_batch_is_cut_into_even_passes_of_at_most_so_many(most, sizes):
    algorithm = GSPOConfig(group_size=4, num_minibatches=2)
    assert pass_sizes(algorithm, settings(batch_size=48, micro_batch_size=most), 1) == sizes


def test_our_words_reach_trl():
    algorithm = GSPOConfig(
        group_size=4, kl_coeff=0.05, clip_eps=0.1, clip_eps_high=0.3, num_minibatches=4, temperature=0.7
    )
    args = arguments(algorithm, seed=5, batch_size=64, micro_batch_size=8, trl={"adam_beta2": 0.95})
    assert (args.beta, args.epsilon, args.epsilon_high, args.num_generations) == (0.05, 0.1, 0.3, 4)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps, args.steps_per_generation) == (8, 2, 8)
    assert args.generation_batch_size == 64
    assert (args.importance_sampling_level, args.loss_type) == ("sequence", "grpo")
    assert (args.temperature, args.adam_beta2, args.seed) == (0.7, 0.95, 5)


def test_processes_share_a_batch_or_are_told_that_they_cannot():
    assert arguments(processes=2, batch_size=16).per_device_train_batch_size == 4
    with pytest.raises(UserError, match="16, which 3 processes cannot share"):
        arguments(processes=3, batch_size=16)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("continuous_batching", {"use_transformers_continuous_batching": True}),
        ("vllm", {"use_vllm": True, "vllm_mode": "colocate", "generation_kwargs": {"stop_token_ids": [1, 7]}}),
        (
            "vllm_server",
            {
                "use_vllm": True,
                "vllm_mode": "server",
                "vllm_server_base_url": "http://x",
                "generation_kwargs": {"stop_token_ids": [1, 7]},
            },
        ),
    ],
)
def test_engines_reach_trl(engine, expected):
    args = arguments(engine=engine, url="http://x")
    assert {name: getattr(args, name) for name in expected} == expected


def test_the_trainers_differ_in_their_ratio():
    assert (GRPOTrainer.default_algorithm().ratio, GSPOTrainer.default_algorithm().ratio) == ("token", "sequence")
    assert GRPOConfig().ratio == "token"


def test_what_a_job_may_set_or_is_told_an_alternative_to_are_arguments_of_trl():
    known = {field.name for field in dataclasses.fields(trl.GRPOConfig)}
    assert ALLOWED | INSTEAD.keys() <= known
    assert not ALLOWED & INSTEAD.keys()


def test_nothing_that_our_words_decide_may_be_set_beside_them():
    decided = set(inspect.getsource(to_trl).split('"')) | set(inspect.getsource(_engine).split('"'))
    assert ALLOWED & decided <= {"project", "ddp_find_unused_parameters", "weight_decay"}
