"""A card says what its record says, in the form that the hub reads, and nothing that was not measured."""

import pytest
import yaml

from rlvr_cpp.adapters.metadata import read_metadata
from rlvr_cpp.adapters.registry.card import model_card
from rlvr_cpp.runs.evidence import Decoding
from tests.rlvr_cpp.adapters.registry.shelves import TASKS, record, write_artifact


@pytest.fixture
def metadata(tmp_path):
    return read_metadata(write_artifact(tmp_path / "one", "one"))


def head_of(card: str) -> dict:
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_head_is_what_the_hub_reads(metadata):
    head = head_of(model_card("demo@v1", metadata, record("one", 45)))
    assert head["library_name"] == "peft"
    assert head["base_model"] == "tiny-cpp"
    assert head["base_model_relation"] == "adapter"
    assert "gspo" in head["tags"]
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"] == {"name": "tasks", "type": "tasks", "split": "hidden", "revision": "b" * 64}
    (metric,) = result["metrics"]
    assert (metric["type"], metric["name"], metric["value"]) == ("pass@1", "greedy pass@1", 0.75)
    assert metric["args"]["evaluation_record"] == record("one", 45).record_id


def test_samples_have_a_line_of_their_own(metadata):
    rows = {f"t{i:02d}": (True, False) for i in range(TASKS)}
    card = model_card(
        "demo@v1",
        metadata,
        record(
            "one",
            45,
            samples=rows,
            decoding=Decoding(temperature=0.8, max_new_tokens=128, samples=2, greedy=True, seed=0),
        ),
    )
    assert "| greedy pass@1 | 0.750 | [0.628, 0.842] |" in card
    assert "| pass@1 of 2 samples | 0.500 |" in card
    (result,) = head_of(card)["model-index"][0]["results"]
    assert [(metric["value"], metric["args"]["temperature"]) for metric in result["metrics"]] == [
        (0.75, 0.0),
        (0.5, 0.8),
    ]


def test_without_a_record_there_is_no_number(metadata):
    card = model_card("demo@v1", metadata, None)
    assert "model-index" not in card
    assert "None: this adapter became active without an evaluation" in card


def test_an_invalid_record_gives_its_reason_and_no_number(metadata):
    card = model_card(
        "demo@v1", metadata, record("one", 45, status="INVALID", reason="3 of 60 tasks could not be judged")
    )
    assert "INVALID: 3 of 60 tasks could not be judged" in card
    assert "model-index" not in card
    assert "0.75" not in card


def test_the_code_in_it_loads_the_base_as_it_was(tmp_path):
    settings = {"kind": "nf4", "double_quant": True, "compute_dtype": "bfloat16"}
    folder = write_artifact(tmp_path / "four-bit", "one", use_qlora=True, quantization=settings, base_dtype="bfloat16")
    card = model_card("demo@v1", read_metadata(folder), None)
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert "bnb_4bit_quant_type='nf4'" in code
    assert "dtype='bfloat16'" in code
