"""The marker of a test is signed where it is surely printed, and no other line is read as one."""

import pytest

from rlvr_cpp.verifier.cpp.marker import signed, unsigned


@pytest.mark.parametrize(
    "test",
    [
        'int main() { std::cout << "PASSED " << p << "/" << t; }',
        'int main() { if (f(1)) { std::printf("\\nPASSED %d/%d\\n", p, t); } }',
        'int main() { std::puts(f() == 1 ? "PASSED 1/1" : "PASSED 0/1"); /* PASSED */ }',
        'int main() { for (int i = 0; i < 1; i++) std::fputs(R"(\nPASSED 1/1)", stdout), std::fflush(stdout); }',
        '#define REPORT(p) std::cout << "done\\nPASSED " << p\nint main() { REPORT(1); }',
        'int main() { std::print("PASSED {}/{}\\n", p, t); }',
    ],
)
def test_what_is_printed_is_signed(test):
    assert signed(test, "mine") == test.replace("PASSED ", "mine ").replace("/* mine */", "/* PASSED */")


@pytest.mark.parametrize(
    "test",
    [
        "int main() { /* PASSED */ }",
        'int main() { std::cout << told("PASSED 1/2"); }',
        'int main() { std::cout << (told(1) == "PASSED 1/2"); }',
        'int main() { std::cout << std::string("PASSED ") + "1/1"; }',
        'int main() { auto s = "PASSED 1/1"; std::cout << s; }',
        'int main() { told("PASSED 1/2"); std::cout << "PASSED 1/1"; }',
        'int main() { std::ostringstream all; all << "PASSED " << p; std::puts(all.str().c_str()); }',
        'int main() { std::cout << "PASS" << "ED 1/1"; }',
        'int main() { std::cout << "PASSED" << " 1/1"; }',
        'int main() { std::cout << "PASSED 1/1',
    ],
)
def test_a_test_that_may_do_something_else_with_it_stays_as_it_is(test):
    assert signed(test, "mine") == test


@pytest.mark.parametrize(
    ("output", "read"),
    [
        (b"mine 1/2\n", b"PASSED 1/2\n"),
        (b"got \nPASSED 7/8\r\nPASSED mine\nmine 1/2", b"got \n PASSED 7/8\r\nPASSED mine\nPASSED 1/2"),
        (b"got mine 1/2", b"got mine 1/2"),
    ],
)
def test_only_a_signed_line_is_read_as_the_marker(output, read):
    assert unsigned(output, "mine") == read
