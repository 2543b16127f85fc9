"""The steps on disk after any ending: each once, and none that the last checkpoint does not hold."""

import json

import pytest

from rlvr_cpp.runs.record import METRICS
from rlvr_cpp.training.steps import COMPLETIONS, StepLog, keep_steps, read_steps


def lines(*steps: int) -> str:
    return "".join(json.dumps({"step": step, "text": f"é \u2028 {step}"}) + "\n" for step in steps)


TORN = lines(9)[:-7]
CASES = {
    "nothing beyond": (lines(1, 2), 2, lines(1, 2)),
    "steps beyond": (lines(1, 2, 3, 4), 2, lines(1, 2)),
    "several lines a step": (lines(1, 1, 2, 2, 3, 3), 2, lines(1, 1, 2, 2)),
    "no step is held": (lines(1, 2), 0, ""),
    "a torn last line": (lines(1, 2) + TORN, 5, lines(1, 2)),
    "a last line that lacks only its end": (lines(1, 2)[:-1], 5, lines(1)),
    "nothing but a torn line": (TORN, 5, ""),
    "an empty file": ("", 3, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_steps_of_the_checkpoint_are_kept_and_no_others(tmp_path, case):
    text, last, kept = CASES[case]
    path = tmp_path / METRICS
    path.write_text(text)
    keep_steps(path, last)
    assert path.read_text() == kept
    assert [file.name for file in tmp_path.iterdir()] == [METRICS]


@pytest.mark.parametrize("case", CASES)
def test_reading_sees_what_keeping_would_keep(tmp_path, case):
    text, last, kept = CASES[case]
    (tmp_path / METRICS).write_text(text)
    assert read_steps(tmp_path, last) == [json.loads(line) for line in kept.split("\n") if line]


def test_a_file_that_is_not_there_has_no_steps(tmp_path):
    keep_steps(tmp_path / METRICS, 3)
    assert not (tmp_path / METRICS).exists()
    assert read_steps(tmp_path, 3) == []


def test_an_interrupted_keeping_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / METRICS
    path.write_text(lines(1, 2, 3))

    def end(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", end)
        with pytest.raises(KeyboardInterrupt):
            keep_steps(path, 2)
    assert path.read_text() == lines(1, 2, 3)
    keep_steps(path, 2)
    assert path.read_text() == lines(1, 2)


def test_a_log_goes_on_where_the_checkpoint_stands(tmp_path):
    (tmp_path / METRICS).write_text(lines(1, 2, 3) + TORN)
    (tmp_path / COMPLETIONS).write_text(lines(1, 1, 2, 2, 3, 3, 4) + TORN)
    with StepLog(tmp_path, 2) as log:
        log.write({"step": 3, "reward": 0.5})
    assert [row["step"] for row in read_steps(tmp_path, 9)] == [1, 2, 3]
    assert (tmp_path / COMPLETIONS).read_text() == lines(1, 1, 2, 2)


def test_a_step_is_on_disk_when_it_was_told(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with StepLog(tmp_path, 0) as log:
        log.write({"step": 1, "reward": 0.5, "note": "no number"})
        assert read_steps(tmp_path, 1) == [{"step": 1, "reward": 0.5, "note": "no number"}]
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert [(event.step, event.value) for event in events.Scalars("reward")] == [(1, 0.5)]


def test_without_a_board_there_are_no_events_and_every_number(tmp_path):
    with StepLog(tmp_path, 0, board=False) as log:
        log.write({"step": 1, "reward": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]
    assert read_steps(tmp_path, 1) == [{"step": 1, "reward": 0.5}]


def test_the_processes_that_are_not_the_first_leave_the_files_alone(tmp_path):
    (tmp_path / METRICS).write_text(lines(1, 2, 3))
    with StepLog(tmp_path, 0, write=False) as log:
        log.write({"step": 1})
    assert (tmp_path / METRICS).read_text() == lines(1, 2, 3)
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]
