"""A record of an evaluation: the same after a journey through a file, and no record once it was edited."""

import dataclasses
import json

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.runs.evidence import Decoding, EvaluationRecord
from rlvr_cpp.runs.files import contract_hash

CONTRACT = {"compiler": "g++", "timeout": 10.0, "flags": ["-std=c++17"]}
RECORD = EvaluationRecord(
    benchmark="tasks",
    benchmark_hash="a" * 64,
    split="hidden",
    contract=CONTRACT,
    contract_hash=contract_hash(CONTRACT),
    model="tiny-cpp",
    model_hash="b" * 64,
    adapter=None,
    adapter_hash=None,
    decoding=Decoding(temperature=1.0, max_new_tokens=128, samples=2, greedy=True, seed=0),
    prompt_format="completion",
    packages={"torch": "2.13.0"},
    git_commit=None,
    created="2026-11-20T00:00:00+00:00",
    status="PASS",
    reason=None,
    greedy={"a": (True,), "b": (None,)},
    samples={"a": (True, False), "b": (None, True)},
)


def test_saving_and_loading_are_inverse(tmp_path):
    RECORD.save(tmp_path / "evaluation.json")
    assert EvaluationRecord.load(tmp_path / "evaluation.json") == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


def test_the_id_is_that_of_the_content():
    assert dataclasses.replace(RECORD).record_id == RECORD.record_id
    assert dataclasses.replace(RECORD, samples={**RECORD.samples, "b": (False, True)}).record_id != RECORD.record_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("benchmark_hash", "c" * 64),
        ("status", "INVALID"),
        ("greedy", {"a": [True], "b": [True]}),
        ("contract", {**CONTRACT, "timeout": 60.0}),
        ("record_id", "0" * 64),
    ],
)
def test_an_edited_record_is_refused(tmp_path, field, value):
    path = tmp_path / "evaluation.json"
    RECORD.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(UserError, match="changed after it was written"):
        EvaluationRecord.load(path)


def test_a_contract_that_belongs_to_another_hash_is_refused(tmp_path):
    dataclasses.replace(RECORD, contract_hash="0" * 64).save(tmp_path / "evaluation.json")
    with pytest.raises(UserError, match="changed after it was written"):
        EvaluationRecord.load(tmp_path / "evaluation.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"record_id": "x", "schema_version": 1}', '{"schema_version": 1}'])
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"evaluation record.*give an evaluation\.json"):
        EvaluationRecord.load(path)


def test_another_schema_is_refused(tmp_path):
    dataclasses.replace(RECORD, schema_version=2).save(tmp_path / "evaluation.json")
    with pytest.raises(UserError, match="schema_version is 2"):
        EvaluationRecord.load(tmp_path / "evaluation.json")
