"""What reports are made of: tables that fit and hide nothing, pictures that are whole, pages that escape."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from rich.console import Console

from rlvr_cpp.runs.pages import axes, markdown_table, print_table, render, smoothed


def printed(*arguments, **options) -> str:
    console = Console(width=80, highlight=False)
    with console.capture() as capture:
        print_table(console, *arguments, **options)
    return capture.get()


@settings(deadline=None)
@given(st.text("abc=.[]/", min_size=1, max_size=200))
def test_a_table_fits_80_columns_and_shows_every_character(name):
    rows = [(name, "0.500 [0.25, 0.75]", "0.500 [0.25, 0.75]"), ("short", "1", "2")]
    lines = printed("", ("", "before", "after"), rows).splitlines()
    assert max(map(len, lines)) <= 80
    assert sorted("".join(lines[2:-1]).replace(" ", "")) == sorted(name + "0.500[0.25,0.75]" * 2)


def test_a_title_stands_above_and_is_no_markup():
    title, _, *_ = printed("[red]x[/red] against y", ("", "n"), [("a", "1")]).strip().splitlines()
    assert title == "[red]x[/red] against y"


def test_texts_are_on_the_left_and_folded():
    text = printed("", ("field", "here", "there"), [("base", "x" * 100, "y" * 100)], justify="left")
    assert text.count("x") == text.count("y") == 100
    assert max(map(len, text.splitlines())) <= 80


def test_a_pipe_in_a_cell_makes_no_other_column():
    assert markdown_table(("a", "b"), [("x|y", "1")]) == ["| a | b |", "|---|---|", "| x\\|y | 1 |"]


def test_a_picture_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "curve.png"
    with axes(path, (4, 2), panels=2) as (left, right):
        left.plot([0, 1], [0, 1])
        right.plot([0, 1], [1, 0])
    height, width, _ = imread(path).shape
    assert (width, height) == (600, 300)
    drawn = path.read_bytes()

    def draw() -> None:
        with axes(path, (4, 2)) as (panel,):
            panel.plot([0], [0, 1])

    with pytest.raises(ValueError, match="same first dimension"):
        draw()
    assert path.read_bytes() == drawn
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_a_page_escapes_values_where_it_is_html(tmp_path):
    for name in ("page.html.j2", "page.md.j2"):
        (tmp_path / name).write_text("{{ twice(value) }}\n")
    values = {"value": "<b>", "twice": lambda text: text * 2}
    assert render(tmp_path / "page.html.j2", **values) == "&lt;b&gt;&lt;b&gt;\n"
    assert render(tmp_path / "page.md.j2", **values) == "<b><b>\n"


def test_smoothing_keeps_constants_and_skips_what_is_missing():
    assert smoothed({1: 0.5, 2: 0.5, 9: 0.5}) == {1: 0.5, 2: 0.5, 9: 0.5}
    assert smoothed({1: 0.0, 3: 1.0}) == {1: 0.5, 3: 0.5}
    assert smoothed(dict.fromkeys(range(9), 0.5)) == dict.fromkeys(range(9), 0.5)


def test_drawing_leaves_pyplot_and_its_backend_to_the_program():
    code = "import sys; import rlvr_cpp.runs.pages, rlvr_cpp.training.report; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
