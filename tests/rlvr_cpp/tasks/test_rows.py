"""Rows from every kind of file, and the one sentence for every way a file can be wrong."""

import gzip
import json

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.tasks.rows import read_source

ROWS = [{"name": "a", "n": 1}, {"name": "b", "n": None}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def write_parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


WRITERS = {
    "rows.jsonl": lambda path: path.write_text(LINES.replace("\n", "\n\n", 1)),
    "rows.json": lambda path: path.write_text(json.dumps(ROWS)),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES.encode())),
    "rows.json.gz": lambda path: path.write_bytes(gzip.compress(json.dumps(ROWS).encode())),
    "rows.parquet": write_parquet,
    "rows": lambda path: path.write_text(LINES),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert [row for _, row in read_source(tmp_path / name)] == ROWS


def test_a_row_knows_its_line(tmp_path):
    WRITERS["rows.jsonl"](tmp_path / "rows.jsonl")
    assert [where.removeprefix(f"{tmp_path}/") for where, _ in read_source(tmp_path / "rows.jsonl")] == [
        "rows.jsonl line 1",
        "rows.jsonl line 3",
    ]


BROKEN = {
    "no JSON": ("rows.jsonl", LINES.encode() + b"{", "line 3: not JSON"),
    "no object": ("rows.jsonl", b"[1]\n", "line 1: a list where a JSON object should stand"),
    "too deep": ("rows.jsonl", b"[" * 100_000, "line 1: not JSON"),
    "no list": ("rows.json", b'{"rows": []}', "a dict where a list of JSON objects should stand"),
    "a list of something else": ("rows.json", b"[3]", "row 1: a int where a JSON object should stand"),
    "not compressed": ("rows.jsonl.gz", LINES.encode(), "cannot be read"),
    "cut off": ("rows.jsonl.gz", gzip.compress(LINES.encode())[:-9], "cannot be read"),
    "no text": ("rows.jsonl", b"\xff\xfe\n", "cannot be read"),
    "no table": ("rows.parquet", b"PAR1", "cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_sentence(tmp_path, case):
    name, content, words = BROKEN[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        list(read_source(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_no_data_set(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        list(read_source(tmp_path / "rows.json"))


def test_a_data_set_is_named_with_its_config_and_split(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **named: asked.append((given, named)) or ROWS)
    assert [where for where, _ in read_source("some/set", config="cpp")] == ["some/set row 0", "some/set row 1"]
    assert asked == [(("some/set", "cpp"), {"split": "test"})]


def test_a_data_set_that_cannot_be_loaded_is_one_sentence(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(*given, **named):
        raise ConnectionError("no route\nand a page of details")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"'some/set' is neither .* \(no route\): give the path"):
        list(read_source("some/set"))
