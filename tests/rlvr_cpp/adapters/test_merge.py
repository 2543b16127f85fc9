"""In and out of the base without a trace, and several adapters as one."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from rlvr_cpp.adapters.artifact import load_adapter_artifact, save_adapter_artifact
from rlvr_cpp.adapters.fit import base_hash
from rlvr_cpp.adapters.merge import Merge, combine_adapters
from rlvr_cpp.adapters.metadata import Provenance
from rlvr_cpp.errors import UserError

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}  # fmt: skip
IDS = torch.arange(12).reshape(2, 6)


def with_adapters(*ranks: int, dtype=torch.float32, targets=("q_proj", "down_proj")):
    """A tiny Llama with an adapter of each rank, `a0`, `a1`, ...; the first is active."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SIZES)).to(dtype)
    configs = [LoraConfig(r=r, lora_alpha=2 * r, target_modules=list(targets), task_type="CAUSAL_LM") for r in ranks]
    model = get_peft_model(base, configs[0], adapter_name="a0")
    for i, config in enumerate(configs[1:], 1):
        model.add_adapter(f"a{i}", config)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data.normal_(0, 0.2)
    return model.eval()


def deltas(model, adapter: str) -> dict[str, torch.Tensor]:
    """Weight differences by layer, in float64."""
    layers = {
        name: module for name, module in model.named_modules() if hasattr(module, "lora_A") and adapter in module.lora_A
    }
    return {
        name: module.scaling[adapter] * (module.lora_B[adapter].weight.double() @ module.lora_A[adapter].weight.double())
        for name, module in layers.items()
    }  # fmt: skip


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_after_a_merge_every_weight_has_its_own_bits_again(dtype):
    model = with_adapters(4, dtype=dtype)
    before, said = base_hash(model), logits(model)
    merge = Merge(model)
    assert not torch.equal(logits(model), said)
    torch.testing.assert_close(logits(model), said, atol=0.05, rtol=0.05)
    merge.undo()
    assert base_hash(model) == before
    assert torch.equal(logits(model), said)
    merge.undo()
    assert base_hash(model) == before


def test_adding_and_subtracting_would_not_give_the_bits_back():
    model = with_adapters(4, dtype=torch.bfloat16)
    before = base_hash(model)
    model.merge_adapter()
    model.unmerge_adapter()
    assert base_hash(model) != before


def test_a_merge_ends_with_its_block_whatever_happens_in_it():
    model = with_adapters(4)
    before = base_hash(model)
    with pytest.raises(KeyboardInterrupt), Merge(model):
        raise KeyboardInterrupt
    assert base_hash(model) == before


def test_a_merge_that_fails_half_way_is_undone():
    model = with_adapters(4)
    before = base_hash(model)
    broken = [p for name, p in model.named_parameters() if "down_proj.lora_B" in name][-1]
    broken.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        Merge(model)
    assert base_hash(model) == before


def test_merged_is_merged_once():
    model = with_adapters(4)
    with Merge(model), pytest.raises(UserError, match="merged into the model's weights already"):
        Merge(model)


def test_an_average_is_the_mean_of_the_weight_differences():
    model = with_adapters(4, 2)
    combine_adapters(model, ["a0", "a1"], into="mean")
    first, second, mean = (deltas(model, name) for name in ("a0", "a1", "mean"))
    for name in mean:
        torch.testing.assert_close(mean[name], (first[name] + second[name]) / 2, atol=1e-6, rtol=1e-5)
    assert model.peft_config["mean"].r == 6


def ties_reference(differences: list[torch.Tensor], density: float) -> torch.Tensor:
    """arXiv 2306.01708 in float64: trim by magnitude, elect the sign with more mass, mean of those that have it."""
    trimmed = []
    for d in differences:
        smallest_kept = d.abs().flatten().topk(int(density * d.numel())).values[-1]
        trimmed.append(torch.where(d.abs() >= smallest_kept, d, 0.0))
    stacked = torch.stack(trimmed)
    elected = torch.where(stacked.sum(0) >= 0, 1.0, -1.0)
    agrees = stacked.sign() == elected
    return (stacked * agrees).sum(0) / agrees.sum(0).clamp(min=1)


def test_ties_is_the_paper_s_on_weight_differences():
    model = with_adapters(4, 4, 4)
    combine_adapters(model, ["a0", "a1", "a2"], into="ties", method="ties", density=0.3, rank=32)  # 32: nothing cut off
    sources = [deltas(model, name) for name in ("a0", "a1", "a2")]
    for name, found in deltas(model, "ties").items():
        torch.testing.assert_close(found, ties_reference([d[name] for d in sources], 0.3), atol=1e-5, rtol=1e-4)


def test_dare_keeps_the_expected_difference_and_depends_on_nothing_but_its_seed():
    model = with_adapters(4, 4, targets=("q_proj",))
    state = torch.get_rng_state()
    for seed in range(60):
        combine_adapters(model, ["a0", "a1"], into=f"dare{seed}", method="dare", density=0.5, rank=32, seed=seed)
    combine_adapters(model, ["a0", "a1"], into="again", method="dare", density=0.5, rank=32, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    (layer,) = deltas(model, "a0")
    draws = torch.stack([deltas(model, f"dare{seed}")[layer] for seed in range(60)])
    torch.testing.assert_close(deltas(model, "again")[layer], draws[7])
    mean = (deltas(model, "a0")[layer] + deltas(model, "a1")[layer]) / 2
    error = (draws.mean(0) - mean).abs() / (draws.std(0) / 60**0.5 + 1e-6)
    assert error.max() < 5  # standard errors, of 1024 entries


@pytest.mark.filterwarnings("ignore:The density 1.0 is:UserWarning")  # what this test asks for
def test_dare_that_drops_nothing_is_the_average():
    model = with_adapters(4, 4)
    combine_adapters(model, ["a0", "a1"], into="dare", method="dare", density=1.0)
    combine_adapters(model, ["a0", "a1"], into="mean")
    for name, found in deltas(model, "dare").items():
        torch.testing.assert_close(found, deltas(model, "mean")[name], atol=1e-5, rtol=1e-4)


def test_a_combination_is_saved_and_loaded_like_any_adapter(tmp_path):
    model = with_adapters(4, 4)
    combine_adapters(model, ["a0", "a1"], into="both", method="ties")
    model.set_adapter("both")
    parents = ("first", "second")
    metadata = save_adapter_artifact(model, tmp_path / "both", Provenance(training_method="gspo", base_model="tiny", parents=parents), adapter_name="both")  # fmt: skip
    assert (metadata.rank, metadata.parents) == (8, parents)
    said = logits(model)
    torch.testing.assert_close(logits(load_adapter_artifact(model.unload(), tmp_path / "both")), said)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"adapters": ["a0", "a9"]}, r"adapters are \['a0', 'a9'\]: give two or more of a0, a1"),
    ({"adapters": ["a0"]}, "give two or more"),
    ({"into": "a1"}, "into is 'a1', which the model has already"),
    ({"method": "slerp"}, "method is 'slerp': use one of average, ties, dare"),
    ({"density": 0.0}, "density is 0.0"),
    ({"density": 1.5}, "density is 1.5"),
])  # fmt: skip
def test_bad_input_is_one_sentence(arguments, words):
    given = {"adapters": ["a0", "a1"], "into": "new", **arguments}
    with pytest.raises(UserError, match=words):
        combine_adapters(with_adapters(2, 2), given.pop("adapters"), **given)
