"""What a verification costs, beside what people use instead: `python -m benchmarks.verifier`.

Four ways to judge the same programs, taken in turns so that a busy machine slows them alike: one plain `g++` call with
no sandbox at all, one `g++` call for each test case (as verl with SandboxFusion and open-r1 with Piston do), and this
verifier with g++ and with clang++, sandbox included. Every program is new to every cache of results. `cold` is the
first program of its kind, for which harness and worker are built. CPU seconds are
those of all child processes and of this process together; ratios of them hold on a busy machine, seconds do not.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

from rlvr_cpp import Program, Verifier, VerifyResult
from rlvr_cpp.verifier.verifier import available_cores

HEADERS = {
    "cstdio": ("cstdio",),
    "nine": ("cassert", "cstdio", "cmath", "vector", "string", "map", "set", "algorithm", "sstream"),
    "bits": ("bits/stdc++.h",),
}
TARGETS = {("nine", "g++"): 0.33, ("bits", "g++"): 0.22, ("nine", "clang++"): 0.25, ("bits", "clang++"): 0.13}
PLAIN = ("-std=c++17", "-O0", "-Wall", "-Wextra")
TEST_COUNTS = (1, 10, 100)
MEASURED_SINGLES = 2  # of the calls that one `g++` a test takes; a hundred of them take minutes and are all alike


@dataclass(frozen=True)
class Cost:
    """Of one verification, in seconds."""

    cpu: float
    wall: float


def cpu_seconds() -> float:
    """Of this process and of every child it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def candidate(headers: str, number: int) -> str:
    """A solution to "the sum of the squares", in turn a plain loop, one that sorts, and one that fills a map.

    What a program instantiates of the headers is its own and no header can be compiled for it in advance. The last
    line makes each program unlike every other.
    """
    includes = "".join(f"#include <{name}>\n" for name in HEADERS[headers])
    if headers == "cstdio":
        parameters, body = "const int* v, int n", "for (int i = 0; i < n; ++i) sum += v[i] * v[i];"
    else:
        first = ("", "std::sort(v.begin(), v.end());", "std::map<int, int> seen; for (int x : v) ++seen[x];")[
            number % 3
        ]
        parameters, body = "std::vector<int> v", f"{first} for (int x : v) sum += x * x;"
    function = f"int solve({parameters}) {{\n    int sum = 0;\n    {body}\n    return sum;\n}}\n"
    return f"{includes}{function}// {number} {os.getpid()}\n"


def harness(headers: str, tests: range, total: int) -> str:
    """The test cases with these numbers, in the form of the marker."""
    lines = ["#include <cstdio>", "int main() {", "    int passed = 0;"]
    for k in tests:
        values = f"{k}, {k % 7}, {k % 3}"
        expected = k * k + (k % 7) ** 2 + (k % 3) ** 2
        if headers == "cstdio":
            lines.append(f"    {{ const int v[] = {{{values}}}; passed += solve(v, 3) == {expected}; }}")
        else:
            lines.append(f"    passed += solve({{{values}}}) == {expected};")
    lines += [f'    std::printf("PASSED %d/{total}\\n", passed);', f"    return passed == {total} ? 0 : 1;", "}"]
    return "\n".join(lines) + "\n"


def plain(code: str, tests: str, folder: Path) -> bool:
    """One g++ call and one run, with no protection whatsoever."""
    (folder / "program.cpp").write_text(code + tests)
    built = subprocess.run(["g++", *PLAIN, "program.cpp", "-o", "program"], cwd=folder, capture_output=True)
    return built.returncode == 0 and subprocess.run(["./program"], cwd=folder, capture_output=True).returncode == 0


