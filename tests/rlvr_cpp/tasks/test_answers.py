"""Files of answers that other tools have written, filed by task."""

import gzip
import json

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.tasks.answers import read_answers
from rlvr_cpp.tasks.benchmarks import load_benchmark
from rlvr_cpp.tasks.settings import BenchmarkSettings
from rlvr_cpp.tasks.task import Task

TASKS = [Task(f"X/{n}", "int f() {", "int main() {}", "f") for n in range(3)]
TEXTS = {"X/0": ("a",), "X/1": ("b",), "X/2": ("c",)}


def write(path, rows):
    path.write_text(json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows(name, wrap=lambda text: text, key="task_id"):
    return [{key: task_id, name: wrap(text)} for task_id, (text,) in TEXTS.items()]


SHAPES = {
    "HumanEval": (rows("completion"), False),
    "EvalPlus": (rows("solution"), True),
    "EvalPlus, with both": ([{**row, "completion": "x"} for row in rows("solution")], True),
    "MultiPL-E": (rows("completions", lambda text: [text], key="name"), False),
    "HumanEval-X": ([{**row, "prompt": "int f() {"} for row in rows("generation")], False),
    "LiveCodeBench": (rows("code_list", lambda text: [text], key="question_id"), True),
    "lm-evaluation-harness": (
        [{"doc_id": n, "doc": {"task_id": i}, "resps": [list(t)], "filtered_resps": ["x"]} for n, (i, t) in enumerate(TEXTS.items())],
        False,
    ),
    "our own samples": ([{"kind": "greedy", "sample": 0, "result": {}, **row} for row in rows("completion")], False),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_what_other_tools_write_is_read_as_it_is(shape, tmp_path):
    content, are_whole = SHAPES[shape]
    answers = read_answers(write(tmp_path / "a.jsonl", content), TASKS)
    assert (answers.by_task, answers.are_whole) == (TEXTS, are_whole)
    assert (answers.samples, answers.remark("a")) == (1, None)


def test_lists_without_ids_are_in_the_order_of_the_tasks(tmp_path):
    lists = [["a", "d"], ["b", "e"], ["c", "f"]]
    answers = read_answers(write(tmp_path / "generations.json", lists), TASKS)
    assert (list(answers.by_task.values()), answers.are_whole) == ([tuple(texts) for texts in lists], True)
    with pytest.raises(UserError, match="2 lists of answers without ids for 3 tasks"):
        read_answers(write(tmp_path / "generations.json", lists[1:]), TASKS)


def test_several_answers_of_a_task_keep_their_order_and_what_does_not_fit_is_named(tmp_path):
    content = [{"task_id": i, "completion": t} for i, t in (("X/1", "b"), ("Y/7", "y"), ("X/1", "a"), ("X/0", "c"))]
    answers = read_answers(write(tmp_path / "a.jsonl", content), TASKS)
    assert answers.by_task == {"X/0": ("c",), "X/1": ("b", "a")}
    assert answers.samples == 2
    assert answers.remark("a.jsonl") == "a.jsonl has ids that are no task's: 1 (Y/7), tasks without an answer: 1 (X/2)"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"task_id": "X/0"}, "line 1: there is no answer: name its field 'completion' or 'solution'"),
        ({"completion": "a"}, "line 1: there is no task's id: name its field 'task_id'"),
        ({"task_id": "X/0", "completion": 7}, "line 1: field 'completion' is 7: it must be a text or a list of texts"),
        ({"task_id": "Y/0", "completion": "a"}, "answers none of the 3 tasks: its ids (such as 'Y/0')"),
    ],
)
def test_a_row_that_is_no_answer_is_refused_by_name(row, words, tmp_path):
    with pytest.raises(UserError) as refused:
        read_answers(write(tmp_path / "a.jsonl", [row]), TASKS)
    assert words in str(refused.value)


PROMPT = "// Twice x.\nlong twice(long x) {\n"
TESTS = "}\nint main() {\n    auto candidate = twice;\n    assert(candidate((3)) == (6));\n}\n"


@pytest.fixture
def multipl_e(tmp_path):
    """A folder as MultiPL-E leaves it: a file for each problem, and its verdicts beside them."""
    for number, packed in ((10, ".gz"), (2, ""), (1, ".gz")):
        kept = {"name": f"HumanEval_{number}_twice", "language": "cpp", "prompt": PROMPT, "tests": TESTS,
                "temperature": 0.2, "top_p": 0.95, "max_tokens": 512, "stop_tokens": ["\n}"]}  # fmt: skip
        answers = {**kept, "completions": ["    return 2 * x;", f"    return {number};"]}
        verdicts = {
            **kept,
            "results": [{"program": PROMPT, "status": "OK", "exit_code": 0, "stdout": "", "stderr": ""}],
        }
        for name, content in (
            (f"{kept['name']}.json{packed}", answers),
            (f"{kept['name']}.results.json{packed}", verdicts),
        ):
            text = json.dumps(content).encode()
            (tmp_path / name).write_bytes(gzip.compress(text) if packed else text)
    return tmp_path


def test_a_folder_of_multipl_e_is_tasks_and_answers_in_the_order_of_its_numbers(multipl_e):
    tasks = load_benchmark(benchmark_of(multipl_e)).tasks
    assert [task.task_id for task in tasks] == [f"HumanEval_{number}_twice" for number in (1, 2, 10)]
    assert {task.entry_point for task in tasks} == {"twice"}
    answers = read_answers(str(multipl_e), tasks)
    assert [texts[1] for texts in answers.by_task.values()] == [f"    return {number};" for number in (1, 2, 10)]
    assert (answers.samples, answers.are_whole, answers.remark("folder")) == (2, False, None)


def test_a_folder_of_verdicts_alone_is_one_sentence(multipl_e):
    for path in multipl_e.iterdir():
        if ".results." not in path.name:
            path.unlink()
    with pytest.raises(
        UserError, match=r"holds 3 files of verdicts \(HumanEval_10_twice\.results\.json\.gz\) and no answers"
    ):
        read_answers(str(multipl_e), TASKS)


@pytest.mark.parametrize("number", [1, 10])
def test_a_file_of_a_folder_that_is_cut_off_is_named(multipl_e, number):
    path = multipl_e / f"HumanEval_{number}_twice.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=rf"'.*HumanEval_{number}_twice\.json\.gz' cannot be read"):
        load_benchmark(benchmark_of(multipl_e))


def test_answers_in_another_language_are_refused(multipl_e):
    tasks = load_benchmark(benchmark_of(multipl_e)).tasks
    path = multipl_e / "HumanEval_2_twice.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "language": "rs"}))
    with pytest.raises(
        UserError, match=r"HumanEval_2_twice\.json row 1: field 'language' is 'rs': only answers in 'cpp'"
    ):
        read_answers(str(multipl_e), tasks)


def benchmark_of(folder):
    return BenchmarkSettings("humaneval_cpp", str(folder), None, None, "all", "hidden", None)
