"""Answers that do no work, and the tests that they pass."""

import dataclasses
import json

import pytest

from rlvr_cpp import Case, Verifier, check_tasks
from rlvr_cpp.tasks.quality.degenerate import degenerate_answers
from rlvr_cpp.tasks.quality.weak import REPEATS, try_unknown, weak_remarks
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks, save_tasks

NEAR = """#undef NDEBUG
#include <assert.h>
#include <math.h>
#include <vector>
bool same(std::vector<float> a, std::vector<float> b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) if (fabs(a[i] - b[i]) > 1e-4) return false;
    return true;
}
int main() {
    assert(same(halved({2, 4}), {1, 2}));
    assert(same(halved({3, 5, 8}), {1.5, 2.5, 4}));
}
"""
ROW = {
    "task_id": "CPP/1",
    "prompt": "#include <vector>\nusing namespace std;\nvector<float> halved(vector<float> numbers){\n",
    "declaration": "vector<float> halved(vector<float> numbers){\n",
    "canonical_solution": "    for (float& x : numbers) x /= 2;\n    return numbers;\n}\n",
    "test": NEAR,
}
STRICT = ROW | {"task_id": "CPP/2", "test": NEAR.replace("fabs(a[i] - b[i]) > 1e-4", "!(fabs(a[i] - b[i]) <= 1e-4)")}
CLASS = Task("classes/1", "struct Tally {\n    int total = 0;\n", "int main() { Tally t; }", "Tally")
CLEARED = Task(
    "ours/cleared",
    "#include <vector>\n#include <cstdio>\nint squeeze(std::vector<int>& values) {\n",
    "int main() { std::vector<int> v{1, 1}; int p = squeeze(v) == int(v.size()); "
    'std::printf("PASSED %d/1\\n", p); return !p; }',
    "squeeze",
)
COUNTED = Task(
    "ours/counted",
    "#include <vector>\n#include <cstdio>\nstd::vector<int> twos(int n) {\n",
    "int main() { int p = 0; for (int x : twos(2)) p += x == 2; p += twos(1).size() == 1; "
    'std::printf("PASSED %d/3\\n", p); return p != 3; }',
    "twos",
)
PRINTED = Task(
    "ours/printed",
    "// Is the number even?\n",
    "",
    "main",
    cases=(Case("2", "YES"), Case("4", "YES")),
    hidden_cases=(Case("6", "YES"), Case("7", "NO")),
)


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The tasks of one file, checked by the command and read again."""
    folder = tmp_path_factory.mktemp("checked")
    rows = [ROW, STRICT, *map(dataclasses.asdict, (CLASS, CLEARED, COUNTED, PRINTED))]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert check_tasks.main(["check", str(folder / "tasks.jsonl"), "--out", str(folder / "out.jsonl")]) == 0
    return {task.task_id: task for task in load_tasks(folder / "out.jsonl")}


def test_a_test_that_nan_passes_is_weak(checked):
    assert checked["CPP/1"].weak == ("NaN, as many as numbers is long",)
    assert checked["CPP/2"].weak == ()


def test_a_test_that_a_cleared_input_passes_is_weak(checked):
    assert checked["ours/cleared"].weak == ("the input is cleared",)


def test_public_cases_that_a_constant_line_passes_are_weak(checked):
    assert checked["ours/printed"].weak == ("the line YES",)


def test_a_harness_that_counts_the_items_of_an_answer_is_weak(checked):
    assert checked["ours/counted"].weak == (REPEATS,)


def test_a_class_has_no_answers_of_this_kind(checked):
    assert degenerate_answers(CLASS) == {}
    assert checked["classes/1"].weak is None


def test_a_run_is_told_what_is_known_of_its_tasks(checked):
    (weak,) = weak_remarks(list(checked.values()))
    assert weak.startswith("4 of 5 tasks that were tried are weak")
    assert "CPP/1 (NaN, as many as numbers is long)" in weak
    assert weak_remarks([checked["CPP/2"], CLASS]) == []
    (unknown,) = weak_remarks([CLASS, CLEARED])
    assert unknown.startswith("1 of 2 tasks were never tried")


@pytest.mark.parametrize(("which", "weak"), [("sample", ("the input is cleared",)), ("none", None)])
def test_a_run_tries_what_it_knows_nothing_of(verifier, which, weak):
    known = dataclasses.replace(CLEARED, task_id="known", weak=())
    tried = try_unknown([CLASS, CLEARED, known], which, verifier)
    assert tried == [CLASS, dataclasses.replace(CLEARED, weak=weak), known]


def test_the_shipped_tasks_are_known_from_their_gate():
    assert weak_remarks(load_tasks(BUILTIN)) == []


def test_what_was_found_is_read_again(checked, tmp_path):
    save_tasks(list(checked.values()), tmp_path / "again.jsonl")
    assert load_tasks(tmp_path / "again.jsonl") == list(checked.values())


def test_a_missing_file_is_one_sentence(capsys):
    assert check_tasks.main(["check", "missing.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("error: task file 'missing.jsonl' does not exist")


SIGNATURES = {
    "double f(std::vector<double> v) {\n": {"NaN", "infinity", "1"},
    "std::vector<int> f(const std::vector<int>& v) {\n": {"v is handed back", "only zeros", "1000 zeros", "1, as many as v is long"},
    "void f(std::vector<int>& v) {\n": {"nothing is done", "the input is cleared"},
    "std::pair<double, int> f(std::string s) {\n": {"NaN", "1", "nothing is done"},
    "const char* f(const char* s) {\n": {"the text 'a'", "s is handed back"},
    "bool f(int* values, int n) {\n": {"true", "nothing is done"},
    "std::string f(std::string s);\n": {"s is handed back", "the text 'a'"},
}  # fmt: skip


@pytest.mark.parametrize("signature", SIGNATURES)
def test_every_kind_of_function_has_answers_without_work_and_they_compile(verifier, signature):
    prompt = "#include <string>\n#include <utility>\n#include <vector>\n" + signature
    answers = degenerate_answers(Task("one", prompt, "int main() { f(1); }", "f"))
    assert set(answers) >= SIGNATURES[signature]
    together = "\n".join(
        f"namespace n{number} {{\n{code.removeprefix(prompt.rpartition(signature)[0])}}}"
        for number, code in enumerate(answers.values())
    )
    result = verifier.verify(_compiled(prompt.rpartition(signature)[0] + together))
    assert result.status == "ok", result.stderr


def _compiled(code):
    return Task("one", "", "", "").program(code)


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=1) as opened:
        yield opened
