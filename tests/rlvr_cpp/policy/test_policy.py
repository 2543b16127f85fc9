"""Models by name or folder, and text out of them."""

import json
import shutil

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, Mamba2Config, Mamba2ForCausalLM

from rlvr_cpp import UserError
from rlvr_cpp.policy.policy import (
    ATTENTION_TARGETS,
    MAMBA_TARGETS,
    MLP_TARGETS,
    SHELF,
    Policy,
    attach_adapter,
    expand_targets,
    load_policy,
    lora_config,
    pick_device,
)
from rlvr_cpp.policy.sampling import sample
from rlvr_cpp.policy.settings import AdapterSettings, PolicySettings
from rlvr_cpp.tasks.task import BUILTIN, load_tasks

CPU = PolicySettings("float32", None, "cpu", None, "auto", 1)
TASKS = [task for task in load_tasks(BUILTIN) if task.split == "held_out"][::16]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("tiny-cpp", CPU)


def write(policy, tasks=TASKS, **options) -> list[str]:
    prompts = [policy.prompt_ids(task) for task in tasks]
    ends = {"eos_ids": policy.eos_ids, "pad_id": policy.tokenizer.pad_token_id, "max_new_tokens": 48}
    return [policy.decode(ids) for ids in sample(policy.model, prompts, **ends, **{"batch_size": 4, **options})]


def test_greedy_text_does_not_depend_on_the_batch(policy):
    assert write(policy, batch_size=1) == write(policy, batch_size=6)


def test_completions_come_in_the_order_of_the_tasks(policy):
    assert write(policy)[::-1] == write(policy, TASKS[::-1])


def test_sampling_depends_on_the_seed_alone(policy):
    seeds = list(range(len(TASKS)))
    torch.manual_seed(1)
    first = write(policy, temperature=1.0, seeds=seeds)
    torch.manual_seed(2)
    assert write(policy, temperature=1.0, seeds=seeds) == first
    assert write(policy, temperature=1.0, seeds=[seed + 1 for seed in seeds]) != first


def test_the_global_random_state_is_left_alone(policy):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    write(policy, temperature=1.0, seeds=range(len(TASKS)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_models_own_penalties_do_not_count(policy, tmp_path):
    shutil.copytree(SHELF / "tiny-cpp", tmp_path / "model")
    own = {"eos_token_id": 1, "pad_token_id": 0, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(own))
    assert write(load_policy(str(tmp_path / "model"), CPU)) == write(policy)


def test_a_folder_with_a_chat_template_is_asked_in_a_chat(tmp_path):
    plain = load_policy("tiny-cpp", CPU)
    plain.model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(SHELF / "tiny-cpp")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    tokenizer.save_pretrained(tmp_path)
    chat = load_policy(str(tmp_path), CPU)
    assert chat.chat
    messages = chat.prompt(TASKS[0])
    assert not isinstance(messages, str)
    (message,) = messages
    assert TASKS[0].prompt.rstrip() in message["content"]
    assert TASKS[0].entry_point in message["content"]
    assert len(write(chat)) == len(TASKS)
    assert not load_policy(str(tmp_path), PolicySettings("float32", None, "cpu", None, "completion", 1)).chat


def test_a_model_that_is_not_there_is_told_with_the_fix():
    with pytest.raises(UserError, match=r"model './nowhere' cannot be loaded .* \(tiny-cpp, tiny-hybrid\)"):
        load_policy("./nowhere", CPU)


@pytest.mark.parametrize("name", ["tiny-cpp", "tiny-hybrid"])
def test_a_shipped_model_is_small_and_safe(name):
    files = {path.name: path.stat().st_size for path in (SHELF / name).iterdir()}
    assert files["model.safetensors"] < 2_500_000
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)


def lora(*targets: str, enabled: bool = True, start: str | None = None) -> AdapterSettings:
    return AdapterSettings(enabled, 8, 16, list(targets), start)


def test_lora_targets():
    model = torch.nn.Linear(2, 2)
    assert lora_config(lora("all-linear", enabled=False), model) is None
    assert lora_config(lora("all-linear", start="folder"), model) is None
    assert lora_config(lora("all-linear"), model).target_modules == "all-linear"
    assert lora_config(lora("q_proj"), model).target_modules == {"q_proj"}
    assert lora_config(lora("q_proj"), model).lora_dropout == 0.0


def test_what_the_policys_loss_does_not_reach_gets_no_adapter():
    from peft import get_peft_model

    layer = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(2, 2)})
    model = torch.nn.ModuleDict({"self_attn": layer, "indexer": torch.nn.ModuleDict({"q_proj": torch.nn.Linear(2, 2)})})
    config = lora_config(lora("q_proj"), torch.nn.ModuleDict({"model": model}))
    config.task_type = None
    adapted = get_peft_model(torch.nn.ModuleDict({"model": model}), config)
    assert {name.split(".")[3] for name, p in adapted.named_parameters() if p.requires_grad} == {"self_attn"}


def test_where_no_layer_is_meant_those_that_there_are_are_offered(policy):
    with pytest.raises(
        UserError, match=r"is \[mamba,W_pack\], and .* its own are down_proj, gate_proj, k_proj, lm_head, o_proj"
    ):
        lora_config(lora("mamba", "W_pack"), policy.model)
    assert lora_config(lora("mamba", "mlp"), policy.model).target_modules == {*MAMBA_TARGETS, *MLP_TARGETS}


