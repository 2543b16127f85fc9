"""A test's own mistake is nobody's score, and what an answer did wrong is told at its own lines and in its own words."""

import dataclasses

import pytest

from rlvr_cpp import Program, compute_reward
from rlvr_cpp.verifier.command import main

RIGHT = "int twice(int x) { return 2 * x; }\n"
ASSERTS = "#include <cassert>\nint twice(int x);\nint main() {\n    assert(twice(1) == 2)%s\n}\n"
BAD = {
    "": "is empty",
    "// nothing yet\n": "is empty",
    "\0\1\2": "is no text: it holds a zero byte",
    "int twice(int);\nvoid test() {}\n": "has no main",
    "int main() { return 1; }\n": "reports nothing",
    ASSERTS % " +": "does not compile: line 5: expected",
    ASSERTS.replace("cassert", "no/such/header") % ";": "does not compile: line 1: no/such/header",
}


@pytest.mark.parametrize("test", BAD)
def test_a_test_that_nobody_can_pass_is_nobodys_score_and_told_in_a_sentence(verifier, tmp_path, capsys, test):
    result = verifier.verify(Program(RIGHT, test))
    assert (result.status, result.error_class) == ("sandbox_error", "bad_test")
    assert result.stderr.startswith(f"test {BAD[test]}")
    assert compute_reward(result) is None
    for name, text in (("a.cpp", RIGHT), ("t.cpp", test)):
        (tmp_path / name).write_text(text)
    path = str(tmp_path / "t.cpp")
    assert main([str(tmp_path / "a.cpp"), "--tests", path]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"error: {path!r} {BAD[test]}")
    assert (told.out, told.err.count("\n")) == ("", 1)


BOX = "struct Box { int get() const { return 3; } };\n"
OF_BOX = "#include <cassert>\nint main() { Box b; assert(b.get() == 3); assert(b.size() == 3); }\n"


def test_a_test_that_asks_its_reference_for_what_it_lacks_is_wrong_and_one_that_asks_an_answer_is_not(verifier):
    complete = BOX.replace("};", "int size() const { return 3; } };")
    asked = Program(BOX, OF_BOX, hidden_test=OF_BOX)
    by_task, by_answer, hidden = verifier.verify_many(
        [
            dataclasses.replace(asked, reference=BOX),
            dataclasses.replace(asked, reference=complete),
            dataclasses.replace(asked, code=RIGHT, test=ASSERTS % ";", hidden_test=""),
        ]
    )
    assert (by_task.status, by_task.error_class) == ("sandbox_error", "bad_test")
    assert "no member named 'size'" in by_task.stderr
    assert (by_answer.status, by_answer.tests_passed) == ("compile_error", 0)
    assert "no member named 'size'" in by_answer.diagnostics[0].message
    assert "rlvr" not in f"{by_answer.stderr}{by_answer.diagnostics}"
    assert (hidden.status, hidden.stderr.split(":")[0]) == ("sandbox_error", "hidden_test is empty")


def test_a_brace_that_an_answer_lacks_is_missing_at_its_own_line(verifier):
    reference = BOX.replace("};", "int size() const { return 3; } };")
    open_ended = reference.rstrip().removesuffix("};")
    unlinked = Program("int once(int);\n", ASSERTS % ";")
    broken, undefined = verifier.verify_many([Program(open_ended, OF_BOX, reference=reference), unlinked])
    assert broken.status == "compile_error"
    assert {one.file for one in broken.diagnostics} == {"candidate.cpp"}
    assert undefined.status in ("link_error", "compile_error")
    for result in (broken, undefined):
        assert "rlvr" not in f"{result.stderr}{result.diagnostics}"
