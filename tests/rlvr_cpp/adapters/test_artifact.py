"""An adapter loads where it belongs, to the bit, and nowhere else."""

import dataclasses
import json
import pickle

import pytest
import safetensors.torch
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM as Auto
from transformers import BitsAndBytesConfig, GPT2Config, LlamaConfig, LlamaForCausalLM

from rlvr_cpp.adapters import artifact as adapter_artifact
from rlvr_cpp.adapters.artifact import load_adapter_artifact, put_on, save_adapter_artifact
from rlvr_cpp.adapters.fit import base_hash
from rlvr_cpp.adapters.metadata import (
    CONFIG_FILE,
    METADATA_FILE,
    WEIGHTS_FILE,
    AdapterMetadata,
    Provenance,
    read_metadata,
)
from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.weights import weights_hash

IDS = torch.arange(12).reshape(2, 6)
GSPO = Provenance(
    training_method="gspo", base_model="tiny", config={"seed": 3}, contract={"compiler_version": "g++ 12"}
)


def tiny(seed: int = 0, dtype=torch.float32, **sizes) -> LlamaForCausalLM:
    """A Llama of a few thousand weights."""
    torch.manual_seed(seed)
    known = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**known, **sizes})).to(dtype).eval()


def adapted(base, seed: int = 1, rank: int = 4, targets=("q_proj", "gate_proj")) -> PeftModel:
    """With an adapter that changes something: both of its matrices are drawn."""
    torch.manual_seed(seed)
    model = get_peft_model(
        base, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data.normal_(0, 0.2)
    return model.eval()


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS).logits


@pytest.fixture
def artifact(tmp_path):
    """Of one adapter on `tiny()`."""
    folder = tmp_path / "artifact"
    save_adapter_artifact(adapted(tiny()), folder, GSPO)
    return folder


def rewritten(folder, **fields) -> None:
    """The metadata with other fields and the id that goes with them."""
    metadata = dataclasses.replace(read_metadata(folder), **fields)
    (folder / METADATA_FILE).write_text(metadata.to_json())


def test_what_is_loaded_is_what_was_saved_to_the_bit(artifact):
    assert torch.equal(logits(load_adapter_artifact(tiny(), artifact)), logits(adapted(tiny())))


def test_an_adapter_that_does_nothing_would_be_seen(artifact):
    assert not torch.equal(logits(load_adapter_artifact(tiny(), artifact)), logits(tiny()))


def test_the_metadata_says_where_it_belongs_and_how_it_came_about(artifact):
    metadata = read_metadata(artifact)
    assert metadata.base_hash == weights_hash(tiny().named_parameters())
    assert (metadata.base_model, metadata.base_dtype) == ("tiny", "float32")
    assert (metadata.targets, metadata.rank, metadata.alpha) == (("gate_proj", "q_proj"), 4, 8)
    assert (metadata.training_method, metadata.config, metadata.quantization) == ("gspo", {"seed": 3}, None)
    fields = json.loads((artifact / METADATA_FILE).read_text())
    assert (fields["adapter_meta_schema_version"], fields["adapter_artifact_schema_version"]) == (2, 1)


def test_the_folder_holds_three_files_and_no_pickle(artifact):
    assert sorted(path.name for path in artifact.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE, METADATA_FILE]


def test_peft_reads_it_as_any_adapter(artifact):
    assert torch.equal(logits(PeftModel.from_pretrained(tiny(), artifact)), logits(adapted(tiny())))


def test_the_same_adapter_gives_the_same_bytes(artifact, tmp_path):
    save_adapter_artifact(adapted(tiny(), targets=("gate_proj", "q_proj")), tmp_path / "again", GSPO)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (artifact / name).read_bytes()


def test_it_loads_frozen_or_trainable(artifact):
    assert not any(p.requires_grad for p in load_adapter_artifact(tiny(), artifact).parameters())
    model = load_adapter_artifact(tiny(), artifact, trainable=True)
    assert {".lora_" in name for name, p in model.named_parameters() if p.requires_grad} == {True}


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_file_with_one_other_byte_is_refused(artifact, name):
    content = bytearray((artifact / name).read_bytes())
    content[-2] ^= 1
    (artifact / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} changed after the artifact was made"):
        load_adapter_artifact(tiny(), artifact)


def test_edited_metadata_is_refused(artifact):
    path = artifact / METADATA_FILE
    path.write_text(path.read_text().replace('"training_method": "gspo"', '"training_method": "sft"'))
    with pytest.raises(UserError, match="was changed after it was written"):
        load_adapter_artifact(tiny(), artifact)


def test_a_file_that_is_exchanged_between_check_and_use_is_noticed(artifact, monkeypatch):
    def then_exchange(folder):
        metadata = read_metadata(folder)
        (folder / WEIGHTS_FILE).write_bytes(b"something else")
        return metadata

    monkeypatch.setattr(adapter_artifact, "read_metadata", then_exchange)
    with pytest.raises(UserError, match="changed while the adapter was loaded"):
        load_adapter_artifact(tiny(), artifact)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was opened')",))