def test_the_number_of_a_layer_is_no_target(policy):
    with pytest.raises(UserError, match=r"adapter.targets is \[1\], and the model has no such linear layer"):
        lora_config(lora("1"), policy.model)


@pytest.mark.parametrize("targets", [["all-linear"], ["mlp", "mamba"]])
def test_a_mamba_model_has_no_adapter_where_its_kernels_would_pass_it_by(targets):
    from peft import get_peft_model

    sizes = {"hidden_size": 16, "num_heads": 2, "head_dim": 16, "state_size": 4, "n_groups": 1, "num_hidden_layers": 1}
    model = Mamba2ForCausalLM(Mamba2Config(vocab_size=8, chunk_size=4, **sizes))
    adapted = get_peft_model(model, lora_config(lora(*targets), model))
    assert {
        name.split(".lora_")[0].rpartition(".")[2] for name, p in adapted.named_parameters() if p.requires_grad
    } == {"in_proj"}


def test_where_only_those_are_meant_the_others_are_offered():
    model = Mamba2ForCausalLM(Mamba2Config(vocab_size=8, hidden_size=16, num_heads=2, head_dim=16, num_hidden_layers=1))
    with pytest.raises(UserError, match=r"is \[out_proj\], and .* its own are in_proj, lm_head"):
        lora_config(lora("out_proj"), model)


def test_the_layers_of_a_gpt2_are_offered_too():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(UserError, match=r"its own are c_attn, c_fc, c_proj, lm_head"):
        lora_config(lora("mlp"), model)
    assert lora_config(lora("c_attn"), model).target_modules == {"c_attn"}


def test_a_device_without_memory_is_told():
    with pytest.raises(UserError, match=r"policy.device is 'meta', which is not here"):
        pick_device("meta")


def test_a_damaged_config_is_told(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"cannot be loaded"):
        load_policy(str(tmp_path), CPU)


def test_target_sets_are_spelled_out():
    assert expand_targets(["mlp", "mamba"]) == [*MLP_TARGETS, *MAMBA_TARGETS]
    assert expand_targets(["attention", "lm_head"]) == [*ATTENTION_TARGETS, "lm_head"]


def test_an_adapter_that_does_not_fit_is_told_with_the_fix(policy):
    with pytest.raises(UserError, match=r"adapter.start is './nowhere', which cannot be put on the model"):
        attach_adapter(policy, lora("mlp", start="./nowhere"))


def test_the_demo_has_a_name_of_its_own():
    assert load_policy("demo", CPU).model.config.letters == "AEME"


def test_a_four_bit_base_loads_on_the_cpu():
    pytest.importorskip("bitsandbytes")
    loaded = load_policy("tiny-cpp", PolicySettings("float32", "nf4", "cpu", None, "auto", 1))
    kinds = [type(module).__name__ for module in loaded.model.modules()]
    assert kinds.count("Linear4bit") == 14
    assert len(write(loaded)) == len(TASKS)


def with_adapter(policy: Policy) -> Policy:
    """An adapter that is not at its start, the same for each base of a kind."""
    from peft import get_peft_model

    policy.model = get_peft_model(policy.model, lora_config(lora("mlp", "attention", "mamba"), policy.model))
    torch.manual_seed(0)
    for parameter in policy.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return policy


def adapter_gradients(model, ids) -> dict[str, torch.Tensor]:
    model.train()
    model.zero_grad()
    model(ids, labels=ids).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ["tiny-cpp", "tiny-hybrid"])
def test_an_evaluation_does_not_change_the_gradients_over_a_four_bit_base(name):
    # a processor with AVX512-BF16 shows it: elsewhere bitsandbytes repacks nothing
    pytest.importorskip("bitsandbytes")
    loaded = with_adapter(load_policy(name, PolicySettings("bfloat16", "nf4", "cpu", None, "auto", 1)))
    ids = torch.tensor([loaded.prompt_ids(TASKS[0])])
    before = adapter_gradients(loaded.model, ids)
    loaded.model.eval()
    write(loaded)
    after = adapter_gradients(loaded.model, ids)
    assert all(before[name].any() for name in before if ".experts." not in name)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", ["tiny-cpp", "tiny-hybrid"])
def test_after_an_evaluation_gradients_over_a_four_bit_base_are_those_over_its_weights_in_float32(name):
    functional = pytest.importorskip("bitsandbytes").functional
    loaded = with_adapter(load_policy(name, PolicySettings("float32", "nf4", "cpu", None, "auto", 1)))
    exact = with_adapter(load_policy(name, CPU))
    layers = dict(exact.model.named_modules())
    with torch.no_grad():
        for place, module in loaded.model.named_modules():
            state = getattr(getattr(module, "weight", None), "quant_state", None)
            if state is not None:
                layers[place].weight.copy_(functional.dequantize_4bit(module.weight, state))
    ids = torch.tensor([loaded.prompt_ids(TASKS[0])])
    loaded.model.eval()
    write(loaded)
    found, wanted = adapter_gradients(loaded.model, ids), adapter_gradients(exact.model, ids)
    assert found.keys() == wanted.keys()
    assert all((found[key] - wanted[key]).norm() <= 1e-3 * wanted[key].norm() for key in wanted)
    assert any(wanted[key].any() for key in wanted)
