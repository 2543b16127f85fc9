"""The arithmetic of memory against the bytes of real, small models."""

import dataclasses

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from rlvr_cpp.policy.memory import Load, Shards, estimate_memory
from rlvr_cpp.policy.policy import lora_config
from rlvr_cpp.policy.settings import AdapterSettings, PolicySettings

ROWS, TOKENS = 4, 96
LOAD = Load(tokens=TOKENS, sampled=ROWS, trained=ROWS, checkpointing=False, reference=False)
LORA = AdapterSettings(True, 8, 16, ["attention", "mlp"], None)
ALL = AdapterSettings(False, 8, 16, [], None)


def policy(dtype="float32", quantization=None):
    return PolicySettings(dtype, quantization, "cpu", None, "auto", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama with grouped queries and a head of its own."""
    place = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=512, hidden_size=128, intermediate_size=448, num_hidden_layers=3, num_attention_heads=8,
        num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place)
    return str(place)


def loaded(folder, adapter=LORA, dtype="float32"):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    config = lora_config(adapter, model)
    return (model if config is None else get_peft_model(model, config)).train()


def size(tensors):
    return sum(tensor.nbytes for tensor in tensors)


def inner(model):
    return (model.get_base_model() if hasattr(model, "peft_config") else model).model


IDS = torch.arange(ROWS * TOKENS).reshape(ROWS, TOKENS) % 512


def kept_for_backward(model, dtype="float32"):
    """The bytes of what a forward pass keeps, but for the weights; and what it gave."""
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    found: dict[int, torch.Tensor] = {}
    held = []

    def pack(tensor):
        held.append(tensor)
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    sixteen = dtype != "float32"
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=sixteen),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
    ):
        output = inner(model)(input_ids=IDS).last_hidden_state
    return sum(t.untyped_storage().nbytes() for place, t in found.items() if place not in own), output


@pytest.mark.parametrize("adapter", [LORA, ALL])
def test_what_is_kept_from_step_to_step_is_counted_to_the_byte(folder, adapter):
    model = loaded(folder, adapter)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    inner(model)(input_ids=IDS).last_hidden_state.sum().backward()
    for parameter in trained:  # the head's is not in this pass
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    memory = estimate_memory(folder, policy(), adapter, LOAD)
    assert memory.base == size(p for p in model.parameters() if not p.requires_grad)
    assert memory.trained == size(trained)
    assert memory.gradients == size(p.grad for p in trained)
    assert memory.optimizer == size(moments)


def test_the_cache_is_counted_to_the_byte(folder):
    model = loaded(folder)
    with torch.no_grad():
        cache = inner(model)(input_ids=IDS, use_cache=True).past_key_values
    held = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    assert estimate_memory(folder, policy(), LORA, LOAD).cache == size(held)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_told_within_15_per_cent(folder, dtype, checkpointing):
    model = loaded(folder, dtype=dtype)
    whole, _ = kept_for_backward(model, dtype)
    if checkpointing:
        model.enable_input_require_grads()
        model.activation_checkpointing_enable()
        kept, _ = kept_for_backward(model, dtype)
        whole = kept + whole / 3  # one of its layers is computed anew
    load = dataclasses.replace(LOAD, checkpointing=checkpointing)
    assert estimate_memory(folder, policy(dtype), LORA, load).activations == pytest.approx(whole, rel=0.15)


def test_a_base_in_4_bits_is_told_within_a_fiftieth(folder):
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32)
    states = [p.quant_state for p in model.parameters() if hasattr(p, "quant_state") and p.quant_state is not None]
    assert len(states) == 7 * 3
    scales = [t for s in states for t in (s.absmax, s.state2.absmax, s.offset)]
    held = size(model.parameters()) + size(scales)
    assert estimate_memory(folder, policy(quantization="nf4"), LORA, LOAD).base == pytest.approx(held, rel=0.02)


def test_a_reference_of_its_own_is_one_more_base(folder):
    with_one = dataclasses.replace(LOAD, reference=True)
    base = estimate_memory(folder, policy(), LORA, LOAD).base
    assert estimate_memory(folder, policy(), LORA, with_one).base == base  # the base without its adapter
    assert estimate_memory(folder, policy(), ALL, with_one).base == base
    started = dataclasses.replace(LORA, start="somewhere")
    again = estimate_memory(folder, policy(), started, with_one)
    assert again.base == base + again.trained  # the adapter that training started from


def test_zero_3_has_the_rest_of_the_weights_while_it_samples(folder):
    alone = estimate_memory(folder, policy(), LORA, LOAD)
    shared = estimate_memory(folder, policy(), LORA, LOAD, Shards(4, 4, 4, gathered=True))
    assert shared.base + shared.gathered == alone.base
    assert shared.sampling < alone.sampling
