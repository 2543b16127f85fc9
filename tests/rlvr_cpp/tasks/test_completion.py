"""From what a model wrote to what is judged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.tasks.completion import definition_start, read_completion
from rlvr_cpp.tasks.task import Task

FUNCTION = Task("f", "#include <string>\n// Adds.\nint f(int x) {\n", "", "f")
STRUCT = Task("s", "struct S {\n    void add(int x) {\n", "", "S")


@pytest.mark.parametrize(
    ("task", "completion", "kept"),
    [
        (FUNCTION, "    return x;\n}\n", "    return x;\n}"),
        (FUNCTION, "    return x;\n}\n\nint main() { evil(); }", "    return x;\n}"),
        (FUNCTION, "    if (x) { return 1; }\n    return 0;\n}\nint g() {}", "    if (x) { return 1; }\n    return 0;\n}"),
        (FUNCTION, '    auto s = "}"; // }\n    /* } */ char c = \'}\';\n}\nx', '    auto s = "}"; // }\n    /* } */ char c = \'}\';\n}'),
        (FUNCTION, 'auto s = R"(})"; auto t = "\\"}";\n}x', 'auto s = R"(})"; auto t = "\\"}";\n}'),
        (FUNCTION, "    if (x > 1'000) { x = 'a'; }\n    return x;\n}\nx", "    if (x > 1'000) { x = 'a'; }\n    return x;\n}"),
        (FUNCTION, "    return x;", "    return x;"),
        (FUNCTION, "#if 0\n{{{{\n#endif\nreturn x;\n}\nint main() {}", "#if 0\n{{{{\n#endif\nreturn x;\n}"),
        (FUNCTION, " # if 0 // off\n#ifdef A\n{\n#else\n{\n#endif\ndon't {\n#else\nreturn x; }\n#endif\nx", " # if 0 // off\n#ifdef A\n{\n#else\n{\n#endif\ndon't {\n#else\nreturn x; }"),
        (FUNCTION, "#if 0 + 1\n}\n#endif\nx", "#if 0 + 1\n}"),
        (FUNCTION, "// \\\n{{\n return x;\n}\nx", "// \\\n{{\n return x;\n}"),
        (FUNCTION, "", ""),
        (STRUCT, "        total += x;\n    }\n};\nint y;", "        total += x;\n    }\n};"),
    ],
)  # fmt: skip
def test_a_continuation_is_cut_where_it_closes_the_prompt(task, completion, kept):
    candidate = read_completion(task, completion)
    assert candidate.code == task.prompt + kept + "\n"


def test_thoughts_are_skipped_and_the_map_knows():
    completion = "<think>\n{ { {</think>    return x;\n}\nrest"
    candidate = read_completion(FUNCTION, completion)
    assert candidate.code == FUNCTION.prompt + "    return x;\n}\n"


def test_an_unclosed_thought_is_no_program():
    assert read_completion(FUNCTION, "<think> return x; }").code == ""


def test_a_chat_answer_that_defines_the_function_keeps_the_includes():
    answer = "Sure:\n```cpp\nint f(int x) {\n    return x;\n}\n```\nDone."
    candidate = read_completion(FUNCTION, answer, chat=True)
    assert candidate.code == "#include <string>\n// Adds.\nint f(int x) {\n    return x;\n}\n\n"


def test_a_chat_answer_that_gives_the_body_continues_the_prompt():
    candidate = read_completion(FUNCTION, "```\n    return x;\n}\n```", chat=True)
    assert candidate.code == FUNCTION.prompt + "    return x;\n}\n\n"


@pytest.mark.parametrize("head", ["auto f(int x) -> int {", "int f(int x) noexcept {", "int\nf(int x) {"])
def test_however_the_function_is_opened_it_is_whole(head):
    candidate = read_completion(FUNCTION, f"```cpp\n{head}\n    return x;\n}}\n```", chat=True)
    assert candidate.code.startswith("#include <string>\n// Adds.\n" + head)


def test_a_call_of_the_function_is_not_its_definition():
    body = "    if (f(x - 1)) { return 1; }\n    return 0;\n}\n"
    candidate = read_completion(FUNCTION, f"```cpp\n{body}```", chat=True)
    assert candidate.code == FUNCTION.prompt + body + "\n"


def test_a_comment_that_names_the_function_is_not_its_definition():
    task = Task("f", "int f(int x) {\n    // f it { \n", "", "f")
    candidate = read_completion(task, "```cpp\nint f(int x) {\n    return x;\n}\n```", chat=True)
    assert candidate.code == "int f(int x) {\n    return x;\n}\n\n"


def test_the_longest_fence_counts():
    answer = "```\nf(1)\n```\n```cpp\nint f(int x) { return x + 1; }\n```"
    assert "return x + 1" in read_completion(FUNCTION, answer, chat=True).code


def test_a_template_keeps_its_head_out_of_the_preamble():
    task = Task("t", "int g();\ntemplate <class T>\nstruct S {\n", "", "S")
    answer = "```cpp\ntemplate <class T>\nstruct S { T x; };\n```"
    assert read_completion(task, answer, chat=True).code.count("template") == 1


@given(st.text(alphabet="{}\"'/*\\ab \n;<think>`", max_size=80), st.booleans())
def test_the_map_points_at_the_models_own_text(completion, chat):
    candidate = read_completion(FUNCTION, completion, chat)
    own = candidate.code[candidate.start : candidate.start + candidate.length]
    assert own == completion[candidate.completion_start : candidate.completion_start + candidate.length]


@pytest.mark.parametrize(
    "piece", ['\\"', "\\'", 'R"x(\n', "f()", "f(a)\n", "f(", "struct f ", "#if 0\n", "`", "```", "/*", "f{"]
)
def test_a_long_completion_is_read_to_its_end(piece):
    text = piece * 300_000  # a quadratic reader would need many minutes
    for chat in (False, True):
        assert read_completion(FUNCTION, text, chat).code.startswith(FUNCTION.prompt)
    assert definition_start(text + ";\nint f(int (*g)(int (*)())) {", "g") is None
