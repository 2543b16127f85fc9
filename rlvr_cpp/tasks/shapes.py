"""The shapes that the field's data sets come in, each told by its columns and turned into the fields of a `Task`.

A row of ours passes as it is. What a shape says in prose becomes a comment, for a prompt is C++; what it says in cases
becomes cases. A shape whose tests call Python, or a function by name with values, cannot be judged by a compiler and is
refused in a sentence.
"""

from __future__ import annotations

import base64
import difflib
import io
import pickle
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.tasks.limits import limit_fields, seconds_of
from rlvr_cpp.tasks.reading.blocks import CODE_LINE
from rlvr_cpp.tasks.rows import Row
from rlvr_cpp.verifier.cases import Case, OpenCase, parse_text, read_cases
from rlvr_cpp.verifier.cpp.assertions import count_assertions, count_declared
from rlvr_cpp.verifier.cpp.outline import open_items, outline

Fields = dict[str, Any]
"""The fields of a `Task` by name."""
CPP_NAMES = ("cpp", "c++", "cxx", "cc")
OURS = ("task_id", "prompt", "test", "entry_point")
DIFFICULTY = "difficulty:"
CODE_CONTESTS_CPP = 2
"""code_contests numbers the languages of its solutions."""
OWN_CHECKER = "needs_checker"
"""The tag of a task with a checker that is no C++, such as Python: nothing here runs it."""
INTERACTIVE = "needs_interactor"
"""The tag of a task whose statement asks for a talk, and whose row has nobody to talk to."""
FILES = "needs_files"
"""The tag of a task whose statement asks for files in place of standard input and output, which no case has."""
CPP_INCLUDE = re.compile(r"(?m)^[ \t]*#[ \t]*include\b")


def task_fields(row: Row, where: str, known: frozenset[str]) -> tuple[Fields, list[str]]:
    """The fields of the task in a row of any shape, and the columns of ours that mean nothing here.

    `known` are the fields of a task. Raises UserError naming `where` and the field.
    """
    for columns, read in SHAPES:
        if all(name in row for name in columns):
            return read(row, where), []
    return _ours(row, where, known)


def _ours(row: Row, where: str, known: frozenset[str]) -> tuple[Fields, list[str]]:
    if type(row.get("task_id")) is int:
        row = {**row, "task_id": str(row["task_id"])}
    for name in OURS[:2] if row.get("cases") else OURS:
        _text(row, name, where)
    fields = {name: value for name, value in row.items() if name in known and (value is not None or name in OURS)}
    extra = [name for name, value in row.items() if name not in known and value is not None and name != "difficulty"]
    for name in extra:
        if near := difflib.get_close_matches(name, known, 1, 0.8):
            raise UserError(f"{where}: field {name!r} is not part of a task: do you mean {near[0]!r}?")
    fields["tags"] = _tags(fields.get("tags"), row.get("difficulty"), where)
    kind = OpenCase if {"checker_program", "interactor"} & fields.keys() else Case
    for name in ("cases", "hidden_cases"):
        if fields.get(name):
            fields[name] = _cases(fields[name], f"{where}: field {name!r}", kind)
        elif name in fields:
            del fields[name]
    if "cases" in fields:
        prompt = _comment(fields["prompt"]) if _is_prose(fields["prompt"]) else fields["prompt"]
        fields = {"test": "", "entry_point": "main"} | fields | {"prompt": prompt}
    return fields, extra


def _humaneval_x(row: Row, where: str) -> Fields:
    prompt, test = _text(row, "prompt", where), _text(row, "test", where)
    own = row.get("entry_point")
    declaration = row.get("declaration")
    name = (
        own
        if isinstance(own, str) and own
        else _entry_point(declaration if isinstance(declaration, str) else prompt, where)
    )
    return _asserted(
        _name(row, "task_id", where), prompt, test, name, row.get("canonical_solution"), "humaneval_x", row, where
    )


def _multipl_e(row: Row, where: str) -> Fields:
    _check_language(row.get("language", "cpp"), where)
    prompt = _text(row, "prompt", where)
    # The rows' tests begin with the brace that closes the function; our completions close it themselves.
    test = _text(row, "tests", where).lstrip().removeprefix("}")
    return _asserted(
        _name(row, "name", where), prompt, test, _entry_point(prompt, where), None, "multipl_e", row, where
    )