def timed(judge: Callable[[], bool]) -> Cost:
    """What one verification costs. A wrong verdict ends the benchmark."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    if not judge():
        raise SystemExit("error: a right program was not judged right")
    return Cost(cpu_seconds() - cpu, time.perf_counter() - wall)


def ways(headers: str, count: int, verifiers: dict[str, Verifier], folder: Path) -> dict[str, Callable[[int], Cost]]:
    """Each way to judge program number n."""
    whole = harness(headers, range(count), count)
    singles = [harness(headers, range(k, k + 1), 1) for k in range(count)]

    def ours(verifier: Verifier, number: int) -> Cost:
        program = Program(candidate(headers, number), whole, count)
        return timed(lambda: verifier.verify(program).passed)

    def one(number: int) -> Cost:
        return timed(lambda: plain(candidate(headers, number), whole, folder))

    def each(number: int) -> Cost:
        code = candidate(headers, number)
        measured = singles[:MEASURED_SINGLES]
        cost = timed(lambda: all(plain(code, single, folder) for single in measured))
        return Cost(cost.cpu * count / len(measured), cost.wall * count / len(measured))

    return {"g++": one, "g++ a test": each} | {
        f"verifier {name}": lambda number, verifier=verifier: ours(verifier, number)  # type: ignore[misc]
        for name, verifier in verifiers.items()
    }


def measure(headers: str, count: int, rounds: int, verifiers: dict[str, Verifier]) -> dict[str, list[Cost]]:
    """All ways in turns; the first rounds of a verifier, in which it builds what it keeps, are its cold ones."""
    costs: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        contenders = ways(headers, count, verifiers, Path(name))
        numbers = iter(range(10**9))
        for way, judge in contenders.items():
            if way.startswith("verifier"):
                costs[f"{way} cold"] = [judge(next(numbers) + count * 1000)]
                for _ in range(6):
                    judge(next(numbers) + count * 1000)
        for turn in range(rounds):
            for place, (way, judge) in enumerate(contenders.items()):
                number = 3_000_000 + 300_000 * place + 3000 * count + turn  # the same three kinds for each way
                costs.setdefault(way, []).append(judge(number))
    return costs


def mean(costs: list[Cost]) -> Cost:
    """Of CPU and of wall time."""
    return Cost(statistics.fmean(c.cpu for c in costs), statistics.fmean(c.wall for c in costs))


def print_costs(rounds: int, verifiers: dict[str, Verifier]) -> bool:
    """The table; False where a target was missed."""
    print(f"{'headers':8} {'tests':>5}  {'way':22} {'CPU ms':>8} {'wall ms':>8} {'CPU ratio':>10} {'target':>7}")
    met = True
    for headers in HEADERS:
        for count in TEST_COUNTS:
            costs = {way: mean(list(of)) for way, of in measure(headers, count, rounds, verifiers).items()}
            base = costs["g++"].cpu
            for way, cost in costs.items():
                target = TARGETS.get((headers, way.removeprefix("verifier "))) if way.startswith("verifier") else None
                missed = target is not None and cost.cpu / base > target
                met = met and not missed
                note = f"{target:7.2f}{' missed' if missed else ''}" if target is not None else ""
                print(
                    f"{headers:8} {count:5}  {way:22} {cost.cpu * 1e3:8.1f} {cost.wall * 1e3:8.1f} "
                    f"{cost.cpu / base:10.2f} {note}",
                    flush=True,
                )
    return met


def print_sandbox_share(verifier: Verifier) -> None:
    """What the sandbox itself adds to a verification: everything that is neither the compiler nor the program."""
    shares: list[tuple[float, float, float]] = []
    whole = harness("nine", range(10), 10)
    for number in range(20):
        program = Program(candidate("nine", 10**7 + number), whole, 10)
        results: list[VerifyResult] = []
        cost = timed(lambda program=program, results=results: not results.append(verifier.verify(program)))  # type: ignore[misc]
        timings = results[0].timings
        inside = timings["compile_cpu"] + timings["run_cpu"]
        shares.append(
            (cost.cpu - inside, (cost.cpu - inside) / cost.cpu, cost.wall - timings["compile"] - timings["run"])
        )
    cpu, share, wall = (statistics.median(column) for column in zip(*shares, strict=True))
    print(
        f"\nthe sandbox, its oracle process and our Python: {cpu * 1e3:.1f} ms CPU ({share:.0%}), "
        f"{wall * 1e3:.1f} ms wall a program"
    )


def print_isolation(verifier: Verifier) -> bool:
    """One run in the jail beside one without, of a program that does nothing."""
    from rlvr_sandbox import Command, Limits, host_controls, run

    true = shutil.which("true") or "/bin/true"
    command = Command(
        (true,),
        Path("/"),
        Limits(cpu=5.0, wall=5.0),
        readable=("/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib64"),
    )
    controls, jailed, bare = host_controls(), [], []
    for _ in range(100):
        start = time.perf_counter()
        run(command, controls)
        jailed.append(time.perf_counter() - start)
        start = time.perf_counter()
        subprocess.run([true], capture_output=True)
        bare.append(time.perf_counter() - start)
    added = (statistics.median(jailed) - statistics.median(bare)) * 1e3
    print(f"isolation adds {added:.1f} ms wall to a run (target 5.0{' missed' if added > 5 else ''})")
    return added <= 5


def print_cache_hit(verifier: Verifier) -> bool:
    """A program that was judged before."""
    program = Program(candidate("nine", -1), harness("nine", range(10), 10), 10)
    verifier.verify(program)
    costs = [timed(lambda: verifier.verify(program).cache_hit).wall for _ in range(200)]
    hit = statistics.median(costs) * 1e3
    print(f"a result that is known takes {hit:.2f} ms (target 0.50{' missed' if hit > 0.5 else ''})")
    return hit <= 0.5


def print_batch(verifier: Verifier, size: int = 64) -> bool:
    """A GRPO batch: how many cores it keeps busy."""
    whole = harness("nine", range(10), 10)
    programs = [Program(candidate("nine", 10**8 + number), whole, 10) for number in range(size)]
    cpu, wall = cpu_seconds(), time.perf_counter()
    verifier.verify_many(programs)
    seconds = time.perf_counter() - wall
    busy = (cpu_seconds() - cpu) / seconds
    cores = available_cores()
    target = 0.9 * cores
    print(
        f"a batch of {size}: {size / seconds:.1f} programs a second, {busy:.2f} of {cores} cores busy "
        f"(target {target:.1f}{' missed' if busy < target else ''})"
    )
    return busy >= target


CHILD = """
import sys, time
import benchmarks.verifier as own
ballast = bytearray(b"x" * (int(sys.argv[1]) << 20))
with own.Verifier(workers=1) as verifier:
    tests = own.harness("cstdio", range(10), 10)
    for number, _ in enumerate(sys.stdin):
        start = time.perf_counter()
        assert verifier.verify(own.Program(own.candidate("cstdio", number), tests, 10)).passed
        print(time.perf_counter() - start, flush=True)
