"""Files are whole or what they were, at whatever call their writing ends; a torn line is the mark of a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import JsonLines, cut_lines, draft_of, new_folder, read_lines, replace_text


class Killed(BaseException):
    """The process ends here."""


def die_at(monkeypatch, owner, name: str, call: int) -> None:
    """End the process at the n-th call of a function, from 0, before it does anything."""
    real, seen = getattr(owner, name), []

    def maybe(*args, **kwargs):
        seen.append(name)
        if len(seen) > call:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, maybe)


@pytest.mark.parametrize(
    ("owner", "name", "call"), [(Path, "write_text", 0), (os, "fsync", 0), (Path, "replace", 0), (os, "fsync", 1)]
)
def test_a_replacement_that_ends_anywhere_leaves_one_of_both_texts_whole(tmp_path, monkeypatch, owner, name, call):
    path = tmp_path / "state.json"
    replace_text(path, "old")
    with monkeypatch.context() as patch:
        die_at(patch, owner, name, call)
        with pytest.raises(Killed):
            replace_text(path, "new")
    assert path.read_text() == ("new" if (name, call) == ("fsync", 1) else "old")
    replace_text(path, "newer")
    assert path.read_text() == "newer"
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_a_draft_that_raises_leaves_the_old_file(tmp_path):
    path = tmp_path / "curve.png"
    path.write_bytes(b"old")

    def draw() -> None:
        with draft_of(path) as draft:
            draft.write_bytes(b"ne")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        draw()
    assert path.read_bytes() == b"old"


def test_a_folder_that_raises_is_not_there(tmp_path):
    def fill() -> None:
        with new_folder(tmp_path / "artifact") as draft:
            (draft / "half").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill()
    assert list(tmp_path.iterdir()) == []


ROWS = st.lists(st.dictionaries(st.text(max_size=3), st.text() | st.integers() | st.none(), max_size=3), max_size=5)


@settings(deadline=None)
@given(rows=ROWS, data=st.data())
def test_a_file_that_is_cut_anywhere_holds_its_whole_lines(tmp_path_factory, rows, data):
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    with JsonLines(path, json.loads) as log:
        log.write(map(json.dumps, rows))
    whole = path.read_text()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    path.write_text(cut)
    held = rows[: cut.count("\n")]
    assert read_lines(path, json.loads) == held
    assert path.read_text() == cut
    with JsonLines(path, json.loads) as log:
        assert log.known == held
        log.write(['{"more": 1}'])
    assert path.read_text() == cut[: cut.rfind("\n") + 1] + '{"more": 1}\n'


def test_lines_that_nobody_wants_are_taken_back_and_the_others_keep_their_bytes(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step":1,  "x": "\\u00e9"}\n{"step": 2}\n{"st')
    assert cut_lines(path, json.loads, lambda row: row["step"] < 2) == [{"step": 1, "x": "é"}]
    assert path.read_text() == '{"step":1,  "x": "\\u00e9"}\n'


def test_a_file_that_is_not_there_has_no_lines_and_is_not_made(tmp_path):
    assert read_lines(tmp_path / "rows.jsonl", json.loads) == []
    assert cut_lines(tmp_path / "rows.jsonl", json.loads, bool) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ['{"step": ', "", "[1]", "{}"])
def test_a_broken_line_in_the_middle_is_named_and_nothing_is_written(tmp_path, broken):
    path = tmp_path / "rows.jsonl"
    text = f'{{"step": 1}}\n{broken}\n{{"step": 3}}\n'
    path.write_text(text)
    for act in (read_lines, JsonLines):
        with pytest.raises(UserError, match=r"rows\.jsonl line 2: cannot be read"):
            act(path, lambda line: json.loads(line)["step"])
    assert path.read_text() == text


KILLED = """
import os, signal, sys
from pathlib import Path
from rlvr_cpp.runs.files import JsonLines, replace_text

with JsonLines(Path("rows.jsonl"), str) as log:
    log.write(['{"step": 1}'])
    log._file.write('{"step": 2')
    log._file.flush()
    real = Path.replace
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    replace_text(Path("run.json"), "new")
"""


def test_a_killed_process_leaves_what_it_told_and_the_old_file(tmp_path):
    (tmp_path / "run.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "run.json").read_text() == "old"
    assert read_lines(tmp_path / "rows.jsonl", json.loads) == [{"step": 1}]
