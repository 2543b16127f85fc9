"""What does sampling one step ahead save? `python -m benchmarks.ahead --repeats 3`.

The same job with `generation.ahead=0` and `=1`, in turn, each in a fresh process; the ratio of their seconds a step is
taken repeat by repeat. Where sampling takes G seconds and everything else U, a step can fall from G + U to the larger
of the two and no further, so both are made alike. The shipped demo is too small for that: much of its time is Python's
between kernels, of which one thread alone can be inside. So the model is the shipped `tiny-cpp` with wider MLPs whose
further weights are zero: it writes what `tiny-cpp` writes, at a larger model's price. `--width` sets that price for
both halves of a step; `--together`, how many completions are sampled at a time, sets that of sampling alone: the fewer,
the dearer. No group is discarded, so that each step's update is a whole one.

Each job is made once before, untimed, so that all verdicts are in a cache by the second time: on two cores there is
none left for the compiler while both halves of a step compute. With `--judge` every program is judged instead.

One step ahead computes on two cores at once, with one thread of torch on each. What two threads make of the same step
without it, one half after the other, is the third line.

It wants a machine of its own. Linux shares busy cores out by sessions, not by threads, so beside others' work two
threads get no more than one, and the numbers say nothing about `ahead`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

WARM_UP = 2
"""Steps that are not timed: first calls, and with `ahead` a first step that is sampled in its place."""
COLUMNS = ("seconds", "generate", "wait", "update")
Row = Mapping[str, float]


def widen(folder: Path, width: int) -> None:
    """Save the shipped Llama-style model with MLPs of `width`, of which all that is new is zero."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from rlvr_cpp.policy.policy import find_model

    shipped = find_model("tiny-cpp")
    narrow = AutoModelForCausalLM.from_pretrained(shipped)
    wide = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(shipped, intermediate_size=width))
    weights = narrow.state_dict()
    with torch.no_grad():
        for name, its in wide.named_parameters():
            its.zero_()
            its[tuple(slice(size) for size in weights[name].shape)] = weights[name]
    wide.save_pretrained(folder)
    AutoTokenizer.from_pretrained(shipped).save_pretrained(folder)


def train(folder: Path, ahead: int, arguments: argparse.Namespace, name: str, threads: int = 1) -> list[Row]:
    """The steps of one run; exits where it fails."""
    judged = () if arguments.judge else (f"verifier.cache={folder}/verdicts",)
    command = [
        *("rlvr_cpp.gspo", f"model={folder}/model", f"generation.ahead={ahead}", f"trainer.steps={arguments.steps}"),
        *(f"trainer.batch_size={arguments.batch}", f"seed={arguments.seed}", f"hydra.run.dir={folder}/{name}"),
        *("evaluation.limit=1", "evaluation.samples=0", "evaluation.every=null", "guards=warn", *judged),
        *(f"generation.batch_size={arguments.together}", "algorithm.zero_variance=keep", f"policy.threads={threads}"),
    ]
    print(f"python -m {' '.join(command)}", file=sys.stderr)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {command[0]} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()][WARM_UP:]


def mean(rows: Sequence[Row], name: str) -> float:
    """Of a step."""
    return statistics.fmean(row[name] for row in rows)


def main() -> None:
    """Print a line for each run and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help=f"more than {WARM_UP}")
    parser.add_argument("--width", type=int, default=8192, help="of the MLPs; the shipped ones have 320")
    parser.add_argument("--batch", type=int, default=16, help="completions a step, a multiple of 16")
    parser.add_argument("--together", type=int, default=2, help="completions that are sampled at a time")
    parser.add_argument("--judge", action="store_true", help="judge every program: no verdict is known before")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        widen(folder / "model", arguments.width)
        if not arguments.judge:
            for ahead in (0, 1):
                train(folder, ahead, arguments, f"before-{ahead}")
        print(f"{'seconds of a step':<20}" + "".join(f"{column:>10}" for column in ("step", *COLUMNS[1:])))
        ratios = []
        for repeat in range(arguments.repeats):
            found = {ahead: train(folder, ahead, arguments, f"{repeat}-{ahead}") for ahead in (0, 1)}
            shown = {f"ahead: {ahead}": rows for ahead, rows in found.items()}
            shown["ahead: 0, 2 threads"] = train(folder, 0, arguments, f"{repeat}-threads", threads=2)
            for name, rows in shown.items():
                values = "".join(f"{mean(rows, column):>10.2f}" for column in COLUMNS)
                print(f"{name:<20}{values}", flush=True)
            ratios.append(mean(found[1], "seconds") / mean(found[0], "seconds"))
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"one step ahead takes {statistics.median(ratios):.2f} of the time ({each})")


if __name__ == "__main__":
    main()