def test_a_pickle_is_never_opened(artifact):
    (artifact / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
    load_adapter_artifact(tiny(), artifact)
    (artifact / WEIGHTS_FILE).unlink()
    with pytest.raises(UserError, match=f"{WEIGHTS_FILE} missing, and nothing else is read as weights"):
        load_adapter_artifact(tiny(), artifact)


def test_another_base_of_the_same_shapes_is_refused_by_its_hash(artifact):
    other = tiny()
    other.model.norm.weight.data[0] += 1e-7
    with pytest.raises(UserError, match=r"base_hash is \w{12} in the model and \w{12} in the metadata: load the base"):
        load_adapter_artifact(other, artifact)


def test_another_dtype_is_another_base(artifact):
    with pytest.raises(UserError, match="base_dtype is bfloat16 in the model and float32 in the metadata"):
        load_adapter_artifact(tiny(dtype=torch.bfloat16), artifact)


def test_all_fields_that_differ_are_named(artifact):
    gpt = Auto.from_config(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=64)).bfloat16()
    with pytest.raises(UserError) as refusal:
        load_adapter_artifact(gpt, artifact)
    for field in ("base_hash", "base_dtype", "targets are not all there: the model has no gate_proj, q_proj"):
        assert field in str(refusal.value)


@pytest.mark.parametrize(("field", "value", "words"), [
    ("rank", 8, "rank is 4 in the weights and 8 in the metadata; rank is 4 in adapter_config.json and 8"),
    ("alpha", 4, "alpha is 8 in adapter_config.json and 4 in the metadata"),
    ("targets", ("q_proj",), "targets is gate_proj, q_proj in the weights and q_proj in the metadata"),
    ("quantization", {"kind": "nf4", "double_quant": True, "compute_dtype": "bfloat16"}, "quantization is None in the model and {'kind': 'nf4'"),
])  # fmt: skip
def test_metadata_that_says_something_else_than_the_files_is_refused(artifact, field, value, words):
    rewritten(artifact, use_qlora=field == "quantization", **{field: value})
    with pytest.raises(UserError) as refusal:
        load_adapter_artifact(tiny(), artifact)
    assert words in str(refusal.value)


@pytest.mark.parametrize(("fields", "words"), [
    ({"use_qlora": True}, "quantization is missing although the adapter was trained on a quantized base"),
    ({"config": {"policy": {"quantization": "nf4"}}}, "quantization is missing although"),
    ({"training_method": "dpo"}, "training_method is 'dpo', not one of gspo, grpo, sft, dcd"),
    ({"adapter_meta_schema_version": 3}, "adapter_meta_schema_version is 3, and this version reads 2"),
])  # fmt: skip
def test_the_gate_is_closed_where_something_is_not_said(artifact, fields, words):
    rewritten(artifact, **fields)
    with pytest.raises(UserError) as refusal:
        read_metadata(artifact)
    assert words in str(refusal.value)


def test_what_the_gate_would_refuse_is_not_even_written(tmp_path):
    config = {"policy": {"quantization": "nf4"}}
    with pytest.raises(UserError, match="cannot be saved: quantization is missing"):
        save_adapter_artifact(
            adapted(tiny()), tmp_path / "artifact", Provenance(training_method="gspo", base_model="tiny", config=config)
        )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def four_bit(tmp_path_factory):
    """Loads the same base in NF4, with the settings of a job or others."""
    pytest.importorskip("bitsandbytes")
    folder = tmp_path_factory.mktemp("base")
    tiny(hidden_size=64).save_pretrained(folder)

    def load(**settings):
        known = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.float32}  # fmt: skip
        return Auto.from_pretrained(folder, quantization_config=BitsAndBytesConfig(**{**known, **settings})).eval()

    return load


def test_an_adapter_over_four_bits_names_its_quantization_and_loads_over_the_same(four_bit, tmp_path):
    model = adapted(four_bit())
    metadata = save_adapter_artifact(model, tmp_path / "artifact", GSPO)
    assert metadata.use_qlora
    assert metadata.quantization == {"kind": "nf4", "double_quant": True, "compute_dtype": "float32"}
    assert torch.equal(logits(load_adapter_artifact(four_bit(), tmp_path / "artifact")), logits(model))
    with pytest.raises(UserError, match=r"quantization is None in the model and \{'kind': 'nf4'"):
        load_adapter_artifact(tiny(hidden_size=64), tmp_path / "artifact")
    with pytest.raises(UserError, match=r"quantization is \{'kind': 'fp4'"):
        load_adapter_artifact(four_bit(bnb_4bit_quant_type="fp4"), tmp_path / "artifact")


