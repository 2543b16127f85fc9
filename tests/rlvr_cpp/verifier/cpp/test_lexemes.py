"""Every reader of C++ text against g++: what is code, what is a literal or a comment, which directives there are.

Each text is made of pieces that open, close and hide one another, and splices stand anywhere in it. Its words are
macros for g++, so a word that comes out expanded is code, one that comes out as it was is part of a literal, and one
that is gone was part of a comment, of a directive or of what a conditional leaves out. One run of g++ reads many texts.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rlvr_cpp.errors import UserError
from rlvr_cpp.search.ranking import code_length
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.reading.left_out import without_wrapping
from rlvr_cpp.tasks.task import Task, parse_task
from rlvr_cpp.training.stepcoder.curriculum import cut_points
from rlvr_cpp.verifier.cpp.lexemes import directives, lexemes, readings
from rlvr_cpp.verifier.cpp.lint import lint_copy
from rlvr_cpp.verifier.cpp.outline import outline
from rlvr_cpp.verifier.cpp.signature import read_prompt, read_unit, tokens
from rlvr_cpp.verifier.tiers.sealed import between, macros_before_headers, macros_defined
from rlvr_cpp.verifier.toolchain.precompiled import leading_includes

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")

# `@` becomes a new word, `&` a new macro and `$` what it stands for.
PLAIN = [
    "@ ", "\n@\n", "\r\n", "\0\v\t", "{@ ", "}@ ", "<%@ ", "%>@ ", "<:@:> ", "::@<::@> ", "other(@) {@ ", "->@ ",
    "/* @ {@ don't \" */", "/*", "*/", "// @ }@ don't /*\n", "// \" R\"end( @\n", "/", "*",
    '"@ // {@ /* other(@) {@" ', '"\\"@ \\\\" ', "'@' ", "'\\'' ", "'\"' ", '"', "'", 'u8"@" ', "L'@' ", "U'{@' ",
    'R"(@ " // {@ )" ', 'u8R"end(@ )" \n}@ )end" ', 'LR"x(\\\n@\\)x" ', 'R"end(', ')end" ', 'fooR"(@ {@ )" ', '"a"R"( /*" @ "*/)" ',
    "1'000@ ", "0x1'f'@ ", "1e+@ ", ".5'@ ", "x.1'@ ",
]  # fmt: skip
DIRECTIVES = [
    "\n#define & $\n", "\n %:/* @ */ define\t&(x) $\n", "\n/* @\n */#/**/define/**/& $\n", "\n\0#\vdefine &(x) $ // @\n",
    "\n#include <h0>\n", '\n# include "h1"\n', "\n/**/%:include/* @ */<h2> // @\n", "\n#import <h3>\n",
    '\n#pragma GCC diagnostic ignored "-Wp$"\n', '\n%:pragma GCC/**/diagnostic ignored "-Wp$" // @\n',
    "\n#if !__has_include(</*>)\n#endif\n", '\n#if !__has_include("\\")\n#endif\n', "\n#\n", "\n@ #define & $\n",
]  # fmt: skip
CONDITIONALS = [
    "\n#if 0\n@ }@ don't\n#endif\n", "\n%:if/**/0 /* @ */ // @\n{@\n#else\n}@\n#endif\n", "\n#if 0 + 1\n{@\n#endif\n",
    "\n#if 0\n#ifdef X\n{@\n#else\n{@\n#endif\n}@\n#else\n@\n#endif\n", "\n#ifndef NEVER\n@\n%:endif\n",
    '\n#if 0\nR"(\n#else\n)" {@\n#endif\n', "\n/* @\n */#if\t0\n#define & $\n{@\n#endif\n", "\n#if 0\n#include <h0>\n#endif\n",
]  # fmt: skip
HEADING = [
    "#include <h0>\n", "#include <h1> // @\n", "/* @ */", "/* @ *", "/\n", "// @ \\\n", "// @ \\\0\n", "// @\n", "\r\n", "\n#define & $\n",
]  # fmt: skip
SPLICES = ["\\\n", "\\\r\n", "\\ \t\n", "\\\0\n", "\\ \0\v\r\n"]
TRIGRAPHS = ["\n??=define & $\n", "??<@ ", "??>@ ", "??/\n@ ", "\n#def??/\nine & $\n", "\n// @ ??/\n#define & $\n"]
HEADERS = ["h0", "h1", "h2", "h3"]


class Brace(NamedTuple):
    """A brace and the word behind it, which is code if the brace is."""

    text: str
    word: str
    end: int


@dataclass
class Text:
    """One text, and what g++ makes of it."""

    code: str
    words: set[str]
    macros: set[str]
    braces: list[Brace]
    last: str
    """The word on the last line."""
    kinds: set[str]
    output: str = ""
    probes: str = ""
    clean: set[int] = field(default_factory=set)
    """The beginnings of lines at which g++ reads code."""

    def is_code(self, word):
        return word.upper() in self.found

    @property
    def found(self):
        return set(re.findall(r"[wW]\d+", re.sub(r"\\\s*\n", "", self.output)))

    @property
    def live_braces(self):
        return [brace for brace in self.braces if self.is_code(brace.word)]

    @property
    def defined(self):
        return {name for name in self.macros if re.search(rf"\bd{name[3:]}\b", self.probes)}

    @property
    def bare_output(self):
        """Without raw strings, whose lines may look like directives."""
        return re.sub(r'R"end\(.*?(?:\)end"|\Z)', "", self.output, flags=re.DOTALL)


def texts(pieces, splices=SPLICES):
    places = st.lists(st.tuples(st.integers(0, 150), st.sampled_from(splices)), max_size=4)
    return st.tuples(st.lists(st.sampled_from(pieces), min_size=1, max_size=7), places)


def made(drawn, number) -> tuple[Text, int]:
    """The text of the pieces and splices that were drawn; `number` counts the words of all texts."""
    pieces, splices = drawn
    units: list[str] = []
    braces: list[list[Any]] = []  # text, word and the units up to its end
    words: set[str] = set()
    macros: set[str] = set()
    for piece in pieces:
        for part in re.findall(r"\r\n|\\\0?\n|<%|%>|\?\?[<>]|R\"\w*\(|[\s\S]", piece):
            if part in "@&$":
                number += part != "$"
                name = {"@": "w", "&": "__m", "$": "d"}[part] + str(number)
                (words if part == "@" else macros if part == "&" else set()).add(name)
                if part == "@" and braces and braces[-1][1] is None:
                    braces[-1][1] = name
                units += name
            elif part in ("{", "}", "<%", "%>"):
                units += part
                braces.append(["{" if part in ("{", "<%") else "}", None, len(units)])
            else:
                units.append(part)
    for place, splice in sorted(splices, reverse=True):
        if place <= len(units):
            units.insert(place, splice)
            for brace in braces:
                brace[2] += brace[2] > place
    ends = [0, *accumulate(map(len, units))]
    found = [Brace(text, word, ends[end]) for text, word, end in braces if word]
    kinds = {
        kind
        for kind, known in (("directive", HEADING + DIRECTIVES), ("conditional", CONDITIONALS))
        if {*known} & {*pieces}
    }
    last = f"w{number + 1}"
    return Text("".join(units) + f"\n{last}\n", words | {last}, macros, found, last, kinds), number + 1


def read_by_gcc(batch: list[Text], codes: list[str], folder, std) -> list[tuple[str, str]]:
    """What g++ writes for each of `codes`, and which of the batch's macros are defined behind it."""
    words = sorted(set().union(*(text.words for text in batch)))
    macros = sorted(set().union(*(text.macros for text in batch)))
    probe = " ".join(f"{name}(0)" for name in macros)
    for name in HEADERS:
        (folder / name).write_text(f"INCLUDED_{name} {probe} PROBED\n")
    for name in ("c0", "C0", "hc0", *(f"{name}c0" for name in HEADERS)):
        (folder / name).touch()  # a name that is cut off must not end the run
    lines = [f"#define {word} {word.upper()}" for word in words] + ["#define c0 C0"]
    for index, code in enumerate(codes):
        (folder / f"s{index}").write_bytes(code.encode())
        undone = "".join(f"#undef {name}\n" for name in macros if name in code or "\\" in code)
        # a raw string that is still open goes on behind the included file
        lines += [f"BEGIN_{index} ;", f'#include "s{index}"', f'BEHIND_{index} )end" )x" )"']
        lines += [f"PROBE_{index} {probe if undone else ''} END_{index} ;", undone]
    (folder / "all.cpp").write_text("\n".join(lines))
    command = ["g++", f"-std={std}", "-E", "-P", "-w", "-I.", "all.cpp"]
    output = subprocess.run(command, cwd=folder, capture_output=True).stdout.decode()
    return [
        (part_of(output, f"BEGIN_{index} ;", f"BEHIND_{index} "), part_of(output, f"PROBE_{index} ", f"END_{index} ;"))
        for index in range(len(codes))
    ]


