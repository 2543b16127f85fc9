"""The model as a citizen: Auto classes, generate, files, peft, bitsandbytes and trl use it as they use any other."""

import pytest
import torch
from accelerate.utils import send_to_device
from peft import get_peft_model
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, BitsAndBytesConfig, DynamicCache
from trl.trainer.utils import add_fused_lm_head

from rlvr_cpp.policy.policy import MAMBA_TARGETS, MLP_TARGETS, lora_config
from rlvr_cpp.policy.settings import AdapterSettings
from rlvr_model import HybridConfig, HybridForCausalLM, HybridModel, unstack_experts
from rlvr_model.engram import fold_tokens
from rlvr_model.presets import load_preset

BATCH, LENGTH, PAD = 2, 20, 2


def build(name="everything_tiny", **changes):
    torch.manual_seed(0)
    model = HybridForCausalLM(load_preset(name, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture
def ids():
    return torch.randint(3, 512, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return folder


def padded(ids):
    left = torch.cat([torch.full((BATCH, 5), PAD), ids], dim=1)
    return left, (torch.arange(left.shape[1]) >= 5).expand_as(left).long()


def test_greedy_decoding_needs_neither_cache_nor_full_rows(model, ids):
    arguments = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None, "pad_token_id": PAD}
    cached = model.generate(ids, **arguments)
    assert torch.equal(model.generate(ids, use_cache=False, **arguments), cached)
    left, mask = padded(ids)
    assert torch.equal(model.generate(left, attention_mask=mask, **arguments)[:, 5:], cached)


def test_beams_find_what_beams_without_a_cache_find(model, ids):
    arguments = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": PAD}
    assert torch.equal(model.generate(ids, **arguments), model.generate(ids, use_cache=False, **arguments))


def test_samples_are_drawn_from_the_model_s_own_distribution(model, ids):
    arguments = {"max_new_tokens": 6, "do_sample": True, "eos_token_id": None, "pad_token_id": PAD, "top_k": 0}
    torch.manual_seed(3)
    drawn = model.generate(ids, return_dict_in_generate=True, output_logits=True, **arguments)
    full = model(drawn.sequences).logits[:, LENGTH - 1 : -1]
    torch.testing.assert_close(torch.stack(drawn.logits, dim=1), full, rtol=0, atol=1e-4)
    torch.manual_seed(3)
    assert torch.equal(model.generate(ids, **arguments), drawn.sequences)


def test_the_auto_classes_bring_a_saved_model_back(model, saved, ids):
    again = AutoModelForCausalLM.from_pretrained(saved).eval()
    assert isinstance(again, HybridForCausalLM)
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert isinstance(AutoConfig.from_pretrained(saved), HybridConfig)
    base = AutoModel.from_pretrained(saved).eval()
    assert isinstance(base, HybridModel)
    assert torch.equal(base(ids).last_hidden_state, model.model(ids).last_hidden_state)


def test_in_bfloat16_what_needs_float32_stays_in_it(saved, ids):
    half = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.bfloat16).eval()
    kinds = {name: parameter.dtype for name, parameter in [*half.named_parameters(), *half.named_buffers()]}
    wide = {name for name, dtype in kinds.items() if dtype == torch.float32}
    assert kinds["model.embed_tokens.weight"] == torch.bfloat16
    for kind in ("e_score_correction_bias", "dt_bias", "A_log", "connections", "inv_freq"):
        matching = {name for name in kinds if kind in name}
        assert matching
        assert matching <= wide
    assert half(ids).logits.isfinite().all()


def test_hidden_states_are_told_one_per_block(ids):
    model = build("nam56r_tiny")
    states = model(ids, output_hidden_states=True).hidden_states
    assert len(states) == 13
    assert torch.equal(states[-1], model.model(ids).last_hidden_state)


def adapted(model, *targets):
    """The model with a fresh adapter as the trainers make it, and the names of what is trained."""
    settings = AdapterSettings(enabled=True, rank=4, alpha=8, targets=list(targets), start=None)
    adapter = get_peft_model(model, lora_config(settings, model))
    return adapter, {name for name, parameter in adapter.named_parameters() if parameter.requires_grad}


def test_an_adapter_on_the_named_layers_begins_as_the_model_and_merges_into_it(ids):
    model = build()
    before = model(ids).logits.detach()
    adapter, trained = adapted(model, "mlp", "mamba")
    torch.testing.assert_close(adapter(ids).logits, before, rtol=0, atol=0)
    assert {name.split(".")[-4] for name in trained} == {*MLP_TARGETS, *MAMBA_TARGETS}
    adapter.train()(ids, labels=ids).loss.backward()
    assert all(p.grad is not None for name, p in adapter.named_parameters() if name in trained)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    expected = adapter.eval()(ids).logits.detach()
    merged = adapter.merge_and_unload()
    torch.testing.assert_close(merged(ids).logits, expected, rtol=0, atol=1e-4)


def test_an_adapter_on_attention_leaves_the_indexer_and_the_router_alone():
    _, trained = adapted(build(), "attention", "mlp", "mamba")
    assert trained
    assert not [name for name in trained if any(part in name for part in ("indexer", "mtp", "engram", ".gate."))]


def test_experts_as_linear_layers_take_an_adapter_each():
    _, trained = adapted(build("specialist_tiny", experts_layout="linear"), "all-linear")
    assert sum("experts.3.up_proj.lora_A" in name for name in trained) == 5


def test_a_larger_vocabulary_leaves_the_function_alone(ids, tmp_path):
    model = build(engram_lowercase=True)
    fold_tokens(model, [f"Tok{n}" if n % 2 else f"tok{n + 1}" for n in range(512)])
    before = model(ids, use_cache=False).logits
    model.resize_token_embeddings(520)
    for use_cache in (False, True):
        torch.testing.assert_close(model(ids, use_cache=use_cache).logits[..., :512], before, rtol=0, atol=1e-6)
    assert model(torch.full((1, 4), 519)).logits.shape == (1, 4, 520)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=0, atol=1e-6)


