"""Every completion of a run can be found, opened and put beside others, in a page that stands by itself."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs import samples
from rlvr_cpp.runs.samples import read_samples, write_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NASTY = "</script><b>x</b><!-- <script>"


@dataclass
class Asked:
    task_id: str
    prompt: str = "int f() {\n"
    tags: tuple[str, ...] = ("small",)


def rollout(
    step, task, completion="return 1;\n}\n", status="ok", passed=2, reward=1.0, diagnostics=(), said="", **more
):
    base = {"step": step, "task_id": task, "completion": completion, "status": status, "reward": reward, "prefix": ""}
    counts = {"tests_passed": passed, "tests_total": 2, "tokens": 5, "truncated": False}
    return base | counts | {"diagnostics": diagnostics, "said": said} | more


def attempt(task, completion="return 1;\n}\n", kind="greedy", sample=0, **result):
    fields = {"status": "ok", "tests_passed": 2, "tests_total": 2, "stderr": "", "diagnostics": []}
    return {"task_id": task, "kind": kind, "sample": sample, "completion": completion, "result": fields | result}


def leave(folder, name, *rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path):
    """The folder of a training with one task that got better, one that did not compile, and one group."""
    leave(
        tmp_path,
        "evaluation_before.jsonl",
        attempt("a", "return 0;\n}\n", status="wrong", tests_passed=1),
        attempt("b"),
    )
    leave(tmp_path, "evaluation_after.jsonl", attempt("a"), attempt("b"))
    wrong = rollout(
        1, "c", "return q;\n}\n", "compile_error", 0, 0.0, [[2, "error", f"'q' {NASTY}"], [0, "note", "far"]]
    )
    leave(tmp_path, "completions.jsonl", rollout(1, "c"), wrong, rollout(2, "c", truncated=True, prefix="int x;"))
    return tmp_path


def held(page):
    """What the page's script will read."""
    text = page.read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_they_are_read_in_the_order_in_which_they_were_made(run):
    found = list(read_samples(run))
    assert [sample.when for sample in found] == [
        *["before, greedy"] * 2,
        *["step 1"] * 2,
        "step 2",
        *["after, greedy"] * 2,
    ]
    assert found[3].notes == ((2, "error", f"'q' {NASTY}"), (0, "note", "far"))
    assert found[4].completion.startswith("int x;")
    assert {"cut at its length", "with a prefix", "5 tokens"} == set(found[4].remarks)


def test_an_evaluations_and_a_searchs_are_read_alike(tmp_path):
    leave(
        tmp_path,
        "samples.jsonl",
        attempt("a"),
        attempt("a", kind="sampled", sample=3, status="run_error", stderr="died"),
    )
    candidate = {"completion": "x", "result": None, "reward": None}
    found = {"samples": [candidate, candidate | {"reward": 0.5, "result": attempt("b")["result"]}]}
    leave(tmp_path, "candidates.jsonl", {"task_id": "b", "found": found, "hidden": [None, True]})
    greedy, sampled, unknown, passes = read_samples(tmp_path)
    assert (greedy.when, sampled.when, sampled.said) == ("greedy", "sample 4", "died")
    assert (unknown.status, unknown.reward) == ("not judged", None)
    assert (passes.status, passes.reward, passes.remarks) == ("ok", 0.5, ("passes the hidden tests",))


def test_the_page_holds_every_sample_once_and_whatever_they_say(run):
    page = write_page(run, "a <run>", [Asked("a"), Asked("c", prompt=NASTY)], is_continued=True)
    data = held(page)
    assert len(data["samples"]) == 7
    assert [task[0] for task in data["tasks"]] == ["a", "b", "c"]
    assert data["tasks"][2][1] == NASTY
    assert len(data["texts"]) == len(set(data["texts"])) == 4
    assert "a &lt;run&gt;" in page.read_text()
    assert "http" not in page.read_text()


def test_of_a_long_training_the_newest_are_shown(run, monkeypatch):
    monkeypatch.setattr(samples, "SHOWN_ROLLOUTS", 1)
    page = write_page(run, "", [], is_continued=True)
    assert [row[0] for row in held(page)["samples"] if row[0].startswith("step")] == ["step 2"]
    assert "The oldest 2 completions" in page.read_text()


def test_a_folder_without_samples_is_refused(tmp_path):
    with pytest.raises(UserError, match="no completion that was judged"):
        write_page(tmp_path, "", [], is_continued=True)
    assert not list(tmp_path.iterdir())


def seen(page, fragment="", script="", width=1400):
    """The page's DOM and what its console said, after a script of ours has acted on it."""
    shown = page.with_name("shown.html")
    shown.write_text(page.read_text() + f"<script>{script}</script>")
    browser = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--virtual-time-budget=500",
    ]
    asked = [f"--window-size={width},900", "--dump-dom", f"file://{shown}#{fragment}"]
    done = subprocess.run([*browser, *asked], capture_output=True, text=True, timeout=60)
    dom = re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)
    return dom, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@needs_chromium
def test_what_training_changed_is_shown_first_both_beside_each_other(run):
    dom, console = seen(write_page(run, "t", [Asked("a")], is_continued=True))
    assert console == []
    assert dom.count('role="option"') == 1
    assert ">before, greedy: 1 of 2 tests<" in dom
    assert dom.count('class="differs"') == 2


@needs_chromium
def test_a_link_opens_what_it_names_with_diagnostics_at_their_lines(run):
    dom, console = seen(write_page(run, "t", [Asked("c")], is_continued=True), "status=compile_error")
    assert console == []
    assert dom.count('role="option"') == 1
    line, note = dom.index("return q;"), dom.index("^ error: 'q' &lt;/script&gt;")
    assert line < note < dom.index(">3 <")
    assert "note: far" in dom


@needs_chromium
def test_it_is_searched_and_gone_through_by_keyboard(run):
    script = """
      const key = name => document.onkeydown({ key: name, target: document.body, preventDefault() {} });
      at("only").click(); at("words").value = "RETURN 1"; at("words").oninput({ target: at("words") });
      const all = found.length; key("k"); key("ArrowUp"); key("j");
      document.title = `${all} found, ${found.findIndex(one => one.id === state.one)}, ${location.hash}`;
    """
    dom, console = seen(write_page(run, "t", [Asked("a")], is_continued=True), script=script)
    assert console == []
    assert re.search("<title>(.*?)<", dom)[1] == "5 found, 2, #words=RETURN+1&amp;one=4"


@needs_chromium
@pytest.mark.parametrize("width", [1400, 500])
def test_nothing_is_wider_than_the_window(run, width):
    leave(run, "samples.jsonl", attempt("long/" * 80, "x" * 900))
    script = "document.title = `${document.documentElement.scrollWidth <= innerWidth} ${innerWidth}`;"
    dom, console = seen(write_page(run, "t", [], is_continued=True), "words=long", script, width)
    assert console == []
    assert f"<title>true {width}</title>" in dom


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": 1}',
        b"[]",
        b"3",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(rollout(1, "c", diagnostics=3)).encode(),
    ],
)
def test_a_damaged_line_is_told_by_its_file(run, line):
    with (run / "completions.jsonl").open("ab") as log:
        log.write(line + b"\n")
    with pytest.raises(UserError, match=r"completions\.jsonl (line 4: )?cannot be read"):
        list(read_samples(run))