def part_of(output, begin, end) -> str:
    return output.partition(begin)[2].partition(end)[0]


def read_batch(drawn, folder, std="c++17") -> list[Text]:
    batch, number = [], 0
    for one in drawn:
        text, number = made(one, number)
        batch.append(text)
    for text, (output, probes) in zip(
        batch, read_by_gcc(batch, [text.code for text in batch], folder, std), strict=True
    ):
        text.output, text.probes = output, probes
    return batch


def bounded(examples):
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate]
    )


def dense(text):
    """g++ writes the white space in raw strings its own way."""
    return re.sub(r"[\s\0]", "", text)


def check_lexemes(text):
    seen = list(lexemes(text.code))
    code = {lexeme.text for lexeme in seen if lexeme.kind == "word"} & text.words
    in_comments = {word for lexeme in seen if lexeme.kind == "comment" for word in re.findall(r"w\d+", lexeme.text)}
    expanded = {word for word in text.words if text.is_code(word)}
    assert expanded <= code
    assert not in_comments & {word for word in text.words if word in text.found or text.is_code(word)}
    if "conditional" not in text.kinds:
        assert code - expanded == set()
        assert {word for word in text.words if not {word, word.upper()} & text.found} <= in_comments
    if not text.kinds:
        meant = [lexeme.text for lexeme in lexemes(text.output.rstrip("\n")) if lexeme.kind != "newline"]
        own = [re.sub(r"^w(?=\d+$)", "W", lexeme.text) for lexeme in seen if lexeme.kind not in ("comment", "newline")]
        assert [*map(dense, own)] == [*map(dense, meant)]
    last = 0
    for lexeme in seen:
        assert last <= lexeme.start < lexeme.end <= len(text.code)
        last = lexeme.end


