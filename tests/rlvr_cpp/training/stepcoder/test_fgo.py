"""Which tokens a verdict says something about."""

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rlvr_cpp
from rlvr_cpp import Program, Verifier, VerifyResult
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.stepcoder.fgo import coverage_mask, error_mask, first_error_line, own_lines, tokens_until
from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic, parse_diagnostics
from rlvr_cpp.verifier.status import Status

VECTORS = json.loads((Path(__file__).parents[3] / "data" / "fgo_diagnostics.json").read_text())
SHELF = Path(rlvr_cpp.__file__).parent / "models"
PREAMBLE = "#include <vector>\n#include <algorithm>\n#include <cstdio>\n"
HARNESS = '\nint main(){ std::printf("PASSED %d/1\\n", f(3)==9); }\n'
TASK = Task("f", "#include <cstdio>\n// The square.\nint f(int x) {\n", HARNESS, "f", tests_declared=1)
END = 256  # of sequence


def encode(text: str) -> list[int]:
    """A token for every byte, and one for the end."""
    return [*text.encode(), END]


def decode(ids) -> str:
    return bytes(token for token in ids if token != END).decode(errors="replace")


def kept(mask, ids, decode=decode) -> str:
    return decode([token for token, keep in zip(ids, mask, strict=True) if keep])


def error(line: int, file: str = "candidate.cpp", severity: str = "error", chain=()) -> Diagnostic:
    return Diagnostic(file, line, 1, severity, "no", None, chain)


def failed(*diagnostics: Diagnostic, status: Status = "compile_error") -> VerifyResult:
    return VerifyResult(status, compile_ok=False, run_ok=False, diagnostics=diagnostics)


# --- the line of an error, of real compilers

BETTER = {
    "line_directive_attack": 3  # the vector's parser is deceived by `#line`, the verifier looks at a copy without it
}


@cache
def real_results(compiler: str) -> dict[str, VerifyResult]:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    names = [name for name in VECTORS if name.startswith(f"{compiler}:")]
    programs = [Program(PREAMBLE + VECTORS[name]["code"] + "\n", HARNESS, 1) for name in names]
    with Verifier(compiler=compiler, workers=2) as verifier:
        return dict(zip(names, verifier.verify_many(programs), strict=True))


def known_line(vector) -> int | None:
    """The vector's answer; it says the last line where the compiler's own says nothing."""
    places = (vector["completion_line"], vector["header_fallback_line"])
    return vector["effective_line"] if vector["effective_line"] in places else None


def code_lines(vector) -> range:
    return range(vector["preamble_lines"] + 1, vector["preamble_lines"] + 1 + vector["n_lines"])


@pytest.mark.parametrize("name", VECTORS)
def test_vector_of_the_first_error_of_a_real_compiler(name):
    vector = VECTORS[name]
    compiler, _, case = name.partition(":")
    result = real_results(compiler)[name]
    assert result.status == ("link_error" if case == "link_error" else "compile_error")
    line = first_error_line(result.diagnostics, code_lines(vector))
    found = None if line is None else line - vector["preamble_lines"]
    if case == "missing_close_brace":
        # the candidate is a file of its own: its end is found missing there, on its last line or behind, not in the
        # tests; the same is kept either way
        assert found in (vector["n_lines"], None)
    else:
        assert found == BETTER.get(case, known_line(vector))


@pytest.mark.parametrize("name", [name for name in VECTORS if "header" not in name])  # recorded in part only
def test_vector_of_the_first_error_in_recorded_text(name):
    vector = VECTORS[name]
    line = first_error_line(parse_diagnostics(vector["stderr_head"]), code_lines(vector), file="solution.cpp")
    assert (line and line - vector["preamble_lines"]) == known_line(vector)


@pytest.mark.parametrize("name", [name for name in VECTORS if "think" not in name])  # it is no part of a candidate
def test_vector_of_the_lines_that_are_kept(name):
    vector = VECTORS[name]
    compiler, _, case = name.partition(":")
    candidate = read_completion(Task("v", PREAMBLE, HARNESS, "f"), vector["code"])
    ids = encode(vector["code"])
    text = kept(error_mask(real_results(compiler)[name], candidate, ids, decode), ids)
    assert vector["code"].startswith(text)
    assert text.count("\n") == BETTER.get(case, vector["effective_line"])


