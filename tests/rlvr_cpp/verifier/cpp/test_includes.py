"""Includes that lead out of a program, however they are written."""

import pytest

from rlvr_cpp.verifier.cpp.includes import foreign_includes

OWN = ["<vector>", "<sys/types.h>", '"stdio.h"', '"a.h"', '"sub/b.h"', '"sub/../a.h"', '"./a.h"']
FOREIGN = [
    "</etc/passwd>",
    '"/proc/self/fd/0"',
    '"../a.h"',
    "<../../x>",
    '"sub/../../a.h"',
    "NAME",
    "__FILE__",
    "__BASE_FILE__",
]
WRITTEN = [
    "#include {}",
    "  #  include {}",
    "%:include {}",
    "#inc\\\nlude /* x */ {}",
    "#import {}",
    "#include_next {}",
    "#embed {}",
]


def includes(text, name="c.cpp"):
    return [found.name for found in foreign_includes({name: text, "a.h": "", "sub/b.h": ""})]


@pytest.mark.parametrize("how", WRITTEN)
def test_a_program_includes_the_system_and_itself(how):
    assert [includes(how.format(name) + "\n") for name in OWN] == [[]] * len(OWN)
    assert [includes(how.format(name) + "\n") for name in FOREIGN] == [[name] for name in FOREIGN]


def test_a_file_in_a_folder_finds_what_lies_above_it():
    assert includes('#include "../a.h"\n', "sub/c.h") == []
    assert includes('#include "../../a.h"\n', "sub/c.h") == ['"../../a.h"']


@pytest.mark.parametrize(
    "text", ["// #include the header\n", "/*\n#include </x>\n*/\n", 'R"(\n#include </x>\n)"', "int include = 3;\n"]
)
def test_words_are_no_includes(text):
    assert includes(text) == []


def test_it_is_told_where_the_include_stands():
    (found,) = foreign_includes({"c.cpp": "int a;\n\n#include </x>\n"})
    assert (found.file, found.line) == ("c.cpp", 3)
