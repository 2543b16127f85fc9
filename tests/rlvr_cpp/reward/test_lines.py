"""`rlvr-verify --jsonl`: one result a line, in order, each as soon as it is known."""

import json
import subprocess
import sys
from threading import Timer
from typing import Any

import pytest

from rlvr_cpp.verify import main

TEST = "#include <cassert>\nint main() { assert(f(2) == 4); assert(f(3) == 6); }"
TASK = {"prompt": "int f(int x) {\n", "test": TEST, "entry_point": "f", "task_id": "t"}
BODY = "    return 2 * x;\n}\n"
CODEFORCES = {"description": "Say 1.", "examples": [{"input": "1", "output": "1.0"}], "official_tests": []}
PRINTS = '#include <cstdio>\nint main() { std::puts("1.0"); }\n'
LINES: list[tuple[Any, str]] = [
    ({"id": 1, "code": "int f(int x) { return 2 * x; }", "test": TEST, "declaration": "int f(int);"}, "ok"),
    ({**TASK, "completion": BODY}, "ok"),
    ({**TASK, "id": 3, "completion": "    return 4;\n}\n"}, "wrong"),
    ({**TASK, "solution": f"Sure:\n\n{TASK['prompt']}{BODY}\nDone.\n"}, "ok"),
    ({"declaration": TASK["prompt"], "entry_point": "f", "test": TEST, "completion": BODY}, "ok"),
    ({"id": 6, "code": "int f(int x) { return 2 * x; }", "tests": TEST}, "do you mean 'test'?"),
    ({"id": 7}, "line 7: without a field 'code': there is no answer"),
    ([1], "line 8: a list where a JSON object should stand"),
    ({"id": 9, "code": PRINTS, "cases": [["", "1.1"]], "checker": "float", "absolute_tolerance": 0.2}, "ok"),
    ({"id": 10, "code": PRINTS, "cases": [["", "1.1"]], "time_limit": 0}, "line 10: time_limit is 0: it must be"),
    ({"id": 11, "code": PRINTS, "test": TEST, "tests_declared": "2"}, "line 11: tests_declared is '2'"),
    ({"id": 12, "code": [PRINTS]}, "line 12: code is a list"),
    ({**CODEFORCES, "id": "1/A", "solution": PRINTS}, "ok"),
    ({**CODEFORCES, "id": "1/B", "solution": PRINTS, "interaction_format": "Ask."}, "codeforces/1/B has no interactor"),
    ({**CODEFORCES, "id": "1/C", "solution": PRINTS, "tags": 5}, "line 15: the row: field 'tags' is 5"),
]


def write(tmp_path, rows):
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_every_line_has_its_result_in_its_place(tmp_path, capsys):
    assert main(["--jsonl", write(tmp_path, [row for row, _ in LINES])]) == 2
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(results) == len(LINES)
    for (row, expected), result in zip(LINES, results, strict=True):
        assert expected in (result.get("status") or result["error"])
        for name in ("id", "task_id") if isinstance(row, dict) else ():
            assert result.get(name) == row.get(name)


def test_what_the_options_say_holds_for_lines_that_say_nothing_else(tmp_path, capsys):
    (tmp_path / "t.cpp").write_text(TEST)
    rows = [{"code": "int f(int x) { return 2 * x; }", "declaration": "int f(int);"}]
    assert main(["--jsonl", write(tmp_path, rows), "--tests", str(tmp_path / "t.cpp")]) == 0
    assert json.loads(capsys.readouterr().out)["tests_total"] == 2
    assert main(["--jsonl", write(tmp_path, [{**TASK, "completion": "}"}])]) == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [(["--jsonl", "nowhere"], "'nowhere' cannot be read"), (["--jsonl", "-", "a.cpp"], "takes no files"), (["--jsonl", "-", "--tidy"], "takes no tidy")],
)  # fmt: skip
def test_a_call_that_makes_no_sense_is_refused_in_one_sentence(argv, words, capsys):
    assert main(argv) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_who_waits_for_a_result_before_the_next_line_gets_it():
    command = [sys.executable, "-m", "rlvr_cpp.verify", "--jsonl", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asked:
        watchdog = Timer(60, asked.kill)  # one that waits for more lines would wait for ever
        watchdog.start()
        for name in ("first", "second"):
            asked.stdin.write(json.dumps({"id": name, "code": f"int {name}() {{ return 0; }}"}) + "\n")
            asked.stdin.flush()
            result = json.loads(asked.stdout.readline())
            assert (result["id"], result["status"]) == (name, "ok")
        asked.stdin.close()
        assert asked.wait() == 0
        watchdog.cancel()
