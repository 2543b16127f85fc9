"""Weights that hold their adapter for a while compute the same and come back bit for bit."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from rlvr_cpp.policy.merged import adapter_merged


def adapted(dtype):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=12, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64,
    )  # fmt: skip
    model = get_peft_model(LlamaForCausalLM(config).to(dtype), LoraConfig(r=2, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model.eval()


@torch.no_grad()
def test_the_logits_are_the_adapters():
    model, ids = adapted(torch.float32), torch.arange(8)[None]
    apart = model(ids).logits
    with model.disable_adapter():
        base = model(ids).logits
    with adapter_merged(model):
        merged = model(ids).logits
        assert all(layer.merged for layer in model.modules() if hasattr(layer, "lora_A"))
    torch.testing.assert_close(merged, apart, atol=1e-4, rtol=1e-4)
    assert (apart - base).abs().max() > 0.1


@pytest.mark.parametrize("fails", [False, True])
def test_the_weights_come_back_bit_for_bit(fails):
    model = adapted(torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    storage = {name: value.data_ptr() for name, value in model.named_parameters()}
    with pytest.raises(KeyError) if fails else adapter_merged(model), adapter_merged(model):
        if fails:
            raise KeyError
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert {name: value.data_ptr() for name, value in model.named_parameters()} == storage
    assert not any(layer.merged for layer in model.modules() if hasattr(layer, "lora_A"))


def test_weights_in_16_bits_keep_their_adapter_apart():
    model = adapted(torch.bfloat16)
    with adapter_merged(model):
        assert not any(layer.merged for layer in model.modules() if hasattr(layer, "lora_A"))