# --- the line of an error, as a rule


def test_a_warning_and_a_note_are_no_errors():
    assert first_error_line([error(4, severity="warning"), error(5, severity="note"), error(6)], range(1, 9)) == 6


def test_an_error_of_the_tests_or_of_given_code_has_no_place():
    assert first_error_line([error(4, file="rlvr_harness.cpp"), error(2)], range(3, 9)) is None


def test_an_error_in_a_header_has_the_innermost_place_that_instantiated_it():
    chain = (
        "/usr/include/x.h: In instantiation of 'void g()'",
        "/usr/include/x.h:7:3: required from 'void h()'",
        "candidate.cpp:2:3: required from 'void given()'",
        "candidate.cpp:5:3: required from 'void own()'",
        "candidate.cpp:8:9: required from here",
    )
    assert first_error_line([error(5, file="/usr/include/x.h", chain=chain)], range(4, 10)) == 5


def test_the_first_error_with_a_place_counts():
    assert first_error_line([error(99, file="/usr/include/x.h"), error(6), error(5)], range(1, 9)) == 6


def test_the_text_is_in_the_lines_that_are_the_models():
    assert own_lines(read_completion(TASK, "    return x;\n}\n")) == range(4, 7)


def test_given_lines_are_not_the_models():
    given = "    int y = x;\n"
    assert own_lines(read_completion(TASK, given + "    return y;\n}\n"), len(given)) == range(5, 8)


# --- tokens


def test_a_token_counts_that_begins_at_the_offset():
    ids = list(b"abc")
    assert [tokens_until(ids, offset, decode) for offset in (-1, 0, 1, 2, 9)] == [0, 1, 2, 3, 3]


def test_offsets_count_characters_and_not_bytes():
    ids = list("é\nx".encode())
    assert decode(ids[: tokens_until(ids, 1, decode)]) == "é\n"


# --- after a compile error


def mask_of(completion: str, result: VerifyResult, chat: bool = False, given: str = "") -> str:
    """What is kept of a completion."""
    candidate = read_completion(TASK, given + completion, chat)
    ids = encode(completion)
    return kept(error_mask(result, candidate, ids, decode, len(given)), ids)


BODY = "    int y = x * x;\n    return z;\n    // behind\n}\n"


def test_the_line_of_the_error_stays_and_what_follows_goes():
    assert mask_of(BODY, failed(error(5))) == "    int y = x * x;\n    return z;\n"


def test_the_overrun_and_the_end_go_with_the_rest():
    ids = encode(BODY + "int main() {}\n")
    mask = error_mask(failed(error(4)), read_completion(TASK, decode(ids)), ids, decode)
    assert kept(mask, ids) == "    int y = x * x;\n"
    assert mask[-1] == 0


def test_an_error_at_the_end_of_the_text_keeps_the_end_of_sequence():
    completion = "    return x * x;\n"  # the brace is missing, which ending there has caused
    ids = encode(completion)
    for line in (4, 5, 6):
        mask = error_mask(failed(error(line)), read_completion(TASK, completion), ids, decode)
        assert mask[-1] == (line > 4)


@pytest.mark.parametrize(
    "result",
    [
        VerifyResult("wrong", compile_ok=True, run_ok=True, diagnostics=(error(4, severity="warning"),)),
        failed(error(4), status="link_error"),
        failed(error(4), status="sandbox_error"),
        failed(error(4), status="compile_limit"),
        failed(error(2)),
        failed(error(99)),
        failed(error(4, file="rlvr_harness.cpp")),
        failed(),
    ],
    ids=["compiled", "linker", "sandbox", "limit", "prompt", "nowhere", "tests", "nothing said"],
)
def test_all_stays_where_no_compile_error_has_a_place_in_the_models_text(result):
    ids = encode(BODY)
    assert error_mask(result, read_completion(TASK, BODY), ids, decode) == [1] * len(ids)


def test_an_error_in_the_given_prefix_keeps_all():
    assert mask_of("    return y;\n}\n", failed(error(4)), given="    int y = x * x;\n") == "    return y;\n}\n"


