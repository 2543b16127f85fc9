"""How long 164 reference solutions take, cold: `python -m benchmarks.evaluation`.

HumanEval-X C++ has 164 rows. These have the shape of its rows and are made here: twelve kinds of problems (numbers,
strings, vectors, maps, nested vectors) with parameters, each with its reference solution and a `main` of assertions
over values that Python computed. They are put through `python -m rlvr_cpp.evaluate model=canonical` and
`model=negated`, each in a fresh process with an empty cache, as one runs them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

ROWS = 164
ASSERTIONS = 7
WORDS = ("", "a", "compiler", "Level", "moon noon", "x1y22z", "Aa bB", "hello world", "tests", "Mississippi")
SAME = (
    "bool issame(vector<{0}> a,vector<{0}> b){{\n    if (a.size()!=b.size()) return false;\n"
    "    for (int i=0;i<a.size();i++)\n    {{\n    if (a[i]!=b[i]) return false;\n    }}\n    return true;\n}}\n"
)


@dataclass(frozen=True)
class Kind:
    """Problems that differ in one number `@`."""

    name: str
    says: str
    includes: tuple[str, ...]
    signature: str
    """Up to its brace."""
    solution: str
    """What stands in the braces."""
    draw: Callable[[Random], Any]
    """The argument of one assertion."""
    answer: Callable[[Any, int], Any]
    """What Python says of it."""
    helper: str = ""
    """C++ before the test's `main`."""
    assertion: str = "{name}({argument}) == {expected}"


def _numbers(rng: Random) -> list[int]:
    return [rng.randint(-9, 20) for _ in range(rng.randint(0, 7))]


def _word(rng: Random) -> str:
    return rng.choice(WORDS)


