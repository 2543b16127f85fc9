"""Tasks that say what a benchmark says."""

import json

import pytest

from rlvr_cpp import check_tasks
from rlvr_cpp.tasks.quality.contamination import COMMON, WORDS, find_overlaps
from rlvr_cpp.tasks.task import Task

SAYS = "Given a list of readings count how many of them lie strictly above the mean of all."
BODY = "int n = 0; long long sum = 0; for (int r : readings) sum += r; for (int r : readings) n += r * k > sum; return n; }"


def task(name, prompt="int f() {", reference=None) -> Task:
    return Task(name, prompt, "int main() {}", "f", reference=reference)


PROBLEM = task("B/1", f"#include <vector>\n/*\n{SAYS}\n*/\nint above(const std::vector<int>& readings) {{\n", BODY)


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (task("t", f"// {SAYS.upper().replace(' ', '  ')}\nint f() {{"), "prompt"),
        (task("t", "/* " + SAYS.replace(" ", "\n * ") + " */\nint f() {"), "prompt"),
        (task("t", reference=f"int k = 2; {BODY}"), "reference"),
    ],
)
def test_the_same_words_are_found_however_they_are_set(other, part):
    (found,) = find_overlaps([other], [task("B/0"), PROBLEM])
    assert (found.task_id, found.problem_id, found.part) == ("t", "B/1", part)
    assert found.share > 0.5


def test_so_many_words_in_a_row_are_it_and_one_fewer_are_not():
    words = SAYS.split()
    for count, found in ((WORDS, 1), (WORDS - 1, 0)):
        other = task("t", f"// {' '.join(words[:count])} something else entirely\nint f() {{")
        assert len(find_overlaps([other], [PROBLEM])) == found


def test_what_files_share_for_their_form_is_no_overlap():
    form = "".join(
        f"#include <{name}>\n"
        for name in ["vector", "string", "map", "set", "queue", "stack", "list", "array", "tuple"]
    )
    form += "using namespace std;\nusing ll = long long;\nusing pairs = vector<pair<int, int>>;\n"
    assert find_overlaps([task("t", form + "int f() {")], [task("B/1", form + "int g() {")]) == []


def test_what_most_problems_of_a_benchmark_say_alike_is_none_either():
    problems = [task(f"B/{n}", f"// {SAYS}\nint f{n}() {{") for n in range(COMMON + 1)]
    assert find_overlaps([task("t", f"// {SAYS}\nint f() {{")], problems) == []
    assert len(find_overlaps([task("t", f"// {SAYS}\nint f() {{")], problems[1:])) == 1


def test_a_task_is_named_once_with_the_problem_that_it_is_most_like():
    near = task("B/2", PROBLEM.prompt.replace("Given", "From"), BODY)
    (found,) = find_overlaps([task("t", PROBLEM.prompt, BODY)], [near, PROBLEM])
    assert (found.problem_id, found.part, found.share) == ("B/1", "prompt", 1.0)


def test_the_command_names_them_with_their_share(tmp_path, capsys):
    row = {"test": "int main() {}", "entry_point": "f"}
    files = {"own": [task("t/0", f"// {SAYS}\nint f() {{"), task("t/1")], "benchmark": [PROBLEM]}
    for name, tasks in files.items():
        rows = [{**row, "task_id": one.task_id, "prompt": one.prompt} for one in tasks]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    own, benchmark = (str(tmp_path / f"{name}.jsonl") for name in files)
    assert check_tasks.main(["convert", own, "--out", str(tmp_path / "out.jsonl"), "--benchmark", benchmark]) == 0
    told = capsys.readouterr().out
    assert "t/0: 86% of its prompt is that of B/1" in told
    assert f"1 of 2 tasks (50.0%) share 13 words in a row with a problem of {benchmark}, which has 1" in told