def _mbxp(row: Row, where: str) -> Fields:
    _check_language(row["language"], where)
    prompt, test, name = (_text(row, field, where) for field in ("prompt", "test", "entry_point"))
    return _asserted(_name(row, "task_id", where), prompt, test, name, row["canonical_solution"], "mbxp", row, where)


def _leetcode(row: Row, where: str) -> Fields:
    """LeetCodeDataset in C++: the starter code, opened where the answer has to go on."""
    prompt, test, starter = (_text(row, field, where) for field in ("prompt", "test", "starter_code"))
    if "def check(" in test or "class Solution:" in starter:
        raise UserError(f"{where}: field 'test' is Python: only tests in C++ can be judged")
    name = _text(row, "entry_point", where).split(".")[-1].removesuffix("()")
    opened = starter[: _inside(starter, name)] or starter
    fields = _asserted(_name(row, "task_id", where), prompt + opened, test, name, None, "leetcode", row, where)
    return fields | {"split": "train"}


def _asserted(
    task_id: str, prompt: str, test: str, entry: str, reference: Any, tag: str, row: Row, where: str
) -> Fields:
    """A task whose test is a `main` of assertions."""
    if not any(item.kind == "function" and item.name == "main" for item in outline(test)):
        raise UserError(f"{where}: field 'test' has no 'main': only tests in C++ can be judged")
    if reference is not None and not isinstance(reference, str):
        raise UserError(f"{where}: field 'canonical_solution' is {reference!r}: it must be a string")
    return {
        "task_id": task_id,
        "prompt": prompt,
        "test": count_assertions(test),
        "tests_declared": count_declared(test),
        "entry_point": entry,
        "reference": reference,
        "tags": _tags((tag,), row.get("difficulty"), where),
        "split": "held_out",
    }


def _code_contests(row: Row, where: str) -> Fields:
    public = _columns(row["public_tests"], where, "public_tests")
    hidden = [
        *_columns(row["private_tests"], where, "private_tests"),
        *_columns(row.get("generated_tests"), where, "generated_tests"),
    ]
    solutions = row.get("solutions") or {}
    if not isinstance(solutions, Mapping):
        raise UserError(f"{where}: field 'solutions' is no mapping: it must hold 'language' and 'solution'")
    languages, texts = (_list(solutions, name, where) for name in ("language", "solution"))
    written = zip(languages, texts, strict=False)
    reference = next((text for language, text in written if language == CODE_CONTESTS_CPP), None)
    tags = ["code_contests", *_list(row, "cf_tags", where)]
    tags += [FILES] if row.get("input_file") or row.get("output_file") else []
    memory = row.get("memory_limit_bytes")
    limits = limit_fields(seconds_of(row.get("time_limit")), f"{memory} bytes" if isinstance(memory, int) else None)
    task = _contest(_name(row, "name", where), _text(row, "description", where), public, hidden, reference, tags, where)
    return task | limits


def _apps(row: Row, where: str) -> Fields:
    """APPS and TACO, whose solutions are Python."""
    cases = _cases(row["input_output"], f"{where}: field 'input_output'")
    number = row.get("problem_id", row.get("id"))
    name = f"apps/{number}" if number is not None else f"taco/{where.rpartition(' ')[2]}"
    limits = limit_fields(row.get("time_limit"), row.get("memory_limit"))
    task = _contest(name, _text(row, "question", where), cases, [], None, ["apps"], where, row.get("difficulty"))
    return task | limits


