"""Wrong twins: they fail whatever the tests ask, and where they can by their values alone."""

import pytest

from rlvr_cpp import Verifier
from rlvr_cpp.tasks.negation import negated_solution
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks


def twin(prompt, reference):
    return negated_solution(Task("t", prompt, "", "f", reference=reference))


@pytest.mark.parametrize(
    ("prompt", "reference", "wanted"),
    [
        ("bool f(int x) {\n", "    return x > 2;\n}\n", "    return !(x > 2);\n}\n"),
        ("long long f(int x){\n", " if (x) return 1; else return g(x);\n}\n", " if (x) return !(1); else return !(g(x));\n}\n"),
        ("using namespace std;\nstring f(int x) {\n", "return to_string(x);}", 'return string(to_string(x)) + "~";}'),
        ("std::string f() {\n", 'return "é";}', 'return std::string("é") + "~";}'),
        ("int f(int n) {\n", "return n < 2 ? n : f(n - 1);}", " throw 0;return n < 2 ? n : f(n - 1);}"),
        ("std::vector<int> f() {\n", "return {};}", " throw 0;return {};}"),
        ("void f(int& x) {\n", "x = 2;}", " throw 0;x = 2;}"),
        ("struct f {\n", "int g() { return 1; }\nint h() { return 2; }\n};", "int g() { throw 0; return 1; }\nint h() { throw 0; return 2; }\n};"),
        ("int f(int x) {\n", "auto g = [](int y) { return y; };\nreturn g(x);}", "auto g = [](int y) { return y; };\nreturn !(g(x));}"),
    ],
    ids=["truth", "number", "string", "literal", "recursion", "vector", "nothing", "class", "lambda"],
)  # fmt: skip
def test_a_twin(prompt, reference, wanted):
    assert twin(prompt, reference) == wanted


def test_without_a_reference_there_is_no_twin():
    with pytest.raises(ValueError, match="has no reference"):
        twin("int f() {", None)


def test_every_twin_of_every_family_compiles_and_fails():
    chosen = {task.tags[0]: task for task in load_tasks(BUILTIN)}.values()
    with Verifier() as verifier:
        results = verifier.verify_many(
            [task.program(task.prompt + negated_solution(task), hidden=True) for task in chosen]
        )
    assert [result.compile_ok for result in results] == [True] * len(chosen)
    assert [result.passed for result in results] == [False] * len(chosen)
    assert {result.status for result in results} <= {"wrong", "run_error"}
