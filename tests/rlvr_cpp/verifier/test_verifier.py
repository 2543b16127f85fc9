"""Batches, and where a verifier can be used."""

import contextlib
import dataclasses
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import rlvr_cpp
from rlvr_cpp import Program, Verifier, verify_cpp

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


def test_many_agree_with_one(verifier):
    programs = [Program(f"int twice(int x) {{ return {body}; }}", HARNESS, 2) for body in ("2 * x", "x + 1", "y", "x")]
    many = verifier.verify_many(programs)
    assert [r.status for r in many] == ["ok", "wrong", "compile_error", "wrong"]
    for program, result in zip(programs, many, strict=True):
        alone = verify_cpp(program.code, HARNESS, 2.0, tests_declared=2, return_structured=True)
        assert dataclasses.replace(alone, timings={}) == dataclasses.replace(result, timings={})


def test_two_threads_may_share_a_verifier(verifier):
    batches = [[Program(f"int main() {{ return {n}; }} // {k}") for n in range(4)] for k in range(2)]
    with ThreadPoolExecutor(2) as threads:
        for results in threads.map(verifier.verify_many, batches):
            assert [r.returncode for r in results] == [0, 1, 2, 3]


def test_many_open_files_do_not_matter():
    with contextlib.ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(open("/dev/null"))
        with Verifier(workers=1) as verifier:
            assert verifier.verify_many([Program("int main() {}")])[0].status == "ok"


def test_a_script_without_a_main_guard_can_verify_many(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from rlvr_cpp import Program, Verifier\n"
        "with Verifier(workers=2) as v:\n"
        "    print([r.status for r in v.verify_many([Program('int main() {}'), Program('x')])])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "['ok', 'compile_error']\n"


def test_no_torch_comes_with_the_verifier():
    code = "import sys, rlvr_cpp; assert rlvr_cpp.verify_cpp('int main(){}').run_ok; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_public_names_are_there():
    assert all(hasattr(rlvr_cpp, name) for name in rlvr_cpp.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        rlvr_cpp.no_such_name  # noqa: B018