"""


def print_big_process(rounds: int = 40, megabytes: int = 4096) -> bool:
    """The same verification asked for by a small process and by one as large as a trainer, in turns."""
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(size)], stdin=PIPE, stdout=PIPE, text=True)
        for size in (1, megabytes)
    ]
    seconds: list[list[float]] = [[], []]
    for turn in range(rounds + 5):
        for child, kept in zip(children, seconds, strict=True):
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("go\n")
            child.stdin.flush()
            taken = float(child.stdout.readline())
            if turn >= 5:
                kept.append(taken)
    for child in children:
        child.communicate()
    small, big = (statistics.median(kept) * 1e3 for kept in seconds)
    more = big / small - 1
    print(
        f"a verification takes {small:.1f} ms from a small process and {big:.1f} ms from one of {megabytes} MB: "
        f"{more:+.0%} (target +10%{' missed' if more > 0.1 else ''})"
    )
    return more <= 0.1


def compilers() -> Iterator[str]:
    """Those of the two that are installed."""
    for name in ("g++", "clang++"):
        if shutil.which(name):
            yield name
        else:
            print(f"{name} is not installed: left out")


def main() -> int:
    """Print the tables; exit 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only-machine", action="store_true", help="leave the tables of programs out")
    parser.add_argument("--rounds", type=int, default=12, help="verifications of each kind, a multiple of three")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        os.environ["XDG_CACHE_HOME"] = empty  # nothing is built yet: cold is cold
        return 0 if run(0 if arguments.only_machine else arguments.rounds) else 1


def run(rounds: int) -> bool:
    """Print everything; False where a target was missed."""
    verifiers = {name: Verifier(compiler=name) for name in compilers()}
    try:
        met = [print_costs(rounds, verifiers)] if rounds else []
        first = next(iter(verifiers.values()))
        print_sandbox_share(first)
        met += [print_isolation(first), print_cache_hit(first), print_batch(first), print_big_process()]
    finally:
        for verifier in verifiers.values():
            verifier.close()
    return all(met)


if __name__ == "__main__":
    raise SystemExit(main())
