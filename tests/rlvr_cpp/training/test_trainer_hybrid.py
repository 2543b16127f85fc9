"""The hybrid model with everything on is trained as any other: sampled, scored, adapted, updated."""

from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from rlvr_cpp.policy.policy import SHELF, load_policy
from rlvr_cpp.policy.sampling import completion_seed, sample
from rlvr_cpp.policy.settings import AdapterSettings
from rlvr_cpp.training.config import GRPOConfig, GSPOConfig
from rlvr_cpp.training.trainer import GRPOTrainer, GSPOTrainer
from rlvr_model import HybridForCausalLM
from rlvr_model.presets import load_preset
from tests.rlvr_cpp.training.decided import CPU, NF4, DecidedVerifier, build

TARGETS = AdapterSettings(True, 4, 8, ["mlp", "mamba"], None)
SHAPE: dict[str, Any] = {"group_size": 4, "max_gen_len": 8, "kl_coeff": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that nobody has trained, with the demo's tokenizer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hybrid")
    tokenizer = AutoTokenizer.from_pretrained(SHELF / "tiny-cpp")
    model = HybridForCausalLM(
        load_preset("everything_tiny", pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:quantization_config and experts_layout:UserWarning")  # true, and no matter here
@pytest.mark.parametrize("settings", [CPU, NF4], ids=["float32", "nf4"])
@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [(GSPOTrainer, GSPOConfig(**SHAPE)), (GRPOTrainer, GRPOConfig(**SHAPE))],
    ids=["gspo", "grpo"],
)
def test_two_steps_move_every_adapter_and_nothing_else(folder, tasks, tmp_path, settings, kind, algorithm):
    seen = []
    parts = build(
        tasks, DecidedVerifier("ok", "wrong"), tmp_path / "run", algorithm,
        policy=load_policy(str(folder), settings), kind=kind, adapter=TARGETS, steps=2,
    )  # fmt: skip
    parts.on_step = lambda step, metrics: seen.append({"step": step, **metrics})
    before = {name: value.detach().clone() for name, value in parts.model.named_parameters()}
    parts.train()
    moved = {name for name, value in parts.model.named_parameters() if not torch.equal(value, before[name])}
    assert [row["step"] for row in seen] == [1, 2]
    assert seen[0]["start_ratio_error"] < 1e-4
    assert seen[1]["kl"] > 0
    assert moved == {name for name in before if "lora_" in name and ".default." in name}
    assert any("in_proj" in name for name in moved)


def test_rows_that_are_left_behind_change_no_other(folder):
    model = load_policy(str(folder), CPU).model.eval()
    prompts = [[3 + n, 40, 50 + n] for n in range(24)]
    options: dict[str, Any] = {"max_new_tokens": 24, "eos_ids": range(100), "pad_id": 0, "temperature": 1.0}
    seeds = [completion_seed("hybrid", n) for n in range(24)]
    with torch.no_grad():
        together = sample(model, prompts, seeds=seeds, **options)
        alone = [sample(model, [one], seeds=[seed], **options)[0] for one, seed in zip(prompts, seeds, strict=True)]
    assert len({len(one) for one in together}) > 3
    assert together == alone