def _codeforces(row: Row, where: str) -> Fields:
    parts = [
        row.get("title"),
        _text(row, "description", where),
        row.get("input_format"),
        row.get("output_format"),
        row.get("note"),
    ]
    statement = "\n\n".join(part for part in parts if isinstance(part, str) and part)
    own = row.get("generated_checker")
    checker = own if isinstance(own, str) and CPP_INCLUDE.search(own) else None
    public, hidden = (
        _cases(row[name], f"{where}: field {name!r}", Case if checker is None else OpenCase) if row.get(name) else []
        for name in ("examples", "official_tests")
    )
    tags = ["codeforces", *_list(row, "tags", where), *([OWN_CHECKER] if own and checker is None else [])]
    tags += [INTERACTIVE] if row.get("interaction_format") else []
    tags += [FILES] if row.get("input_mode") == "file" else []
    task = _contest(f"codeforces/{_name(row, 'id', where)}", statement, public, hidden, None, tags, where)
    return task | limit_fields(row.get("time_limit"), row.get("memory_limit")) | {"checker_program": checker}


def _livecodebench(row: Row, where: str) -> Fields:
    public = _cases(row["public_test_cases"], f"{where}: field 'public_test_cases'")
    hidden = (
        _cases(_unpacked(row["private_test_cases"], where), f"{where}: field 'private_test_cases'")
        if row.get("private_test_cases")
        else []
    )
    name = f"livecodebench/{_name(row, 'question_id', where)}"
    return _contest(
        name,
        _text(row, "question_content", where),
        public,
        hidden,
        None,
        ["livecodebench"],
        where,
        row.get("difficulty"),
    )


def _synthetic(row: Row, where: str) -> Fields:
    found = row["verification_info"]
    place = f"{where}: field 'verification_info'"
    info = parse_text(found, place) if isinstance(found, str) else found
    language = info.get("language", "cpp") if isinstance(info, Mapping) else "cpp"
    cases = _cases(info, place)
    gold = row.get("gold_standard_solution")
    reference = gold if isinstance(gold, str) and language in CPP_NAMES else None
    return _contest(
        _name(row, "problem_id", where), _said(row["prompt"], where), cases, [], reference, ["synthetic"], where
    )


def _verl(row: Row, where: str) -> Fields:
    model = row["reward_model"]
    extra = row.get("extra_info")
    index = extra.get("index") if isinstance(extra, Mapping) else None
    name = f"{row['data_source']}/{where.rpartition(' ')[2] if index is None else index}"
    cases = _cases(
        model.get("ground_truth") if isinstance(model, Mapping) else None, f"{where}: field 'reward_model.ground_truth'"
    )
    return _contest(name, _said(row["prompt"], where), cases, [], None, [str(row["data_source"])], where)


SHAPES: tuple[tuple[tuple[str, ...], Callable[[Row, str], Fields]], ...] = (
    (("data_source", "prompt", "reward_model"), _verl),
    (("description", "public_tests", "private_tests"), _code_contests),
    (("question_content", "public_test_cases"), _livecodebench),
    (("description", "official_tests", "examples"), _codeforces),
    (("problem_id", "prompt", "verification_info"), _synthetic),
    (("question", "input_output"), _apps),
    (("starter_code", "prompt", "test", "entry_point"), _leetcode),
    (("task_id", "prompt", "test", "buggy_solution"), _humaneval_x),
    (("task_id", "language", "prompt", "test", "entry_point", "canonical_solution"), _mbxp),
    (("name", "prompt", "tests"), _multipl_e),
    (("task_id", "prompt", "test", "canonical_solution"), _humaneval_x),
    (("task_id", "prompt", "test", "declaration"), _humaneval_x),
)
"""The columns by which a shape is told, more telling ones first, and who reads it. Ours has all others."""


def _contest(
    name: str, statement: str, public: Any, hidden: Any, reference: Any, tags: Any, where: str, difficulty: Any = None
) -> Fields:
    """A task whose program reads input and writes output."""
    if not public and not hidden:
        raise UserError(f"{where}: the row has no tests: leave it out")
    return {
        "task_id": name,
        "prompt": _comment(statement),
        "test": "",
        "entry_point": "main",
        "reference": reference,
        "tags": _tags(tags, difficulty if isinstance(difficulty, str) else None, where),
        "cases": tuple(public or hidden),
        "hidden_cases": tuple(hidden) if public and hidden else None,
    }


def _comment(statement: str) -> str:
    """A problem's statement as C++."""
    return "/*\n" + statement.strip().replace("*/", "* /") + "\n*/\n"


