"""A row of any framework becomes the task and the program that the trainers would see."""

import asyncio

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.reward.inspect_ai import judged
from rlvr_cpp.reward.rows import read_program, read_task
from rlvr_cpp.verifier.cases import Case

TEST = "#include <cassert>\nint main() { assert(twice(1) == 2); assert(twice(3) == 6); }\n"
RIGHT = "int twice(int x) { return 2 * x; }"
WRONG = "int twice(int x) { return x; }"
DRAFTS = f"<think>Maybe.\n```cpp\n{WRONG}\n```\n</think>\nFirst:\n```cpp\n{WRONG} // a long draft of it\n```\nNo:\n```cpp\n{RIGHT}\n```\n"
SHOWN = f"```cpp\n{RIGHT}\nint main() {{ return twice(1); }}\n```\nRun it:\n```bash\ng++ -O2 -Wall -Wextra -o twice twice.cpp && ./twice\n```"


@pytest.mark.parametrize("answer", [RIGHT, f"```\n{RIGHT}\n```", DRAFTS, SHOWN, f"It doubles.\n\n{RIGHT}\n\nDone."])
@pytest.mark.parametrize("row", [{}, {"declaration": "int twice(int x) {\n", "entry_point": "twice"}])
def test_an_answer_is_found_with_and_without_a_declaration(answer, row):
    assert str(read_program(answer, {"test": TEST, **row}).code).strip() == RIGHT


def test_the_last_program_is_put_to_cases():
    draft, whole = "int main() { return 1; } // a draft that is longer", "int main() { return 0; }"
    answer = f"```cpp\n{draft}\n```\nBetter:\n```cpp\n{whole}\n```"
    program = read_program(answer, {"cases": [{"input": "1", "output": "2"}]})
    assert (str(program.code).strip(), program.cases) == (whole, (Case("1", "2"),))
    program = read_program(answer, {"cases": [["1", "2"]], "checker": "float", "time_limit": 1.5})
    assert (program.checker, program.limits.time) == ("float", 1.5)


def test_the_columns_of_a_data_set_are_a_row():
    row = {"task_id": "CPP/0", "prompt": "int twice(int x) {\n", "canonical_solution": "return 2 * x; }", "test": TEST}
    task = read_task(row)
    assert (task.entry_point, task.tests_declared) == ("twice", 2)
    assert str(read_program(DRAFTS, row).code).strip() == RIGHT
    verl = {
        "data_source": "x",
        "prompt": [{"role": "user", "content": "Sum."}],
        "reward_model": {"ground_truth": '{"inputs": ["1"], "outputs": ["2"]}'},
    }
    assert read_task(verl).cases == (Case("1", "2"),)


def test_a_row_without_tests_is_refused():
    with pytest.raises(UserError, match="neither test nor cases"):
        read_task({"prompt": "x"})


def test_inspects_scorer_judges_what_a_samples_metadata_says():
    for answer, passed in ((DRAFTS, True), (f"```cpp\n{WRONG}\n```", False)):
        assert asyncio.run(judged(answer, {"test": TEST})).passed is passed
        assert asyncio.run(judged(answer, None, TEST)).passed is passed