def test_generation_knows_the_domain_of_each_row(ids):
    model = build(engram_domains=3)
    arguments = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "output_logits": True}
    same = ids[:1].expand(2, -1)
    told = model.generate(same, domain_ids=torch.tensor([0, 2]), return_dict_in_generate=True, **arguments)
    full = model(told.sequences, domain_ids=torch.tensor([0, 2])).logits[:, LENGTH - 1 : -1]
    torch.testing.assert_close(torch.stack(told.logits, dim=1), full, rtol=0, atol=1e-4)
    assert not torch.equal(told.logits[0][0], told.logits[0][1])


def test_a_static_cache_is_refused_and_a_cache_without_a_config_gets_one(model, ids):
    with pytest.raises(ValueError, match="a static cache and this model clash"):
        model.generate(ids, max_new_tokens=2, cache_implementation="static")
    cache = DynamicCache()
    parts = [model(part, cache=cache).logits for part in ids.split(7, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids).logits, rtol=0, atol=1e-4)


def test_the_call_follows_a_layer_to_its_device(model, ids):
    mask = (torch.arange(LENGTH) >= 3).expand_as(ids).long()
    context = model.model.context(model.model.embed_tokens(ids), mask, None, None, None)
    moved = send_to_device(context, "meta")
    assert {moved.cos.device.type, moved.key_mask.device.type, moved.masks["sliding"].device.type} == {"meta"}
    assert moved.attention_mask.device.type == "meta"
    assert moved.losses is context.losses
    assert send_to_device(context, "cpu") is context


def test_an_adapter_on_the_head_is_in_every_loss(ids):
    model = build("dense_d16_tiny", tie_word_embeddings=False)
    adapter, trained = adapted(model, "lm_head")
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if name in trained:
                parameter.normal_()
    plain, streamed = adapter(ids, labels=ids).loss, adapter(ids, labels=ids, skip_logits=True).loss
    torch.testing.assert_close(streamed, plain)
    torch.testing.assert_close(
        adapter(ids, labels=ids, skip_logits=True, num_items_in_batch=7).loss,
        adapter(ids, labels=ids, num_items_in_batch=7).loss,
    )


def test_reentrant_checkpoints_are_refused():
    with pytest.raises(ValueError, match="use_reentrant=True and this model clash"):
        build("specialist_tiny").activation_checkpointing_enable({"use_reentrant": True})


def test_a_refused_attention_implementation_is_not_set():
    model = build()
    before = model.config._attn_implementation
    with pytest.raises(ValueError, match="dsa_enabled and attn_implementation='flex_attention' clash"):
        model.set_attn_implementation("flex_attention")
    assert model.config._attn_implementation == before


def test_a_model_made_of_nothing_gets_its_memory_with_the_rest():
    with torch.device("meta"):
        model = HybridForCausalLM(load_preset("everything_tiny", engram_offload=True))
    model.to_empty(device="cpu")
    assert not [name for name, parameter in model.named_parameters() if parameter.is_meta]


def test_stacked_experts_become_linear_layers_of_the_same_function(ids, tmp_path):
    model = build("specialist_tiny")
    before = model(ids).logits.detach()
    model.model.requires_grad_(False)
    unstack_experts(model)
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert again.config.experts_layout == "linear"
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert not [name for name, _ in again.named_parameters() if "gate_up_proj" in name]


def test_four_bits_take_the_linear_layers_and_leave_the_delicate_ones(saved, model, ids):
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        bnb_4bit_use_double_quant=True,
    )
    with pytest.warns(UserWarning, match="quantization_config and experts_layout='stacked' clash"):
        small = AutoModelForCausalLM.from_pretrained(saved, quantization_config=settings, device_map={"": "cpu"}).eval()
    packed = {name for name, parameter in small.named_parameters() if type(parameter).__name__ == "Params4bit"}
    assert {name.split(".")[-2] for name in packed} >= {"q_proj", "in_proj", "out_proj", "gate_proj", "down_proj"}
    assert not [name for name in packed if any(part in name for part in ("indexer", "engram", ".gate.", "lm_head"))]
    error = (small(ids).logits - model(ids).logits).norm() / model(ids).logits.norm()
    assert 0 < error < 0.5
    adapter, trained = adapted(small, "mlp", "mamba")
    base = small(ids).logits.detach()
    torch.testing.assert_close(adapter(ids).logits, base, rtol=0, atol=0)
    adapter.train()(ids, labels=ids).loss.backward()
    assert {name for name, p in adapter.named_parameters() if p.grad is not None} == trained
    assert adapter.generate(input_ids=ids, max_new_tokens=2, do_sample=False).shape[0] == BATCH


def test_the_log_probabilities_of_trl_are_those_of_the_logits(saved, model, ids):
    with torch.no_grad():
        fused = AutoModelForCausalLM.from_pretrained(saved).eval()
        for head in (model, fused):
            head.lm_head.weight.mul_(20)  # logits at which the cap bites
        own = model(ids).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        assert own.abs().max() > 20
        add_fused_lm_head(fused, outputs=("log_probs", "entropy"))
        theirs = fused(ids, labels=ids, fused_lm_head=True).log_probs
        for head in (model, fused):
            head.lm_head.weight.div_(20)
    torch.testing.assert_close(theirs, own, rtol=0, atol=1e-5)