def test_an_adapter_over_full_weights_is_not_put_over_four_bits(four_bit, tmp_path):
    save_adapter_artifact(adapted(tiny(hidden_size=64)), tmp_path / "artifact", GSPO)
    with pytest.raises(UserError, match=r"quantization is \{'kind': 'nf4'.* in the model and None in the metadata"):
        load_adapter_artifact(four_bit(), tmp_path / "artifact")


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        save_adapter_artifact(adapted(tiny()), tmp_path / "artifact", GSPO)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_overwritten(artifact):
    before = (artifact / WEIGHTS_FILE).read_bytes()
    with pytest.raises(UserError, match="exists already"):
        save_adapter_artifact(adapted(tiny(), seed=2), artifact, GSPO)
    assert (artifact / WEIGHTS_FILE).read_bytes() == before


def test_only_plain_lora_of_one_rank_is_an_artifact(tmp_path):
    mixed = LoraConfig(r=4, target_modules=["q_proj", "gate_proj"], rank_pattern={"q_proj": 2}, task_type="CAUSAL_LM")
    with pytest.raises(UserError, match=r"has the ranks \[2, 4\]"):
        save_adapter_artifact(get_peft_model(tiny(), mixed), tmp_path / "artifact", GSPO)
    dora = LoraConfig(r=4, target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM")
    with pytest.raises(UserError, match="only LoRA's A and B matrices are taken"):
        save_adapter_artifact(get_peft_model(tiny(), dora), tmp_path / "artifact", GSPO)
    with pytest.raises(UserError, match="adapter_name is 'other': the model's LoRA adapters are default"):
        save_adapter_artifact(adapted(tiny()), tmp_path / "artifact", GSPO, adapter_name="other")
    assert list(tmp_path.iterdir()) == []


def test_adapters_are_swapped_on_a_loaded_model_to_the_bit(artifact, tmp_path):
    save_adapter_artifact(adapted(tiny(), seed=2, rank=8, targets=("down_proj",)), tmp_path / "second", GSPO)
    alone = [logits(load_adapter_artifact(tiny(), folder)) for folder in (artifact, tmp_path / "second")]
    model = load_adapter_artifact(tiny(), artifact, adapter_name="first")
    load_adapter_artifact(model, tmp_path / "second", adapter_name="second")
    assert torch.equal(logits(model), alone[0])  # it went on answering as before
    for name, expected in (("second", alone[1]), ("first", alone[0])):
        model.set_adapter(name)
        assert torch.equal(logits(model), expected)
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(tiny()))


def test_one_of_several_adapters_is_saved_alone(artifact, tmp_path):
    model = load_adapter_artifact(tiny(), artifact, adapter_name="first")
    model.add_adapter("second", LoraConfig(r=2, target_modules=["down_proj"], task_type="CAUSAL_LM"))
    save_adapter_artifact(model, tmp_path / "again", GSPO, adapter_name="first")
    assert (tmp_path / "again" / WEIGHTS_FILE).read_bytes() == (artifact / WEIGHTS_FILE).read_bytes()


def test_a_name_that_is_taken_is_refused(artifact):
    model = load_adapter_artifact(tiny(), artifact)
    with pytest.raises(UserError, match="the model has an adapter 'default' already"):
        load_adapter_artifact(model, artifact)


@pytest.mark.parametrize("beside", [False, True])
def test_weights_that_the_configuration_does_not_ask_for_leave_the_model_as_it_was(artifact, beside):
    model = load_adapter_artifact(tiny(), artifact) if beside else tiny()
    before, names = logits(model), [name for name, _ in model.named_parameters()]
    config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    with pytest.raises(UserError, match=r"are not those that its adapter_config.json asks for"):
        put_on(model, config, safetensors.torch.load_file(artifact / WEIGHTS_FILE), "new")
    assert [name for name, _ in model.named_parameters()] == names
    assert torch.equal(logits(model), before)


def test_the_hash_of_the_base_does_not_see_adapters(artifact):
    assert base_hash(load_adapter_artifact(tiny(), artifact)) == base_hash(tiny())


def test_while_merged_nothing_is_saved_or_loaded(artifact, tmp_path):
    model = load_adapter_artifact(tiny(), artifact)
    model.merge_adapter()
    with pytest.raises(UserError, match="an adapter is merged into the model's weights: unmerge it first"):
        save_adapter_artifact(model, tmp_path / "again", GSPO)
    with pytest.raises(UserError, match="unmerge it first"):
        load_adapter_artifact(model, artifact, adapter_name="second")


def test_metadata_is_json_one_to_one(artifact):
    metadata = read_metadata(artifact)
    fields = json.loads(metadata.to_json())
    assert fields.pop("artifact_id") == metadata.artifact_id
    again = AdapterMetadata(**{**fields, "targets": tuple(fields["targets"]), "parents": tuple(fields["parents"])})
    assert again == metadata


def test_a_plain_peft_folder_is_no_artifact(tmp_path):
    adapted(tiny()).save_pretrained(tmp_path / "plain")
    with pytest.raises(UserError, match=r"holds no adapter artifact, rlvr_adapter.json is missing: make it anew with"):
        load_adapter_artifact(tiny(), tmp_path / "plain")