def _is_prose(prompt: str) -> bool:
    """The prompt of a whole program is a statement by its first line; C++ would begin with a comment or a directive."""
    first = prompt.strip().partition("\n")[0]
    return bool(first) and CODE_LINE.match(first) is None


def _said(prompt: Any, where: str) -> str:
    """The text of a prompt: itself, or what the user says in a conversation."""
    if isinstance(prompt, str):
        return prompt
    turns = prompt if isinstance(prompt, list | tuple) else ()
    said = [one.get("content") for one in turns if isinstance(one, Mapping) and one.get("role") == "user"]
    if not said or not isinstance(said[-1], str):
        raise UserError(
            f"{where}: field 'prompt' is {prompt!r}: it must be text, or messages of which a user sends one"
        )
    return said[-1]


def _cases(value: Any, place: str, kind: type[Case] = Case) -> tuple[Any, ...]:
    if value is None:
        raise UserError(f"{place} is missing: it must hold inputs with their outputs")
    return read_cases(value, place, kind)


def _columns(value: Any, where: str, field: str) -> tuple[Any, ...]:
    """Cases in two columns, of which there may be none."""
    is_empty = not value or (isinstance(value, Mapping) and not any(value.values()))
    return () if is_empty else read_cases(value, f"{where}: field {field!r}")


def _unpacked(packed: Any, where: str) -> Any:
    """LiveCodeBench's hidden tests: as they are, or a pickled text of them, compressed."""
    if not isinstance(packed, str | bytes) or packed[:1] in ("[", b"["):
        return packed
    try:
        return _Texts(io.BytesIO(zlib.decompress(base64.b64decode(packed)))).load()
    except Exception as error:  # whatever such bytes may be instead
        raise UserError(
            f"{where}: field 'private_test_cases' cannot be unpacked ({type(error).__name__}): give it whole, or null"
        ) from error


class _Texts(pickle.Unpickler):
    """Reads texts and lists and calls nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """No name of Python is let in."""
        raise pickle.UnpicklingError(f"{module}.{name} is no text")


def _inside(starter: str, name: str) -> int:
    """Behind the brace of the function `name` in starter code that is complete; 0 where it is not found."""
    for item in outline(starter):
        if item.body is None:
            continue
        body = item.tokens[item.body].end
        if item.name == name and item.kind == "function":
            return body
        if item.kind == "type" and (inner := _inside(starter[body : item.end], name)):
            return body + inner
    return 0


def _entry_point(prompt: str, where: str) -> str:
    """The last function that a prompt leaves open."""
    opened = [item.name for item, _ in open_items(prompt) if item.kind in ("function", "prototype")]
    if not opened or not opened[-1]:
        raise UserError(f"{where}: no function is opened in the prompt: it must end with 'type name(...) {{'")
    return opened[-1]


def _check_language(language: Any, where: str) -> None:
    if str(language).lower() not in CPP_NAMES:
        raise UserError(f"{where}: field 'language' is {language!r}: only tasks in 'cpp' can be judged")


def _tags(tags: Any, difficulty: Any, where: str) -> tuple[str, ...]:
    if tags is None:
        tags = ()
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise UserError(f"{where}: field 'tags' is {tags!r}: it must be a list of strings")
    if difficulty is None:
        return tuple(tags)
    if not isinstance(difficulty, str):
        raise UserError(f"{where}: field 'difficulty' is {difficulty!r}: it must be a word")
    return (*tags, DIFFICULTY + difficulty)


def _name(row: Row, field: str, where: str) -> str:
    """What a row calls its task: a text or a number."""
    value = row.get(field)
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise UserError(f"{where}: field {field!r} is {value!r}: it must be a string that names the task")
    return str(value)


def _list(row: Row, name: str, where: str) -> list[Any] | tuple[Any, ...]:
    """A column of several values, of which there may be none."""
    value = row.get(name)
    if value is not None and not isinstance(value, list | tuple):
        raise UserError(f"{where}: field {name!r} is {value!r}: it must be a list")
    return value or ()


def _text(row: Row, name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        problem = "is missing" if name not in row else f"is {value!r}"
        raise UserError(f"{where}: field {name!r} {problem}: it must be a string")
    return value
