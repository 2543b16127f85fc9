"""What a user gets wrong is told in a sentence; what the machine gets wrong is no score."""

import os

import pytest

from rlvr_cpp import UserError, Verifier, compute_reward, verify_cpp

HARNESS = """
#include <cstdio>
int main() {
    int passed = 0;
    passed += twice(1) == 2;
    passed += twice(3) == 6;
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""

RIGHT = "int twice(int x) { return 2 * x; }"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compiler": "g++-none"}, "compiler 'g\\+\\+-none' was not found"),
        ({"timeout": 0.0}, "timeout is 0.0"),
        ({"std": "c99"}, "std is 'c99'"),
        ({"tests_declared": 0}, "tests_declared is 0"),
        ({"tests_declared": 1001}, "between 1 and 1000"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(options, words):
    with pytest.raises(UserError, match=words):
        verify_cpp(RIGHT, HARNESS, **{"tests_declared": 2, "timeout": 2.0, **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extra_flags": "-O2"}, "extra_flags is '-O2'"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"compile_timeout": float("nan")}, "compile_timeout is nan"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_told_in_a_sentence(options, words):
    with pytest.raises(UserError, match=words):
        verify_cpp(RIGHT, **options)
    with pytest.raises(UserError, match=words):
        Verifier(**options)


def test_no_workers_is_a_mistake():
    with pytest.raises(UserError, match="workers is 0"):
        Verifier(workers=0)


def test_flags_that_the_compiler_refuses_are_found_before_the_first_program():
    with (
        Verifier(extra_flags=["-fno-such-flag"], workers=1) as verifier,
        pytest.raises(UserError, match="no-such-flag"),
    ):
        verifier.check(["c++17"])


@pytest.mark.parametrize(
    "flag",
    ["-fplugin=x.so", "-o", "/etc/passwd", "@file", "-specs=x", "-I/etc", "-include", "-Wl,-T,x", "-wrapper", "-B/x"],
)
def test_flags_that_name_files_or_programs_are_refused(flag):
    with pytest.raises(UserError, match="only flags that choose"):
        Verifier(extra_flags=[flag])


def test_the_compiler_that_was_checked_is_the_one_that_is_run(tmp_path, monkeypatch):
    compiler = tmp_path / "my-g++"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo mine && exit\nexec /usr/bin/env g++ "$@"\n')
    compiler.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert verify_cpp("int main() {}", compiler="my-g++").toolchain == "mine"
    monkeypatch.chdir(tmp_path)
    assert verify_cpp("int main() {}", compiler="./my-g++").run_ok


@pytest.mark.parametrize(
    "trouble",
    [
        "/tmp/cc0.s: fatal error: error writing to -: No space left on device",
        "g++: fatal error: cannot execute 'cc1plus': vfork: Resource temporarily unavailable",
    ],
)
def test_a_compiler_that_the_machine_failed_is_no_score(tmp_path, trouble):
    compiler = tmp_path / "failing"
    compiler.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo failing && exit\necho "{trouble}" >&2\nexit 1\n')
    compiler.chmod(0o755)
    tmp_path.chmod(0o755)
    result = verify_cpp("int main() {}", compiler=str(compiler))
    assert result.status == "sandbox_error"
    assert compute_reward(result) is None


def test_a_file_that_is_no_cache_is_told_in_a_sentence(tmp_path):
    path = tmp_path / "results.sqlite"
    path.write_text("not a database, and long enough to be taken for one" * 50)
    with pytest.raises(UserError, match=r"cache .* cannot be used"):
        Verifier(cache=path)