def _fibonacci(n: int, k: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, (a + b) % k
    return a % k


KINDS = (
    Kind(
        "sum_of_multiples", "Return the sum of the elements that @ divides.", ("stdio.h", "vector"),
        "int {name}(vector<int> numbers)", "    int sum=0;\n    for (int i=0;i<numbers.size();i++)\n"
        "        if (numbers[i]%@==0) sum+=numbers[i];\n    return sum;\n",
        _numbers, lambda x, k: sum(n for n in x if n % k == 0),
    ),
    Kind(
        "any_close", "Check if any two of the numbers are closer than @.", ("stdio.h", "vector", "math.h"),
        "bool {name}(vector<float> numbers)", "    int i,j;\n    for (i=0;i<numbers.size();i++)\n"
        "    for (j=i+1;j<numbers.size();j++)\n    if (abs(numbers[i]-numbers[j])<@) return true;\n    return false;\n",
        lambda rng: [rng.randint(-40, 60) / 1.0 for _ in range(rng.randint(0, 5))],
        lambda x, k: any(abs(a - b) < k for i, a in enumerate(x) for b in x[:i]),
    ),
    Kind(
        "greater", "Return the elements greater than @, in order.", ("stdio.h", "vector"),
        "vector<int> {name}(vector<int> numbers)", "    vector<int> out;\n    for (int x: numbers)\n"
        "        if (x>@) out.push_back(x);\n    return out;\n",
        _numbers, lambda x, k: [n for n in x if n > k], SAME.format("int"), "issame({name}({argument}) , {expected})",
    ),
    Kind(
        "shift", "Move each lower case letter @ places on in the alphabet.", ("stdio.h", "string"),
        "string {name}(string s)", '    string out="";\n    for (char c: s)\n'
        "        if (c>='a' && c<='z') out+=char('a'+(c-'a'+@)%26); else out+=c;\n    return out;\n",
        _word, lambda s, k: "".join(chr((ord(c) - 97 + k) % 26 + 97) if c.islower() else c for c in s),
    ),
    Kind(
        "mean_deviation", "Return the mean distance from @.", ("stdio.h", "math.h", "vector"),
        "float {name}(vector<float> numbers)", "    float sum=0;\n    for (float x: numbers) sum+=abs(x-@);\n"
        "    return sum/numbers.size();\n",
        lambda rng: [rng.randint(-20, 20) / 2 for _ in range(rng.randint(1, 6))],
        lambda x, k: sum(abs(n - k) for n in x) / len(x), "", "abs({name}({argument}) - {expected})<1e-4",
    ),
    Kind(
        "histogram", "Count the characters that come up at least @ times.", ("stdio.h", "map", "string"),
        "map<char,int> {name}(string s)", "    map<char,int> counts, out;\n    for (char c: s) counts[c]+=1;\n"
        "    for (auto& entry: counts) if (entry.second>=@) out[entry.first]=entry.second;\n    return out;\n",
        _word, lambda s, k: {c: s.count(c) for c in sorted(set(s)) if s.count(c) >= k},
    ),
    Kind(
        "long_words", "Return the words with more than @ letters, sorted.",
        ("stdio.h", "vector", "string", "algorithm"),
        "vector<string> {name}(vector<string> words)", "    vector<string> out;\n    for (string w: words)\n"
        "        if (w.length()>@) out.push_back(w);\n    sort(out.begin(),out.end());\n    return out;\n",
        lambda rng: [_word(rng) for _ in range(rng.randint(0, 4))], lambda x, k: sorted(w for w in x if len(w) > k),
        SAME.format("string"), "issame({name}({argument}) , {expected})",
    ),
    Kind(
        "fibonacci_modulo", "Return the n-th Fibonacci number modulo @.", ("stdio.h",),
        "int {name}(int n)", "    if (n<2) return n%@;\n    return ({name}(n-1)+{name}(n-2))%@;\n",
        lambda rng: rng.randint(0, 18), _fibonacci,
    ),
    Kind(
        "power_modulo", "Return 2 to the power n modulo @.", ("stdio.h", "math.h"),
        "long long {name}(int n)", "    long long out=1;\n    for (int i=0;i<n;i++) out=out*2%@;\n    return out%@;\n",
        lambda rng: rng.randint(0, 90), lambda n, k: pow(2, n, k),
    ),
    Kind(
        "same_around", "Check if the first @ characters read the same from both ends.", ("stdio.h", "string"),
        "bool {name}(string s)", "    string t=s.substr(0,@);\n    string r(t.rbegin(),t.rend());\n    return t==r;\n",
        _word, lambda s, k: s[:k] == s[:k][::-1],
    ),
    Kind(
        "triangle", "Return the first n rows of Pascal's triangle modulo @.", ("stdio.h", "vector"),
        "vector<vector<int>> {name}(int n)", "    vector<vector<int>> out;\n    for (int i=0;i<n;i++)\n    {\n"
        "        vector<int> row(i+1,1%@);\n        for (int j=1;j<i;j++) row[j]=(out[i-1][j-1]+out[i-1][j])%@;\n"
        "        out.push_back(row);\n    }\n    return out;\n",
        lambda rng: rng.randint(0, 6), lambda n, k: [[math.comb(i, j) % k for j in range(i + 1)] for i in range(n)],
    ),
    Kind(
        "digits", "Return the digits of n in base @, the highest first, as a string.", ("stdio.h", "string"),
        "string {name}(int n)", '    if (n==0) return "0";\n    string out="";\n'
        "    while (n>0) { out=to_string(n%@)+out; n=n/@; }\n    return out;\n",
        lambda rng: rng.randint(0, 999), lambda n, k: _digits(n, k),
    ),
)  # fmt: skip


def _digits(n: int, base: int) -> str:
    found = ""
    while n:
        found, n = str(n % base) + found, n // base
    return found or "0"


def _cpp(value: Any) -> str:
    """A value as C++ writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return "{" + ", ".join(map(_cpp, value)) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{{'{key}', {count}}}" for key, count in value.items()) + "}"
    return repr(value)


def humaneval_x_rows(count: int) -> list[dict[str, str]]:
    """`count` rows of HumanEval-X's C++ shape, as many of each kind as can be; the same ones every time."""
    drawn = ((kind, k) for k in range(2, 100) for kind in KINDS)
    return [_row(kind, k, number) for number, (kind, k) in enumerate(islice(drawn, count))]


def _row(kind: Kind, k: int, number: int) -> dict[str, str]:
    rng, name = Random(number), f"{kind.name}_{k}"
    opening = f"{kind.signature.replace('{name}', name)}{{\n"
    heads = "".join(f"#include<{header}>\n" for header in kind.includes) + "using namespace std;\n"
    arguments = [kind.draw(rng) for _ in range(ASSERTIONS)]
    checks = [f"    assert ({_assertion(kind, name, argument, k)});\n" for argument in arguments]
    main = "int main(){{\n{0}}}\n"
    return {
        "task_id": f"CPP/{number}",
        "prompt": f"/*\n{kind.says.replace('@', str(k))}\n*/\n{heads}{opening}",
        "declaration": heads + opening,
        "canonical_solution": kind.solution.replace("{name}", name).replace("@", str(k)) + "}\n",
        "test": f"#undef NDEBUG\n#include<assert.h>\n{kind.helper}{main.format(''.join(checks))}",
        "example_test": f"#undef NDEBUG\n#include<assert.h>\n{kind.helper}{main.format(checks[0])}",
    }


def _assertion(kind: Kind, name: str, argument: Any, k: int) -> str:
    expected = kind.answer(argument, k)
    written = f"map<char,int>{_cpp(expected)}" if isinstance(expected, dict) else _cpp(expected)
    if isinstance(expected, list) and not kind.helper:
        written = f"vector<vector<int>>{written}"
    return kind.assertion.format(name=name, argument=_cpp(argument), expected=written)


def measure(model: str, problems: Path, folder: Path) -> dict[str, Any]:
    """Evaluate once, in a fresh process with an empty cache: seconds on the clock and of CPU time, and who passed."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "rlvr_cpp.evaluate", f"model={model}", "benchmark=humaneval_cpp"]
    command += [f"benchmark.source={problems}", f"hydra.run.dir={folder}/run"]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    (greedy,) = json.loads((folder / "run" / "run.json").read_text())["results"]["measures"]
    return {
        "model": model,
        "passed": f"{greedy['passed']:.0f} of {greedy['tasks']}",
        "seconds": seconds,
        "cpu": after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--model", nargs="+", default=["canonical", "negated"])
    arguments = parser.parse_args(argv)
    results = []
    for model in arguments.model:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            folder.chmod(0o755)
            problems = folder / "problems.jsonl"
            problems.write_text("".join(json.dumps(row) + "\n" for row in humaneval_x_rows(arguments.rows)))
            results.append(measure(model, problems, folder))
    print(f"| model | passed | seconds | CPU seconds | seconds a row |\n|{'---|' * 5}")
    for row in results:
        each = row["seconds"] / arguments.rows
        print(f"| {row['model']} | {row['passed']} | {row['seconds']:.1f} | {row['cpu']:.1f} | {each:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
