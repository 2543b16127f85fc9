"""Files as the field has them: each loads, or is refused by the sentence that it deserves."""

import base64
import json
import pickle
import zlib
from pathlib import Path

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import load_tasks, save_tasks
from rlvr_cpp.verifier.cases import Case, OpenCase
from rlvr_cpp.verifier.checkers import Tolerance
from rlvr_cpp.verifier.limits import RunLimits

FILES = Path(__file__).parents[2] / "data" / "shapes"
REFUSED = {
    "csv.csv": "is a .csv: give the path of a .jsonl",
    "latin1.jsonl": "cannot be read: 'utf-8' codec can't decode",
    "livecodebench.jsonl": "line 1: field 'private_test_cases' cannot be unpacked",
    "multipl_e_rust_row.jsonl": "line 1: field 'language' is 'rs': only tasks in 'cpp'",
}
CASES = ["apps.jsonl", "code_contests.jsonl", "codeforces_open_r1.jsonl", "ours_with_cases.jsonl", "synthetic1.jsonl"]
CASES += ["taco.jsonl", "verl_parquet_row.jsonl"]
ENTRIES = {
    **dict.fromkeys(CASES, "main"),
    "folder": "solve",
    "on_disk": "solve",
    "own.parquet": "solve",
    "own_extra_null.parquet": "solve",
    "humaneval_x_function_ptr_param.jsonl": "apply",
    "humaneval_x_operator.jsonl": "operator+",
    "leetcode_dataset.jsonl": "maxGap",
    "leetcode_humaneval_shape.jsonl": "maxGap",
    "leetcode_ours.jsonl": "Solution",
}
NAMES = sorted(path.name for path in FILES.iterdir())


def load(name):
    if Path(name).suffix in (".parquet", ""):
        pytest.importorskip("datasets")
    return load_tasks(FILES / name)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_a_file_of_this_shape_loads(name, tmp_path):
    tasks = load(name)
    assert tasks[0].entry_point == ENTRIES.get(name, "max_gap")
    assert bool(tasks[0].cases) == (name in CASES)
    assert all(task.test or task.cases for task in tasks)
    save_tasks(tasks, tmp_path / "ours.jsonl")
    assert load_tasks(tmp_path / "ours.jsonl") == tasks


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(name):
    with pytest.raises(UserError) as caught:
        load_tasks(FILES / name)
    assert REFUSED[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def write(folder, row):
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row))
    return path


def row_of(name):
    return json.loads((FILES / name).read_text().splitlines()[0])


def test_hidden_cases_are_those_that_a_data_set_keeps_back():
    (task,) = load_tasks(FILES / "code_contests.jsonl")
    assert task.program("x").cases == (Case("2\n1 2\n", "3\n"),)
    assert task.program("x", hidden=True).cases == (Case("1\n5\n", "5\n"),)
    assert task.has_hidden


@pytest.mark.parametrize(
    ("name", "change", "limits"),
    [
        ("code_contests.jsonl", {}, (1.0, 245)),
        ("code_contests.jsonl", {"time_limit": {"seconds": 1, "nanos": 500_000_000}}, (1.5, 245)),
        ("code_contests.jsonl", {"time_limit": None, "memory_limit_bytes": 0}, (None, None)),
        ("codeforces_open_r1.jsonl", {}, (1.0, 256)),
        ("codeforces_open_r1.jsonl", {"time_limit": 0.0, "memory_limit": None}, (None, None)),
        ("codeforces_open_r1.jsonl", {"memory_limit": 4.0}, (1.0, 16)),
        ("taco.jsonl", {}, (1.0, 256)),
        ("taco.jsonl", {"time_limit": "1500 ms", "memory_limit": "1 gigabytes"}, (1.5, 1024)),
        ("taco.jsonl", {"time_limit": "None", "memory_limit": "large"}, (None, None)),
        ("apps.jsonl", {}, (None, None)),
        ("code_contests.jsonl", {"time_limit": {"seconds": "?"}, "memory_limit_bytes": 10**400}, (None, 1 << 20)),
        ("taco.jsonl", {"time_limit": 10**400, "memory_limit": None}, (86_400.0, None)),
    ],
)
def test_limits_are_read_as_each_data_set_writes_them(tmp_path, name, change, limits):
    (task,) = load_tasks(write(tmp_path, {**row_of(name), **change}))
    assert (task.time_limit, task.memory_limit) == limits


