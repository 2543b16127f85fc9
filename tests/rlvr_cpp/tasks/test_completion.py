"""From what a model wrote to what is judged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.tasks.completion import read_completion
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
        (FUNCTION, "    return x;", "    return x;\n}"),
        (FUNCTION, "    return x + ", "    return x + "),
        (FUNCTION, "    if (x) {\n    return x;\n", "    if (x) {\n    return x;\n"),
        (FUNCTION, "    return x;\n```\nIt adds.", "    return x;\n}"),
        (FUNCTION, "#ifdef A\nif (x) {\n#else\nif (!x) {\n#endif\n}\nreturn x;\n}\nint main() {}", "#ifdef A\nif (x) {\n#else\nif (!x) {\n#endif\n}\nreturn x;\n}"),
        (STRUCT, "        total += x;\n", "        total += x;\n}\n};"),
        (STRUCT, "        total += x;\n    }", "        total += x;\n    }\n};"),
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


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("```\nf(1)\n```\n```cpp\nint f(int x) { return x + 1; }\n```", "int f(int x) { return x + 1; }"),
        ("```cpp\nint f(int x) { return 0; }\n```\nNo:\n```cpp\nint f(int x) { return 1; }\n```", "int f(int x) { return 1; }"),
        ("```cpp\nint f(int x) { return 1; }\n```\nSo:\n```cpp\nint f(int x) { ... }\n```", "int f(int x) { return 1; }"),
        ("```cpp\nint f(int x) { return 1; }\n```\nAgain:\n```cpp\nint f(int x) { return 2", "int f(int x) { return 1; }"),
        ("```cpp\nint f(int x) { return 1; }\n```\n```java\nint f(int x) { return 2; }\n```", "int f(int x) { return 1; }"),
        ("~~~\nint f(int x) { return 1; }\n~~~", "int f(int x) { return 1; }"),
        ("`````cpp\nint f(int x) { return 1; }\n`````", "int f(int x) { return 1; }"),
        ("1. First\n   ```cpp\n   int f(int x) { return 1; }\n   ```", "int f(int x) { return 1; }"),
        ("Here it is: ```cpp\nint f(int x) { return 1; }```", "int f(int x) { return 1; }"),
        ("Write `int f(int x) { return 1; }` there.", "int f(int x) { return 1; }"),
        ("```cpp\n\ufeffint f(int x) { return 1; }\n```", "int f(int x) { return 1; }"),
        ("So:\n\nint f(int x) {\n    return 1;\n}\n\nThat's all (really).", "int f(int x) {\n    return 1;\n}"),
        ("```cpp\nint f(int x) { return 1; }\n\nThis is right.", "int f(int x) { return 1; }"),
        ("```\ncpp\nint f(int x) { return 1; }\n```", "int f(int x) { return 1; }"),
        ("\\begin{verbatim}\nint f(int x) { return 1; }\n\\end{verbatim}", "int f(int x) { return 1; }"),
        ("<pre><code>int f(int x) {\n    return 1;\n}</code></pre>", "int f(int x) { return 1; }"),
        ("int f(int x) { return 1; }<|im_end|>\n", "int f(int x) { return 1; }"),
        ("<answer>int f(int x) { return 1; }</answer>", "int f(int x) { return 1; }"),
        ("<answer>\n```cpp\nint f(int x) { return 1; }\n```\n</answer> I hope", "int f(int x) { return 1; }"),
    ],
)  # fmt: skip
def test_the_block_counts_that_defines_what_is_asked_for(answer, kept):
    candidate = read_completion(FUNCTION, answer, chat=True)
    assert candidate.code.split() == f"#include <string> // Adds. {kept}".split()


GIVEN = Task(
    "g",
    "struct V { int x; };\nconst int LIMIT = 3;\nint top(int a) { return a; }\n\n// Does.\nint f(V v) {\n",
    "t",
    "f",
)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("struct V { int x; };\nint f(V v) { return 1; }", "struct V { int x; };\nconst int LIMIT = 3;\nint top(int a) { return a; }\n\n// Does.\nint f(V v) { return 1; }"),
        ("struct V { ... };\nint top(int b) { ... }\nint f(V v) { return 1; }", "struct V { int x; };\nconst int LIMIT = 3;\nint top(int a) { return a; }\n\n// Does.\nint f(V v) { return 1; }"),
        ("const int LIMIT = 4;\nint f(V v) { return 1; }", "struct V { int x; };\nint top(int a) { return a; }\n\n// Does.\nconst int LIMIT = 4;\nint f(V v) { return 1; }"),
        ("int top(int b) { return b + 1; }\nint f(V v) { return 1; }", "struct V { int x; };\nconst int LIMIT = 3;\n\n// Does.\nint top(int b) { return b + 1; }\nint f(V v) { return 1; }"),
        ("int f(V v) { return 1; }\nint main() { f({1}); }", "struct V { int x; };\nconst int LIMIT = 3;\nint top(int a) { return a; }\n\n// Does.\nint f(V v) { return 1; }"),
    ],
)  # fmt: skip
def test_nothing_is_defined_twice(answer, code):
    assert read_completion(GIVEN, f"```cpp\n{answer}\n```", chat=True).code.split() == code.split()


def test_a_namespace_that_is_given_is_not_given_twice():
    given = "namespace util {\nint one() { return 1; }\n}\n"
    task = Task("g", f"{given}int f(int x) {{\n", "t", "f")
    own = "int f(int x) { return util::one(); }"
    code = read_completion(task, f"```cpp\n{given}{own}\n```", chat=True).code
    assert code.split() == f"{given}{own}".split()
    more = "namespace util {\nint two() { return 2; }\n}\n"
    code = read_completion(task, f"```cpp\n{more}{own}\n```", chat=True).code
    assert code.split() == f"{given}{more}{own}".split()


def test_what_the_prompt_gives_may_need_what_the_answer_has_replaced():
    task = Task("g", "struct V { int x; };\nint top(V v) { return v.x; }\nint f(V v) {\n", "t", "f")
    answer = "#include <set>\nstruct V { int x; std::set<int> s; };\nint f(V v) { return top(v); }"
    code = read_completion(task, f"```cpp\n{answer}\n```", chat=True).code
    assert (
        code.split()
        == f"#include <set> struct V {{ int x; std::set<int> s; }}; int top(V v) {{ return v.x; }} {answer[-30:]}".split()
    )


@pytest.mark.parametrize(
    ("blocks", "code"),
    [
        (["#include <map>", "int f(int x) { return 1; }"], "#include <map> int f(int x) { return 1; }"),
        (["int one() { return 1; }", "int f(int x) { return one(); }"], "int one() { return 1; } int f(int x) { return one(); }"),
        (["int f(int x) { return one(); }", "int one() { return 1; }"], "int one() { return 1; } int f(int x) { return one(); }"),
        (["int f(int x) { return one(); }\nint one() { return 0; }", "int f(int x) { return one(); }"], "int one() { return 0; } int f(int x) { return one(); }"),
        (["int two() { return 2; }\nint one() { return two(); }\nint no() {}", "int f(int x) { return one(); }"], "int two() { return 2; } int one() { return two(); } int f(int x) { return one(); }"),
        (["int one() { return 1; }", "int f(int x) { int one = 1; return one; }"], "int f(int x) { int one = 1; return one; }"),
        (["int f(int x) { return 1; }", "int main() { return f(1); }"], "int f(int x) { return 1; }"),
        (["const int N = 3;\nint g[N];", "int f(int x) { return g[x % N]; }"], "const int N = 3; int g[N]; int f(int x) { return g[x % N]; }"),
    ],
)  # fmt: skip
def test_blocks_are_joined_where_one_needs_the_other(blocks, code):
    answer = "Then:\n".join(f"```cpp\n{block}\n```\n" for block in blocks)
    task = Task("f", "int f(int x) {\n", "t", "f")
    assert read_completion(task, answer, chat=True).code.split() == code.split()


METHOD = Task(
    "m",
    "#include <vector>\nclass Solution {\npublic:\n    int k = 2;\n    // Gains.\n    int gain(int p) {\n",
    "t",
    "gain",
)


def test_a_class_is_whole_or_one_of_its_methods_takes_its_place():
    whole = "class Solution {\npublic:\n    int gain(int p) { return p; }\n};"
    assert read_completion(METHOD, f"```cpp\n{whole}\n```", chat=True).code == f"#include <vector>\n{whole}\n\n"
    method = "int gain(int p) { return k * p; }"
    code = read_completion(METHOD, f"```cpp\n{method}\n```", chat=True).code
    assert code.split() == (METHOD.prompt.removesuffix("int gain(int p) {\n") + method + " };").split()


def test_a_namespace_is_taken_up_again_or_opened_to_all():
    opened = Task("n", "namespace a {\nstruct V { int x; };\nint f(V v) {\n", "t", "f")
    again = "namespace a {\nint f(V v) { return 1; }\n}"
    code = read_completion(opened, f"```cpp\n{again}\n```", chat=True).code
    assert code.split() == ["namespace", "a", "{", "struct", "V", "{", "int", "x;", "};", "}", *again.split()]
    bare = "int f(V v) { return 1; }"
    code = read_completion(opened, f"```cpp\n{bare}\n```", chat=True).code
    assert code.split() == f"namespace a {{ struct V {{ int x; }}; {bare} }}".split()
    used = "namespace mine {\nint f(int x) { return 1; }\n}\nusing namespace mine;"
    code = read_completion(FUNCTION, f"```cpp\n{used}\n```", chat=True).code
    assert code.split() == f"#include <string> // Adds. {used}".split()


def test_a_class_that_the_prompt_gives_whole_is_replaced():
    task = Task("m", "class Solution {\npublic:\n    int gain(int p) {\n    }\n};\n", "t", "gain")
    whole = "class Solution {\npublic:\n    int gain(int p) { return p; }\n};"
    assert read_completion(task, f"```cpp\n{whole}\n```", chat=True).code.split() == whole.split()


@pytest.mark.parametrize("behind", ["", "\nIt adds.", "\n```\nOr:\n```cpp\nint f(int x) { return 2; }\n```\n"])
@pytest.mark.parametrize("before", ["", "int f(int x) {\n"])
def test_what_a_base_model_writes_behind_its_answer_changes_nothing(before, behind):
    code = read_completion(FUNCTION, f"{before}    return 1;\n}}\n{behind}").code
    assert code.split()[-8:] == ["Adds.", "int", "f(int", "x)", "{", "return", "1;", "}"]


@pytest.mark.parametrize(
    "completion",
    [
        "Here is the rest:\n\n```cpp\n    return 1;\n}\n```",
        "int f(int x) {\n    return 1;\n}",
        "#include <string>\n// Adds.\nint f(int x) {\n    return 1;\n}\n\nint other(int y) {\n    return",
        "```cpp\nint f(int x) {\n    return 1;\n}\n```\nIt adds.",
        "Sure:\n```cpp\nint f(int x) {\n    return 1;\n}\n```",
    ],
)
def test_a_base_model_may_write_the_function_anew(completion):
    code = read_completion(FUNCTION, completion).code
    assert code.split()[-8:] == ["Adds.", "int", "f(int", "x)", "{", "return", "1;", "}"]


def test_a_main_is_kept_where_no_test_brings_one():
    program = "#include <iostream>\nint main() {\n    std::cout << 1;\n}"
    for task in (Task("i", "// Prints 1.\n", "", "main"), Task("i", "// Prints 1.\n", "int main();", "main")):
        assert program in read_completion(task, f"```cpp\n{program}\n```", chat=True).code


def test_a_template_keeps_its_head_out_of_the_preamble():
    task = Task("t", "int g();\ntemplate <class T>\nstruct S {\n", "", "S")
    answer = "```cpp\ntemplate <class T>\nstruct S { T x; };\n```"
    assert read_completion(task, answer, chat=True).code.count("template") == 1


WORDS = st.sampled_from(
    ["int f(int x) {", "    return x;\n", "}", "};", "\n```\n", "\n```cpp\n", "~~~", "#include <map>\n", "int main() {", "struct V {",
     "#ifdef A\n", "#else\n", "#endif\n", '"', "'", "/*", "*/", 'R"(', ")", "<think>", "</think>", "Prose.\n", "int one() { return 1; }\n",
     "one();", "namespace {", "template <class T>\n", "(", ";", "\ufeff", "\n", "<answer>", "> ", "\n> ```cpp\n> ", "\n>> ~~~", "void S::add(int x) {",
     "int operator+=(", "f(x, 1);"]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=20).map("".join)


@given(TEXTS, st.sampled_from([FUNCTION, STRUCT, GIVEN, METHOD]), st.booleans())
def test_text_program_and_map_agree(completion, task, chat):
    candidate = read_completion(task, completion, chat)
    written = [False] * len(completion)
    for piece in candidate.pieces:
        own = completion[piece.origin : piece.origin + piece.length]
        assert candidate.code[piece.start : piece.start + piece.length] == own
        assert not any(written[piece.origin : piece.origin + piece.length])
        written[piece.origin : piece.origin + piece.length] = [True] * piece.length
    ends = [piece.start + piece.length for piece in candidate.pieces]
    assert all(end <= piece.start for end, piece in zip(ends, candidate.pieces[1:], strict=False))


@given(TEXTS, TEXTS)
def test_prose_around_a_fence_changes_nothing(before, behind):
    answer = "```cpp\nint f(int x) { return 7; }\n```"
    prose = [text.replace("`", "").replace("~", "").replace("<", "").replace("{", "") for text in (before, behind)]
    candidate = read_completion(FUNCTION, f"{prose[0]}\n\n{answer}\n\n{prose[1]}", chat=True)
    assert "int f(int x) { return 7; }" in candidate.code


@pytest.mark.parametrize(
    "piece",
    [
        "{",
        "}",
        "`",
        "```\n",
        "int f(int x) {",
        "f(a<",
        "#if A\n",
        'R"(\n```\n',
        "struct f ",
        "/*",
        "> ",
        "> ```\n> f\n\n",
        "f(",
        "+=",
        '#include "a.h"\n',
        '#include "/',
        "a.h.",
    ],
)
def test_a_hostile_answer_is_read_in_a_time_that_grows_with_it(piece):
    text = piece * (12_000 // len(piece))  # a quadratic reader would need minutes
    for chat in (False, True):
        assert isinstance(read_completion(FUNCTION, text, chat).code, str)


@pytest.mark.parametrize("piece", ['\\"', "f(a)\n"])
def test_an_answer_that_is_far_too_long_is_a_continuation(piece):
    text = piece * 70_000
    for chat in (False, True):
        assert read_completion(FUNCTION, text, chat).code.startswith(FUNCTION.prompt)


QUOTED = "Sure:\n\n> ```cpp\n> int f(int x) {\n>\n>     return x > 1;\n> }\n> ```\n\nDone."


def test_a_quotation_is_read_without_its_marks_and_the_map_leads_past_them():
    candidate = read_completion(FUNCTION, QUOTED, chat=True)
    assert candidate.code.endswith("int f(int x) {\n\n    return x > 1;\n}\n\n")
    written = [QUOTED[piece.origin : piece.origin + piece.length] for piece in candidate.pieces]
    assert written == ["int f(int x) {\n", "\n", "    return x > 1;\n", "}\n"]


@pytest.mark.parametrize("code", ["int f(int x) {\n> return x;\n}", "int f(int x) {\n    return x\n> 1\n> 2;\n}"])
def test_a_mark_of_quotation_without_a_fence_behind_it_is_code(code):
    assert code in read_completion(FUNCTION, f"```cpp\n{code}\n```", chat=True).code


@pytest.mark.parametrize(
    "body",
    ["for (int i : {1, 2})\nx += i;\nreturn x;\n}\n", "    return x +\n        1;\n}\n"],
    ids=["loop", "sum"],
)
def test_prose_around_a_body_without_a_fence_is_left_out(body):
    for before, behind in (("", ""), ("The body is:\n\n", "\nIt adds three numbers."), ("Then, in C++:\n", "")):
        code = read_completion(FUNCTION, before + body + behind, chat=True).code
        assert code == f"{FUNCTION.prompt}{body}"


def test_a_method_that_is_defined_outside_of_its_class_closes_the_class_before():
    code = read_completion(METHOD, "```cpp\nint Solution::gain(int p) { return p; }\n```", chat=True).code
    assert code.split() == f"{METHOD.prompt.rstrip()[:-1]}; }}; int Solution::gain(int p) {{ return p; }}".split()


OVERLOAD = "int f(int x, int base) { return base ? f(x - 1, base - 1) : x; }"


@pytest.mark.parametrize(
    ("call", "is_taken"), [("f(x, 3)", True), ("f({x, 3})", False), ("f(x - 1)", False), ("3", False)]
)
def test_an_overload_in_another_block_is_taken_where_the_answer_calls_it(call, is_taken):
    answer = f"int f(int x) {{ return x ? {call} : 0; }}"
    for blocks in ((OVERLOAD, answer), (answer, OVERLOAD)):
        code = read_completion(FUNCTION, "".join(f"```cpp\n{block}\n```\n" for block in blocks), chat=True).code
        assert (OVERLOAD in code) == is_taken
        assert not is_taken or code.index(OVERLOAD) < code.index(answer)


def test_an_operator_in_another_block_is_taken_where_it_is_used_and_a_drafts_is_not():
    operator, answer = "int& operator+=(V& v, int n) { return v.x += n; }", "int f(int x) { V v; v += x; return v.x; }"
    given = Task("v", "struct V { int x = 0; };\nint f(int x) {\n", "", "f")
    helper = f"```cpp\n{operator}\n```\n"
    draft = f"```cpp\n{operator}\nint f(int x) {{ return 0; }}\n```\n"
    for before, is_taken in ((helper, True), (draft, False)):
        code = read_completion(given, f"{before}```cpp\n{answer}\n```", chat=True).code
        assert (operator in code, answer in code) == (is_taken, True)


@pytest.mark.parametrize(
    "body", ["\n  look at each value;\n  return it;\n", "\n  add x\n", " return the sum of all; "], ids=str.split
)
def test_pseudocode_is_no_correction(body):
    answer = f"```cpp\n{DEFINITION}```\nIn words:\n```\nint f(int x) {{{body}}}\n```"
    assert DEFINITION in read_completion(FUNCTION, answer, chat=True).code


def test_a_whole_definition_in_prose_corrects_a_fenced_one_and_a_cut_one_does_not():
    later = "int f(int x) { return x + 1; }"
    for text, kept in ((later, later), (later[:-1], DEFINITION), ("int f(int x);", DEFINITION)):
        assert kept in read_completion(FUNCTION, f"```cpp\n{DEFINITION}```\nNo:\n\n{text}\n\nDone.", chat=True).code


SHOWN = Task("m", "class S {\npublic:\n    int f(int x) {\n", "", "S")
DEFINITION = "int f(int x) { return x; }\n"


@pytest.mark.parametrize("behind", ["", "};\n", "};\nint g() { return 0; }\n"])
def test_a_method_alone_stays_as_open_as_the_prompt_has_it_and_its_class_is_closed_once(behind):
    code = read_completion(SHOWN, f"```cpp\n{DEFINITION}{behind}```", chat=True).code
    assert "public:" in code
    assert code.count("};") == 1


@pytest.mark.parametrize(
    "other", ["int f(int x, int base) { return x + base; }", "int f(const int* v, int n) { return n; }"]
)
def test_an_overload_in_a_later_block_is_not_the_answer(other):
    code = read_completion(FUNCTION, f"```cpp\n{DEFINITION}```\nor\n```cpp\n{other}\n```", chat=True).code
    assert DEFINITION in code
    assert other not in code


def test_a_default_argument_makes_an_overload_the_answer():
    later = "int f(int x, int base = 0) { return x + base; }"
    assert later in read_completion(FUNCTION, f"```\n{DEFINITION}```\nor\n```\n{later}\n```", chat=True).code


def test_a_class_from_another_block_comes_with_its_members():
    blocks = ["struct A { int g(); };", "int A::g() { return 1; }", "int f(int x) { return x + A().g(); }"]
    for order in (blocks, blocks[::-1]):
        code = read_completion(FUNCTION, "".join(f"```cpp\n{block}\n```\n" for block in order), chat=True).code
        assert sorted(blocks, key=code.index) == [blocks[0], blocks[2], blocks[1]]


def test_includes_that_are_named_behind_the_answer_stand_before_it():
    answer = f"```cpp\n{DEFINITION}```\nRemember:\n```cpp\n#include <numeric>\n```"
    code = read_completion(FUNCTION, answer, chat=True).code
    assert code.index("#include <numeric>") < code.index(DEFINITION)


def test_what_a_base_model_writes_after_the_whole_answer_is_cut():
    program = Task("p", "// Says 1.\n", "", "main")
    first, second = 'int main() { puts("1"); }\n', 'int main() { puts("2"); }\nint main('
    assert read_completion(program, first + "// Says 2.\n" + second).code.strip() == program.prompt + first.strip()
    overload = "int f(int x, int y) { return x; }\n"
    for text in (overload + DEFINITION, DEFINITION + overload):
        assert text.strip() in read_completion(FUNCTION, text + "\n" + DEFINITION.replace("x;", "0;")).code


HEADER = "`f.h`:\n```cpp\n#pragma once\n#include <numeric>\nint f(int x);\n```\n`f.cpp`:\n```cpp\n"


def test_files_of_one_answer_are_one_text():
    answer = HEADER + f'#include "src/f.h"\n#include "cmath"\n{DEFINITION}```'
    candidate = read_completion(FUNCTION, answer, chat=True)
    assert candidate.code.index("#include <numeric>") < candidate.code.index(DEFINITION)
    assert '#include "cmath"' in candidate.code
    assert "f.h" not in candidate.code
    for piece in candidate.pieces:
        assert candidate.code[piece.start :].startswith(answer[piece.origin : piece.origin + piece.length])


@pytest.mark.parametrize("line", ['#include "g.h"', '#include "math.h"'])
def test_a_file_that_is_not_the_answers_own_stays_included(line):
    answer = f"It needs math.h.\n```cpp\n{line}\n{DEFINITION}```"
    assert line in read_completion(FUNCTION, answer, chat=True).code


def test_what_a_sentence_shows_between_ticks_is_the_answer_only_where_no_block_is():
    aside = "Never write `int f(int x) { return 0; }`.\n"
    code = read_completion(FUNCTION, f"```cpp\n{DEFINITION}```\n{aside}", chat=True).code
    assert DEFINITION in code
    assert "return 0" not in code
    assert "return 0" in read_completion(FUNCTION, aside, chat=True).code


@pytest.mark.parametrize(
    "end", ["<end_of_turn>\n<eos>", "<｜end▁of▁sentence｜>", "<|fim▁end|>", " <EOT>", "</s><|im_end|>"]
)
def test_tokens_that_end_a_turn_are_no_code(end):
    code = read_completion(FUNCTION, f"{DEFINITION}{end}", chat=True).code
    assert code.rstrip() == f"#include <string>\n// Adds.\n{DEFINITION}".rstrip()


@pytest.mark.parametrize(
    "info", ["{#f .cpp}", "cpp\u00a0", "{.cpp .numberLines}", "cpp showLineNumbers", '{.cpp #id startFrom="3"}']
)
def test_attributes_behind_the_language_of_a_fence_are_no_code(info):
    code = read_completion(FUNCTION, f"```{info}\n{DEFINITION}```", chat=True).code
    assert code == f"#include <string>\n// Adds.\n{DEFINITION}\n"


def test_a_result_that_is_named_as_its_function_is_no_answer_by_itself():
    body = "    int total = 0;\n    int sum_digits = n % 10;\n    return sum_digits + total;\n}\nint next() {"
    task = Task("a", "int sum_digits(int n) {\n", "int main() {}", "sum_digits")
    assert read_completion(task, body).code.rstrip() == task.prompt + body[: body.index("int next")].rstrip()