def test_lines_are_counted_through_the_given_prefix():
    completion = "    y += z;\n    return y;\n}\n"
    assert mask_of(completion, failed(error(5)), given="    int y = x * x;\n") == "    y += z;\n"


def test_an_answer_without_code_is_kept():
    assert mask_of("<think> never ends", failed()) == "<think> never ends"


ANSWER = """<think>
Square it: {
</think>
Here it is, not `short`:
```cpp
// The square of é.
int f(int x) {
    int y = x * x;
    return z;
    // behind
}
```
Done.
"""


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as verifier:
        yield verifier


def test_a_chat_answer_is_kept_from_its_thoughts_to_its_error(verifier):
    candidate = read_completion(TASK, ANSWER, chat=True)
    (result,) = verifier.verify_many([TASK.program(candidate.code)])
    ids = encode(ANSWER)
    mask = error_mask(result, candidate, ids, decode)
    assert result.status == "compile_error"
    assert kept(mask, ids) == ANSWER[: ANSWER.index("    // behind")]
    assert mask == sorted(mask, reverse=True)


def test_a_completed_prefix_is_kept_to_its_error(verifier):
    given, completion = "    int y = x * x;\n", "    return z;\n    // behind\n}\nint main() {}\n"
    candidate = read_completion(TASK, given + completion)
    (result,) = verifier.verify_many([TASK.program(candidate.code)])
    ids = encode(completion)
    assert kept(error_mask(result, candidate, ids, decode, len(given)), ids) == "    return z;\n"


def test_what_a_header_complains_about_is_found_in_the_model_s_line(verifier):
    task = Task("g", "#include <algorithm>\n#include <vector>\nstruct S {};\nint g(std::vector<S> v) {\n", "", "g")
    completion = "    int r = 0;\n    std::sort(v.begin(), v.end());\n    return r;\n}\n"
    candidate = read_completion(task, completion)
    (result,) = verifier.verify_many([task.program(candidate.code)])
    ids = encode(completion)
    assert result.diagnostics[0].file != "candidate.cpp"
    assert kept(error_mask(result, candidate, ids, decode), ids) == completion[: completion.index("    return")]


# --- after a run


def covered(completion: str, unexecuted, chat: bool = False, given: str = "") -> str:
    candidate = read_completion(TASK, given + completion, chat)
    ids = encode(completion)
    mask = coverage_mask(unexecuted, candidate, ids, decode, len(given))
    assert mask[-1] == 1
    return kept(mask, ids)


BRANCHES = "    if (x < 0)\n        return é;\n    x += 0;\n    return x * x;\n}\n"


def test_lines_that_were_not_executed_go():
    assert covered(BRANCHES, {5}) == BRANCHES.replace("        return é;\n", "")
    assert covered(BRANCHES, {5, 6}) == "    if (x < 0)\n    return x * x;\n}\n"
    assert covered(BRANCHES, {4, 7}) == "        return é;\n    x += 0;\n}\n"


def test_lines_of_the_prompt_of_the_prefix_and_of_nowhere_take_nothing():
    assert covered(BRANCHES, {-1, 0, 1, 2, 3, 99}) == BRANCHES
    assert covered("    return y;\n}\n", {4}, given="    int y = x * x;\n") == "    return y;\n}\n"
    assert covered("    y++;\n    return y;\n}\n", {5}, given="    int y = x * x;\n") == "    return y;\n}\n"


def test_thoughts_fences_and_prose_stay():
    whole = read_completion(TASK, ANSWER, chat=True).code
    line = whole[: whole.index("    int y")].count("\n") + 1
    assert covered(ANSWER, {line}, chat=True) == ANSWER.replace("    int y = x * x;\n", "")
    everything = range(1, whole.count("\n") + 2)
    begin, end = ANSWER.index("// The square"), ANSWER.index("```\nDone")
    assert covered(ANSWER, everything, chat=True) == ANSWER[:begin] + ANSWER[end:]