def test_a_row_of_ours_says_how_its_outputs_are_judged(tmp_path):
    rules = {
        "checker": "float",
        "absolute_tolerance": 0.01,
        "relative_tolerance": 0,
        "stack_limit": 256,
        "time_limit": 2,
    }
    (task,) = load_tasks(write(tmp_path, {**row_of("ours_with_cases.jsonl"), **rules, "output_limit": None}))
    program = task.program("x")
    assert (program.checker, program.tolerance) == ("float", Tolerance(0.01, 0))
    assert program.limits == RunLimits(time=2, stack=256)
    save_tasks([task], tmp_path / "again.jsonl")
    assert load_tasks(tmp_path / "again.jsonl") == [task]


def test_a_checker_in_cpp_comes_along_and_one_in_python_leaves_a_tag(tmp_path):
    (task,) = load_tasks(FILES / "codeforces_open_r1.jsonl")
    assert "needs_checker" in task.tags
    assert task.checker_program is None
    checker = '#include "testlib.h"\nint main(int n, char** v) { registerTestlibCmd(n, v); quitf(_ok, ""); }'
    row = {
        **row_of("codeforces_open_r1.jsonl"),
        "generated_checker": checker,
        "examples": [{"input": "1", "output": ""}],
    }
    (task,) = load_tasks(write(tmp_path, row))
    assert "needs_checker" not in task.tags
    assert task.program("x").checker_program == checker
    assert task.program("x").cases == (OpenCase("1", ""),)
    save_tasks([task], tmp_path / "again.jsonl")
    assert load_tasks(tmp_path / "again.jsonl") == [task]


def test_a_row_that_asks_for_a_talk_says_so(tmp_path):
    row = {**row_of("codeforces_open_r1.jsonl"), "interaction_format": "Print a guess, read the reply."}
    (task,) = load_tasks(write(tmp_path, row))
    assert "needs_interactor" in task.tags
    assert "needs_interactor" not in load_tasks(FILES / "codeforces_open_r1.jsonl")[0].tags


@pytest.mark.parametrize(
    ("name", "change"),
    [("codeforces_open_r1.jsonl", {"input_mode": "file"}), ("code_contests.jsonl", {"input_file": "sum.in"})],
)
def test_a_row_whose_program_reads_files_says_so(tmp_path, name, change):
    (task,) = load_tasks(write(tmp_path, {**row_of(name), **change}))
    assert "needs_files" in task.tags
    assert "needs_files" not in load_tasks(FILES / name)[0].tags


def test_json_in_a_text_of_json_is_read(tmp_path):
    row = row_of("apps.jsonl")
    again = {**row, "input_output": json.dumps(row["input_output"])}
    assert load_tasks(write(tmp_path, again))[0].cases == load_tasks(FILES / "apps.jsonl")[0].cases


def test_rows_without_an_index_are_named_by_their_place(tmp_path):
    row = {**row_of("verl_parquet_row.jsonl"), "extra_info": {"index": None}}
    assert load_tasks(write(tmp_path, row))[0].task_id == f"{row['data_source']}/1"


