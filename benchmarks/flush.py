"""Does a precompiled header whose templates were instantiated when it was made change anything but the time?

    python -m benchmarks.flush [--step 1] [FILE ...]

Programs of the shipped tasks, and of files that `tasks.source` takes: references, wrong twins, mutants, answers cut
short and answers with a word misspelt, and the hostile programs of the tests. Each is judged with both kinds of header
by the same g++, with precompiled headers from the first program on. What differs is printed: status, tests passed,
error class, tier, diagnostics or what the compiler said.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rlvr_cpp import Program, Verifier, VerifyResult
from rlvr_cpp.runs.console import progress_bar
from rlvr_cpp.tasks.families.mutation import mutants
from rlvr_cpp.tasks.negation import negated_solution
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.verifier.toolchain.precompiled import PrecompiledHeaders
from rlvr_cpp.verifier.toolchain.store import Store
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_sandbox import host_controls

HOSTILE = Path(__file__).parents[1] / "tests" / "data" / "adversarial"
HEADERS = "#include <bits/stdc++.h>\nusing namespace std;\n"
CANDIDATE = "std::vector<int> sorted_unique(std::vector<int> v);"


def answers(task: Task) -> Iterator[str]:
    """Completions of a task: its reference and others that are wrong, each in another way."""
    right = task.reference
    if right is None:
        return
    yield right
    yield negated_solution(task)
    yield from mutants(right)[:1]
    yield right[: len(right) * 2 // 3]
    yield right.replace("return ", "return undeclared_word + ", 1)


def programs(files: Sequence[Path], step: int) -> Iterator[Program]:
    """All that are judged."""
    for path in (BUILTIN, *files):
        for task in load_tasks(path)[::step]:
            yield from (task.program(task.prompt + answer) for answer in dict.fromkeys(answers(task)))
    test = (HOSTILE / "harness_assert.cpp").read_text()
    for path in sorted(HOSTILE.glob("**/*.cpp"))[::step]:
        code = path.read_text(errors="replace")
        yield Program(code, test, declaration=CANDIDATE)
        yield Program(HEADERS + code, test, declaration=CANDIDATE)


def open_verifier(folder: Path, *, is_flushed: bool, flags: Sequence[str]) -> Verifier:
    """One that builds all of its own, in a folder of its own."""
    verifier = Verifier(extra_flags=flags, compile_timeout=10.0, timeout=5.0)
    workshop = Workshop(verifier.toolchain, host_controls())
    workshop.store = Store(folder, 8 << 30)
    workshop.headers = PrecompiledHeaders(workshop.store, verifier.toolchain, pays_after=1)
    if not is_flushed:
        workshop._flush_plugin = lambda: None  # type: ignore[method-assign]
    verifier.workshop = workshop
    return verifier


def told(result: VerifyResult) -> VerifyResult:
    """All of a result but its times and what the program printed."""
    said = result.stderr if not result.compile_ok else ""
    return replace(result, timings={}, stdout="", stderr=said, cache_hit=False)


def main() -> None:
    """Judge everything twice; exit status 1 where a verdict differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--step", type=int, default=1, help="every so manieth task and hostile program only")
    parser.add_argument("--flags", nargs="*", default=[], help="of the compiler, such as -fsanitize=address")
    options = parser.parse_args()
    tried = list(programs(options.files, options.step))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for is_flushed in (False, True):
            own = Path(folder) / str(is_flushed)
            with (
                open_verifier(own, is_flushed=is_flushed, flags=options.flags) as verifier,
                progress_bar("flushed" if is_flushed else "plain", len(tried)) as advance,
            ):
                results.append([told(result) for result in verifier.verify_many(tried, advance)])
    different = [(p, one, two) for p, one, two in zip(tried, *results, strict=True) if one != two]
    for program, one, two in different:
        print(
            f"--- {one.status} {one.tests_passed} / {two.status} {two.tests_passed}", one, two, program.code, sep="\n"
        )
    endings = Counter(result.status for result in results[0])
    print(f"{len(tried)} programs ({', '.join(f'{n} {s}' for s, n in endings.most_common())}), {len(different)} differ")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