def test_a_token_that_reaches_into_an_executed_line_stays():
    words = ["    if (x)", "\n        ", "return 1;", "\n    ", "return 2;", "\n}\n"]

    def join(ids):
        return "".join(words[i] for i in ids)

    ids = range(len(words))
    candidate = read_completion(TASK, join(ids))
    assert coverage_mask({5}, candidate, ids, join) == [1, 1, 0, 1, 1, 1]
    assert coverage_mask({5, 6}, candidate, ids, join) == [1, 1, 0, 0, 0, 1]


def test_a_mask_that_would_leave_nothing_leaves_everything():
    ids = list(b"    return x;\n}")
    assert coverage_mask({4, 5}, read_completion(TASK, decode(ids)), ids, decode) == [1] * len(ids)


# --- whatever the text


@cache
def shipped_tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(SHELF / "tiny-cpp")


def bytewise(text: str):
    return encode(text), decode


def shipped(text: str):
    tokenizer = shipped_tokenizer()
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    return ids, lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


WAYS = pytest.mark.parametrize("tokenize", [bytewise, shipped])
pieces = st.sampled_from(
    ["    return x;\n", "    if (x)\n        x = 1;\n", "}", "{\n", "\n", "```\n", "```cpp\n", "<think>", "</think>", "é", "\n\n", " ;"]
)  # fmt: skip
texts = st.one_of(st.lists(pieces, max_size=10).map("".join), st.text(max_size=40))
given_texts = st.sampled_from(["", "    int y = x;\n", "    if (x) {\n    x = 2;\n"])
line_numbers = st.integers(0, 20)


def origins(candidate):
    """Where in the completion each character of the code was written that the model wrote."""
    return {piece.start + i: piece.origin + i for piece in candidate.pieces for i in range(piece.length)}


@WAYS
@settings(deadline=None)
@given(text=texts, given_text=given_texts, chat=st.booleans(), line=line_numbers)
def test_the_kept_tokens_are_those_that_begin_before_the_line_ends(tokenize, text, given_text, chat, line):
    ids, back = tokenize(text)
    completion = given_text + back(ids)
    candidate = read_completion(TASK, completion, chat)
    mask = error_mask(failed(error(line)), candidate, ids, back, len(given_text))
    assert len(mask) == len(ids)
    assert mask == sorted(mask, reverse=True)
    if line not in own_lines(candidate, len(given_text)):
        assert all(mask)
        return
    breaks = [i for i, character in enumerate(candidate.code) if character == "\n"]
    end = breaks[line - 1] if line <= len(breaks) else len(candidate.code)
    written = [place for at, place in origins(candidate).items() if at < end]
    last = max(written, default=candidate.pieces[0].origin - 1 if candidate.pieces else -1) + 1 - len(given_text)
    assert mask == [int(len(back(ids[:k])) <= max(0, last)) for k in range(len(ids))]


@WAYS
@settings(deadline=None)
@given(text=texts, chat=st.booleans(), lines=st.lists(line_numbers, max_size=3))
def test_what_compiled_is_kept_whole(tokenize, text, chat, lines):
    ids, back = tokenize(text)
    result = VerifyResult("ok", compile_ok=True, run_ok=True, diagnostics=tuple(map(error, lines)))
    assert error_mask(result, read_completion(TASK, back(ids), chat), ids, back) == [1] * len(ids)


@WAYS
@settings(deadline=None)
@given(text=texts, given_text=given_texts, chat=st.booleans(), unexecuted=st.sets(line_numbers, max_size=6))
def test_a_coverage_mask_drops_the_tokens_on_lines_that_were_not_executed(tokenize, text, given_text, chat, unexecuted):
    ids, back = tokenize(text)
    completion = given_text + back(ids)
    candidate = read_completion(TASK, completion, chat)
    mask = coverage_mask(unexecuted, candidate, ids, back, len(given_text))
    assert len(mask) == len(ids)
    assert mask[-1] == 1
    code_places = {place: at for at, place in origins(candidate).items()}
    for k, keep in enumerate(mask):
        begin, end = len(back(ids[:k])) + len(given_text), len(back(ids[: k + 1])) + len(given_text)
        if begin < end:
            places = [code_places.get(place) for place in range(begin, end)]
            lines = {-1 if place is None else candidate.code.count("\n", 0, place) + 1 for place in places}
            assert keep == (not lines <= unexecuted)