@pytest.mark.parametrize(
    ("prompt", "is_prose"),
    [
        ("Sum n numbers.\nPrint; them.", True),
        ("// Sum.\n", False),
        ("#include <cmath>\n", False),
        ("int main() {\n", False),
    ],
)
def test_a_statement_of_ours_is_a_comment_where_it_is_prose(tmp_path, prompt, is_prose):
    (task,) = load_tasks(write(tmp_path, {**row_of("ours_with_cases.jsonl"), "prompt": prompt}))
    assert task.prompt == (f"/*\n{prompt}\n*/\n" if is_prose else prompt)


def test_hidden_tests_of_livecodebench_are_unpacked_without_running_anything(tmp_path):
    packed = [{"input": "1\n", "output": "1\n", "testtype": "stdin"}]
    text = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(packed)))).decode()
    row = {**row_of("livecodebench.jsonl"), "private_test_cases": text}
    (task,) = load_tasks(write(tmp_path, row))
    assert task.hidden_cases == (Case("1\n", "1\n"),)
    assert load_tasks(write(tmp_path, {**row, "private_test_cases": packed})) == [task]
    harmful = base64.b64encode(zlib.compress(pickle.dumps(print))).decode()
    with pytest.raises(UserError, match=r"cannot be unpacked \(UnpicklingError\)"):
        load_tasks(write(tmp_path, {**row, "private_test_cases": harmful}))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("ours_with_extra_column.jsonl", {"refrence": "x"}, "'refrence' is not part of a task: do you mean 'reference'"),
        ("apps.jsonl", {"input_output": '{"fn_name": "f", "inputs": [[1]], "outputs": [1]}'}, "fn_name 'f'"),
        ("apps.jsonl", {"input_output": None}, "field 'input_output' is missing"),
        ("apps.jsonl", {"input_output": '{"inputs": ["1"], "outputs": []}'}, "1 inputs and 0 outputs"),
        ("code_contests.jsonl", {"public_tests": {}, "private_tests": {}}, "the row has no tests"),
        ("synthetic1.jsonl", {"verification_info": '{"test_cases": [{"type": "function_call", "input": "1", "output": "2"}]}'}, "type 'function_call'"),
        ("verl_parquet_row.jsonl", {"prompt": []}, "field 'prompt' is []"),
        ("leetcode_dataset.jsonl", {"test": "def check(candidate):\n    assert candidate(1)"}, "field 'test' is Python"),
        ("humaneval_x.jsonl", {"canonical_solution": 5}, "field 'canonical_solution' is 5"),
        ("ours_with_cases.jsonl", {"checker": "same"}, "field 'checker' is 'same'"),
        ("ours_with_cases.jsonl", {"test": "int main() {}"}, "both a test and cases"),
        ("ours_with_cases.jsonl", {"memory_limit": 1}, "memory_limit is 1: it must be a whole number from 16"),
        ("ours_with_cases.jsonl", {"relative_tolerance": "x"}, "relative_tolerance is 'x'"),
        ("ours_with_difficulty.jsonl", {"time_limit": 1}, "the row says how cases are judged, and has a test"),
        ("ours_with_cases.jsonl", {"checker_program": "x", "interactor": "y"}, "both a checker_program and an interactor"),
        ("ours_with_cases.jsonl", {"checker_program": 5}, "field 'checker_program' is 5: it must be a string"),
        ("ours_with_difficulty.jsonl", {"difficulty": 3}, "field 'difficulty' is 3"),
        ("ours_with_cases.jsonl", {"prompt": None}, "field 'prompt' is None"),
        ("apps.jsonl", {"question": None}, "field 'question' is None"),
        ("code_contests.jsonl", {"description": 5}, "field 'description' is 5"),
        ("code_contests.jsonl", {"public_tests": 5}, "field 'public_tests' is a int"),
        ("code_contests.jsonl", {"solutions": [{"language": 2}]}, "field 'solutions' is no mapping"),
        ("synthetic1.jsonl", {"verification_info": "{bad"}, "field 'verification_info' is no JSON"),
        ("synthetic1.jsonl", {"prompt": 5}, "field 'prompt' is 5"),
        ("verl_parquet_row.jsonl", {"prompt": [{"role": "user"}]}, "field 'prompt' is [{'role': 'user'}]"),
        ("humaneval_x.jsonl", {"test": "def check(candidate):\n    assert candidate(1)"}, "field 'test' has no 'main'"),
        ("humaneval_x.jsonl", {"test": "class Main { public static void main(String[] a) {} }"}, "field 'test' has no 'main'"),
        ("mbxp.jsonl", {"task_id": None}, "field 'task_id' is None"),
        ("synthetic1.jsonl", {"problem_id": None}, "field 'problem_id' is None"),
        ("code_contests.jsonl", {"name": ""}, "field 'name' is ''"),
        ("ours_with_cases.jsonl", {"prompt": "// \ud800"}, "field 'prompt' holds half of a surrogate pair"),
        ("mbxp.jsonl", {"test": ""}, "field 'test' has no 'main'"),
        ("multipl_e.jsonl", {"name": ["a"]}, "field 'name' is ['a']"),
        ("ours_with_cases.jsonl", {"task_id": "\ud800"}, "field 'task_id' holds half of a surrogate pair"),
        ("ours_with_cases.jsonl", {"entry_point": 5}, "field 'entry_point' is 5: it must be a string"),
        ("ours_with_cases.jsonl", {"mutant_kill_rate": 2}, "field 'mutant_kill_rate' is 2: it must be a share"),
        ("apps.jsonl", {"input_output": "[" * 100_000}, "field 'input_output' is no JSON"),
        ("livecodebench.jsonl", {"private_test_cases": 5}, "field 'private_test_cases' is a int"),
        ("code_contests.jsonl", {"solutions": {"language": 2, "solution": ""}}, "field 'language' is 2: it must be a list"),
        ("code_contests.jsonl", {"cf_tags": 3}, "field 'cf_tags' is 3: it must be a list"),
        ("codeforces_open_r1.jsonl", {"tags": "math"}, "field 'tags' is 'math': it must be a list"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named(tmp_path, name, change, words):
    with pytest.raises(UserError) as caught:
        load_tasks(write(tmp_path, {**row_of(name), **change}))
    assert f"{tmp_path / 'rows.jsonl'} line 1: " in str(caught.value)
    assert words in str(caught.value)


def test_a_number_will_do_for_a_name(tmp_path):
    (task,) = load_tasks(write(tmp_path, {**row_of("ours_with_cases.jsonl"), "task_id": 17}))
    assert task.task_id == "17"


def test_starter_code_is_opened_where_the_answer_goes_on():
    (task,) = load_tasks(FILES / "leetcode_dataset.jsonl")
    assert task.prompt.endswith("class Solution {\npublic:\n    int maxGap(vector<int>& v) {")


def test_a_statement_is_a_comment_and_its_answer_a_whole_program(tmp_path):
    (task,) = load_tasks(write(tmp_path, {**row_of("apps.jsonl"), "question": "Sum /* of */ n."}))
    assert task.prompt == "/*\nSum /* of * /\n n.\n*/\n".replace("\n n", " n")
    answer = "Sure:\n```cpp\n#include <iostream>\nint main() { std::cout << 3; }\n```"
    code = read_completion(task, answer, chat=True).code
    assert code == task.prompt + "#include <iostream>\nint main() { std::cout << 3; }\n\n"


def test_a_head_without_its_brace_is_continued_or_written_anew():
    (task,) = load_tasks(FILES / "humaneval_x_signature_without_brace.jsonl")
    body = "{\n    return 1;\n}"
    assert read_completion(task, f"{body}\nint other() {{").code == f"{task.prompt}{body}\n"
    whole = "int max_gap(std::vector<int> v) {\n    return 1;\n}"
    assert (
        read_completion(task, f"```cpp\n{whole}\n```", chat=True).code.split()[3:] == f"Largest gap {whole}".split()[0:]
    )
