"""The line a step is told in."""

from rlvr_cpp.training.steps import HEADER, step_line

METRICS = {
    "kept_groups": 8, "reward": 0.688, "compile_rate": 0.95, "pass_rate": 0.44, "kl": 0.0012, "clip_fraction": 0.0,
    "grad_norm": 10.03, "generate": 12.1, "wait": 0.0, "update": 1.2, "seconds": 13.3, "verify": 12.9,
}  # fmt: skip


def test_a_step_stands_under_its_header_and_fits_a_terminal():
    line = step_line(10, 60, METRICS, 8)
    assert len(line) == len(HEADER) <= 80
    names = [
        "step",
        "reward",
        "comp",
        "pass",
        "groups",
        "kl",
        "clip",
        "grad",
        "sec:",
        "gen",
        "wait",
        "upd",
        "sum|judged",
    ]
    numbers = [
        "10/60",
        "0.688",
        "0.95",
        "0.44",
        "8/8",
        "0.0012",
        "0.00",
        "10.03",
        "12.1",
        "0.0",
        "1.2",
        "13.3|",
        "12.9",
    ]
    assert HEADER.split() == names
    assert line.split() == numbers


def test_a_number_ends_where_its_name_does():
    line = step_line(10, 60, METRICS, 8)
    ends = [end for end in range(1, len(HEADER)) if HEADER[end] in " |" and HEADER[end - 1] not in " :|"]
    assert all(line[end] in " |" and line[end - 1] not in " |" for end in ends)


def test_a_number_that_a_step_does_not_have_is_shown_as_such():
    assert "nan" in step_line(1, 2, {**METRICS, "reward": None}, 8)