def check_directives(text):
    _, found = directives(lexemes(text.code))
    names = [directive[1].text for directive in found if len(directive) > 1]
    included = re.findall(r"INCLUDED_(h\d)", text.output)
    if "conditional" not in text.kinds:
        assert {line[2].text for line in found if len(line) > 2 and line[1].text == "define"} == text.defined
        files = [line[2].text[1:-1] for line in found if len(line) > 2 and line[1].text == "include"]
        assert files == [name for name in included if name != "h3"]  # which is imported, once
        assert names.count("pragma") == text.bare_output.count("#pragma GCC diagnostic")
    else:
        assert len(included) <= names.count("include") + names.count("import")


def check_signature(text):
    code = {word for word in text.words if text.is_code(word)}
    unit = read_unit(text.code)
    assert code <= unit.identifiers
    assert code <= {*tokens(text.code)}
    if "conditional" not in text.kinds:
        assert not (text.words - code) & unit.identifiers
        opened = read_prompt(f"int f() {{{text.code}")
        if closing_brace(text) is None:
            assert opened is not None
            assert opened.function is not None
            assert opened.function.name == "f"
        elif text.live_braces == [closing_brace(text)]:
            assert opened is not None
            assert opened.function is None


def closing_brace(text):
    depth = 1
    for brace in text.live_braces:
        depth += 1 if brace.text == "{" else -1
        if depth == 0:
            return brace
    return None


def check_completion(text):
    if without_wrapping(text.code).text != text.code:  # an include of what the text names elsewhere
        return
    brace = closing_brace(text)
    candidate = read_completion(Task("f", "int f() {", "", "f"), text.code)
    assert sum(piece.length for piece in candidate.pieces) == (brace.end if brace else len(text.code))
    if "conditional" not in text.kinds:
        depth = 0
        for brace in text.live_braces:
            depth = max(0, depth + (1 if brace.text == "{" else -1))
        opened = [item.name for item in outline(f"{text.code};int target(int x) {{") if not item.is_closed]
        assert (opened == ["target"]) == (text.is_code(text.last) and depth == 0)


def check_task(text):
    row = {"name": "t", "prompt": f"int target(int x) {{\n{text.code}", "tests": "int main() {}"}
    heads = re.findall(r"\bother\((W\d+)\) (?:\{|<%)", text.bare_output)
    if "conditional" not in text.kinds and closing_brace(text) is None:  # else nothing may be left open
        assert parse_task(row, "here").entry_point in (("other", "target") if heads else ("target",))
    try:
        last = parse_task(row | {"prompt": f"{text.code}int target(int x) {{"}, "here").entry_point
    except UserError:
        last = None
    if "conditional" not in text.kinds and "(" not in text.output and not text.live_braces:
        assert (last == "target") == text.is_code(text.last)


