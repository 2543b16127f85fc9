"""What judging by cases costs, beside a plain loop that compiles and runs: `python -m benchmarks.cases`.

Both judge programs of their own of the same kind, in turns, so that a busy machine slows them alike: one `g++` call and
one run for each case with no sandbox at all, and this verifier, which runs each case in a jail of its own. CPU seconds
are those of all child processes and of this process together. A checker program is a further run for each case.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.verifier import HEADERS, PLAIN, Cost, mean, timed
from rlvr_cpp import Case, Program, Verifier

COUNTS = (1, 10, 100)
TARGETS = {10: 0.6}
WARM_UP = 6  # programs after which the verifier has built what it keeps
SAME = """
#include <fstream>
#include <string>
int main(int, char** files) {
    std::string output, answer;
    std::ifstream(files[2]) >> output;
    std::ifstream(files[3]) >> answer;
    return output != answer;
}
"""


def candidate(headers: str, number: int) -> str:
    """A program that reads n and n numbers and prints the sum of their squares; each is unlike every other."""
    includes = "".join(f"#include <{name}>\n" for name in (*HEADERS[headers], "iostream"))
    body = "int n, x, sum = 0;\n    std::cin >> n;\n    while (n-- > 0 && std::cin >> x) sum += x * x;\n"
    return f"{includes}int main() {{\n    {body}    std::cout << sum << '\\n';\n}}\n// {number} {os.getpid()}\n"


def loop(code: str, cases: Sequence[Case], folder: Path) -> bool:
    """One g++ call and one run for each case, with no protection whatsoever."""
    (folder / "program.cpp").write_text(code)
    built = subprocess.run(["g++", *PLAIN, "program.cpp", "-o", "program"], cwd=folder, capture_output=True)
    runs = [subprocess.run(["./program"], cwd=folder, input=case.stdin.encode(), capture_output=True) for case in cases]
    return built.returncode == 0 and [run.stdout.decode() for run in runs] == [case.stdout for case in cases]


def measure(headers: str, count: int, rounds: int, verifier: Verifier, folder: Path) -> dict[str, Cost]:
    """The mean cost of each way, in turns."""
    cases = tuple(Case(f"3\n{k} {k % 7} 1\n", f"{k * k + (k % 7) ** 2 + 1}\n") for k in range(count))
    numbers = iter(range(10**6 * count, 10**6 * (count + 1)))

    def plain() -> Cost:
        code = candidate(headers, next(numbers))
        return timed(lambda: loop(code, cases, folder))

    def ours(checker: str | None) -> Cost:
        program = Program(candidate(headers, next(numbers)), cases=cases, checker_program=checker)
        return timed(lambda: verifier.verify(program).passed)

    for _ in range(WARM_UP):
        ours(SAME)
    costs = [(plain(), ours(None), ours(SAME)) for _ in range(rounds)]
    names = ("g++ and a loop", "verifier", "with a checker program")
    return {name: mean(list(of)) for name, of in zip(names, zip(*costs, strict=True), strict=True)}


def main() -> int:
    """Print the table; exit 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12, help="programs of each kind")
    rounds = parser.parse_args().rounds
    met = True
    print(f"{'headers':8} {'cases':>5}  {'way':24} {'CPU ms':>8} {'wall ms':>8} {'CPU ratio':>10}")
    with tempfile.TemporaryDirectory() as folder, Verifier() as verifier:
        for headers in HEADERS:
            for count in COUNTS:
                costs = measure(headers, count, rounds, verifier, Path(folder))
                base = costs["g++ and a loop"].cpu
                for way, cost in costs.items():
                    target = TARGETS.get(count) if way == "verifier" and headers != "cstdio" else None
                    missed = target is not None and cost.cpu / base > target
                    met = met and not missed
                    note = "" if target is None else f"  target {target:.2f}{' missed' if missed else ''}"
                    row = f"{headers:8} {count:5}  {way:24} {cost.cpu * 1e3:8.1f} {cost.wall * 1e3:8.1f}"
                    print(f"{row} {cost.cpu / base:10.2f}{note}", flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
