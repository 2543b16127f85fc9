"""Make a test that stops at its first failed `assert` count all of them and print the marker.

The public C++ benchmarks judge by exit status: a `main` full of assertions. Here `assert` is redefined after the
test's own includes to count instead of to abort, and `main` becomes a function that a new `main` calls and reports.
"""

from __future__ import annotations

import re

MAIN = re.compile(r"^[ \t]*int\s+main\s*\([^)]*\)", re.MULTILINE)
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b.*$", re.MULTILINE)

COUNTING_ASSERT = """
#include <cstdio>
#undef assert
static int rlvr_passed = 0, rlvr_total = 0;
#define assert(...) ((void)(++rlvr_total, rlvr_passed += (__VA_ARGS__) ? 1 : 0))
"""
REPORT = """
int main() {
    rlvr_assertions();
    std::printf("\\nPASSED %d/%d\\n", rlvr_passed, rlvr_total);
    return rlvr_total > 0 && rlvr_passed == rlvr_total ? 0 : 1;
}
"""


def count_assertions(test: str) -> str:
    """The same test as a harness that prints `PASSED n/m`, `m` being the assertions that were reached.

    A test without a `main` is returned as it is.
    """
    if not MAIN.search(test):
        return test
    includes = [match.end() for match in INCLUDE.finditer(test)]
    head, body = test[: includes[-1]] if includes else "", test[includes[-1] :] if includes else test
    body = MAIN.sub("static int rlvr_assertions()", body, count=1)
    end = body.rindex("}")
    return head + COUNTING_ASSERT + body[:end] + "    return 0;\n" + body[end:] + REPORT