def check_curriculum(text):
    if "conditional" in text.kinds:
        return
    points = {*cut_points(text.code)} - {0}
    assert points <= text.clean
    if text.is_code(text.last):
        assert points == text.clean - {len(text.code)}


def check_ranking(text):
    if not text.kinds and 'R"' not in text.output:
        assert code_length(text.code) == code_length(text.output)


def check_seal(text):
    names = {*macros_defined(text.code)}
    assert text.defined <= names
    undone = {line.removeprefix("#undef ") for line in between(text.code, "int main() {}").splitlines()}
    assert text.defined <= undone
    before = {*macros_before_headers(text.code)}
    for state in re.findall(r"INCLUDED_h\d(.*?)PROBED", text.output, re.DOTALL):
        assert {name for name in text.macros if re.search(rf"\bd{name[3:]}\b", state)} <= before
    assert all(any(word in reading for reading in readings(text.code)) for word in text.words if text.is_code(word))


def check_precompiled(text):
    names = leading_includes(text.code)
    heading = re.match(r"(?:\s*INCLUDED_(?:h\d)(?:(?!PROBED).)*PROBED)*", text.output, re.DOTALL)[0]
    included = re.findall(r"INCLUDED_(h\d)", heading)
    assert list(names) == included[: len(names)]
    if names:
        state = heading.split("PROBED")[len(names) - 1]
        assert not any(re.search(rf"\bd{name[3:]}\b", state) for name in text.macros)


CHECKS = [
    check_lexemes, check_directives, check_signature, check_completion, check_task, check_curriculum, check_ranking,
    check_seal, check_precompiled,
]  # fmt: skip
TEXTS = st.one_of(
    texts(HEADING), texts(PLAIN), texts(PLAIN + DIRECTIVES), texts(DIRECTIVES), texts(PLAIN + DIRECTIVES + CONDITIONALS)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readers")


def find_clean_lines(batch, folder):
    known = [text for text in batch if "conditional" not in text.kinds]
    ends = [(text, match.end()) for text in known for match in re.finditer("\n", text.code)]
    places = [(text, end) for text, end in ends if not re.search(r"\\[ \t\v\0]*\r?\n\Z", text.code[:end])]
    codes = [f"{text.code[:place]}c0\n#endif\n" for text, place in places]
    for (text, place), (output, _) in zip(places, read_by_gcc(batch, codes, folder, "c++17"), strict=True):
        if re.search(r"\bC0\b", output):
            text.clean.add(place)


def check_all(batch, checks):
    for text in batch:
        for check in checks:
            try:
                check(text)
            except (AssertionError, UserError) as error:
                raise AssertionError(f"{check.__name__} of {text.code!r}\ng++: {text.output!r}\n{error}") from error


@bounded(8)
@given(drawn=st.lists(TEXTS, min_size=40, max_size=40))
def test_every_reader_sees_what_gcc_sees(folder, drawn):
    batch = read_batch(drawn, folder)
    find_clean_lines(batch, folder)
    check_all(batch, CHECKS)


@bounded(8)
@given(drawn=st.lists(TEXTS, min_size=40, max_size=40))
def test_the_copy_for_linting_differs_in_what_silences_alone(folder, drawn):
    batch = read_batch(drawn, folder)
    copies = [lint_copy(text.code) for text in batch]
    outputs = read_by_gcc(batch, [copy.code for copy in copies], folder, "c++17")
    for text, copy, (output, _) in zip(batch, copies, outputs, strict=True):
        linted = replace(text, output=output)
        assert "#pragma" not in linted.bare_output, (text.code, copy.code)
        if not re.search(r"\\[ \v]*\0", text.code):  # such splices are undone, which changes the words
            assert linted.found == text.found, (text.code, copy.code)
            if "conditional" not in text.kinds:
                assert (copy.suppressions > 0) == ("#pragma" in text.bare_output), text.code


@bounded(6)
@given(drawn=st.lists(texts(PLAIN + DIRECTIVES + 2 * TRIGRAPHS, [*SPLICES, "??/\n"]), min_size=40, max_size=40))
def test_what_must_miss_no_macro_reads_trigraphs_too(folder, drawn):
    check_all(read_batch(drawn, folder, "c++14"), [check_seal])
