"""What was judged is not judged again, within a batch, a process and a file that processes share."""

from rlvr_cpp import Program, Verifier


def test_equal_programs_are_judged_once(verifier):
    program = Program("int main() { return 0; } // once")
    seen = []
    results = verifier.verify_many([program] * 3, lambda: seen.append(1))
    assert [r.cache_hit for r in results] == [False, True, True]
    assert len(seen) == 3
    assert verifier.verify_many([program])[0].cache_hit


def test_a_full_cache_forgets_without_losing_an_answer(monkeypatch):
    monkeypatch.setattr("rlvr_cpp.verifier.cache.MemoryCache.__init__.__defaults__", (2,))
    first, second, third = (Program(f"int main() {{ return {n}; }}") for n in range(3))
    with Verifier(workers=1) as small:
        small.verify_many([first, second])
        assert [r.returncode for r in small.verify_many([first, third])] == [0, 2]


def test_timeouts_are_not_remembered():
    endless = Program("int main() { for (volatile int i = 0;; ++i) {} }")
    with Verifier(workers=1, timeout=0.3) as verifier:
        assert verifier.verify_many([endless])[0].status == "timeout"
        assert not verifier.verify_many([endless])[0].cache_hit


def test_processes_share_a_cache_on_disk(tmp_path):
    program = Program("int main() { return 0; } // shared")
    for hit in (False, True):
        with Verifier(workers=1, cache=tmp_path / "results.sqlite") as verifier:
            assert verifier.verify(program).cache_hit == hit
