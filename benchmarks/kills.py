"""Is a resume exact? `python -m benchmarks.kills --kills 20 --seed 0`.

One small run with everything on that has a state: a curriculum, token masks, refilled groups, a schedule, several
updates a step, more steps than an epoch has. It is made once undisturbed and once killed with SIGKILL at random
moments and gone on with each time: every fifth kill falls into the first seconds of a process, the last one behind the
last step, the others behind a step that the process made. Then both must have left the same weights to the bit, and
the same numbers. The exit status is 1 where they did not, where a killed run left a process behind, or where the time
was up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from rlvr_cpp.tasks.task import BUILTIN, load_tasks, save_tasks

STATEFUL = (
    "stepcoder=cccs_fgo",
    "stepcoder.cccs_decay_step=0.4",
    "algorithm.refill_rounds=1",
    "algorithm.num_minibatches=2",
    "algorithm.group_size=4",
    "algorithm.max_gen_len=64",
    "trainer.batch_size=16",
    "trainer.micro_batch_size=4",
    "trainer.lr_schedule=cosine",
    "trainer.warmup_steps=2",
    "evaluation.samples=0",
    "evaluation.limit=4",
    "policy.threads=1",
)
"""Every part of a run that remembers something."""
OF_THE_CLOCK = {"generate", "wait", "update", "verify", "seconds", "step_time", "cache_hits"}
"""What a metrics line may have otherwise: times, and what an emptied cache of results counts."""
TRAINING_TASKS, HELD_OUT_TASKS = 16, 4
LOADED = "run     "
"""What the job writes when everything is loaded."""
POLL = 0.02
REAPED_WITHIN = 20.0


class OutOfTime(Exception):
    """The runs took longer than they were given."""


@dataclass(frozen=True)
class Kill:
    """When a process gets its signal: `delay` seconds after it wrote `mark`, or after it began where that is empty."""

    mark: str
    delay: float


def few_tasks(path: Path, training: int = TRAINING_TASKS, held_out: int = HELD_OUT_TASKS) -> Path:
    """A task file with so few of the shipped tasks that a short run has several epochs."""
    chosen = []
    for split, count in (("train", training), ("held_out", held_out)):
        own = [task for task in load_tasks(BUILTIN) if task.split == split]
        chosen += [own[n * len(own) // count] for n in range(count)]
    save_tasks(chosen, path)
    return path


def differences(run: Path, other: Path) -> list[str]:
    """In what two finished runs differ that had the same settings; nothing where a resume was exact."""
    return [
        *_weight_differences(run, other),
        *_row_differences(run, other, "metrics.jsonl", OF_THE_CLOCK),
        *_row_differences(run, other, "completions.jsonl", {"cache_hit"}),
        *(
            f"{name} of the results differs"
            for name in ("comparison", "greedy_by_step", "reference_sha256")
            if _results(run).get(name) != _results(other).get(name)
        ),
    ]


def _weight_differences(run: Path, other: Path) -> Iterator[str]:
    file = next((run / "adapter").glob("*.safetensors"), None) or run / "model" / "model.safetensors"
    weights, others = load_file(file), load_file(other / file.relative_to(run))
    if weights.keys() != others.keys():
        yield f"{file.name} has other tensors"
        return
    for name, tensor in weights.items():
        if not torch.equal(tensor, others[name]):
            yield f"tensor {name} differs by up to {(tensor - others[name]).abs().max():.3g}"


def _row_differences(run: Path, other: Path, name: str, ignored: set[str]) -> Iterator[str]:
    rows, others = _rows(run / name), _rows(other / name)
    if len(rows) != len(others):
        yield f"{name} has {len(rows)} lines and {len(others)}"
    for number, (row, twin) in enumerate(zip(rows, others, strict=False), 1):
        keys = sorted(key for key in (row.keys() | twin.keys()) - ignored if row.get(key) != twin.get(key))
        if keys:
            yield f"{name} line {number} (step {row['step']}) differs in {', '.join(keys)}"


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _results(run: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run / "run.json").read_text())["results"]
    return results


class Runner:
    """Starts the job in one folder, watches what it writes, kills it."""

    def __init__(self, folder: Path, arguments: list[str], until: float) -> None:
        self.folder, self.arguments, self.until = folder, arguments, until
        self.output = folder.with_suffix(".log")
        self.started = 0.0

    def to_the_end(self) -> float:
        """Run without a kill; the seconds it took. Raises RuntimeError where the job fails."""
        started = time.monotonic()
        process = self._start()
        self._wait(process, "")
        if process.wait() != 0:
            raise RuntimeError(self.output.read_text()[-3000:])
        return time.monotonic() - started

    def kill(self, kill: Kill) -> str:
        """Run until a kill is due; tells where it hit and names what it left behind."""
        process = self._start()
        if kill.mark:
            self._wait(process, kill.mark)
        self._wait(process, "", at_most=kill.delay)
        descendants = _descendants(process.pid)
        process.kill()
        process.wait()
        lost = " ".join(_alive_after_a_while(descendants))
        return self._where() + (f"; LEFT BEHIND: {lost}" if lost else "")

    def _start(self) -> subprocess.Popen[bytes]:
        begun = (self.folder / "run.json").exists()
        arguments = [f"resume={self.folder}"] if begun else [*self.arguments, f"hydra.run.dir={self.folder}"]
        self.started = time.time()
        with self.output.open("wb") as log:
            return subprocess.Popen([sys.executable, "-m", "rlvr_cpp.gspo", *arguments], stdout=log, stderr=log)

    def _wait(self, process: subprocess.Popen[bytes], mark: str, at_most: float = float("inf")) -> None:
        """Until the process has written `mark` or ended, or that many seconds have passed."""
        end = time.monotonic() + at_most
        while process.poll() is None and time.monotonic() < end:
            if mark and mark in self.output.read_text():
                return
            if time.monotonic() > self.until:
                process.kill()
                raise OutOfTime
            time.sleep(POLL)

    def _where(self) -> str:
        """What the run was doing, by what it has written."""
        told, judged = _last_step(self.folder / "metrics.jsonl"), _last_step(self.folder / "completions.jsonl")
        record = self.folder / "run.json"
        fields = json.loads(record.read_text()) if record.exists() else None
        if fields is None:
            doing = "loading, before the run began"
        elif fields["status"] == "finished":
            doing = "at its end"
        elif LOADED not in self.output.read_text():
            doing = "loading"
        elif not (self.folder / "evaluation_before.jsonl").exists():
            doing = "evaluation before"
        elif any(path.stat().st_mtime > self.started for path in self.folder.glob("checkpoints/.partial/*")):
            doing = "writing a checkpoint"
        elif told == fields["config"]["trainer"]["steps"]:
            doing = "evaluation after"
        else:
            doing = f"updating in step {judged}" if judged > told else f"sampling in step {told + 1}"
        return f"{told:2} steps told, {doing}"


def _last_step(path: Path) -> int:
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)


def _descendants(pid: int) -> list[int]:
    found = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []
    for child in children:
        found += [int(child), *_descendants(int(child))]
    return found


def _alive_after_a_while(pids: list[int]) -> list[str]:
    """Command lines of processes that do not end."""
    end = time.monotonic() + REAPED_WITHIN
    while (alive := [pid for pid in pids if _is_alive(pid)]) and time.monotonic() < end:
        time.sleep(POLL)
    return [f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode()}" for pid in alive]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def plan(count: int, steps: int, step_seconds: float, startup_seconds: float, chance: random.Random) -> list[Kill]:
    """Random moments of everything a run does; most let it get a step or two further."""
    kills = [
        Kill("", chance.uniform(0, startup_seconds))
        if number % 5 == 0
        else Kill(f"/{steps} ", chance.uniform(0, 1.5 * step_seconds))
        for number in range(count - 1)
    ]
    return [*kills, Kill(f" {steps}/{steps} ", chance.uniform(0, step_seconds))]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--save-every", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1500, help="for all of it")
    options = parser.parse_args()
    names = ("torch", "trl", "transformers", "peft")
    print(f"python {sys.version.split()[0]}, " + ", ".join(f"{name} {version(name)}" for name in names))
    with tempfile.TemporaryDirectory() as folder:
        try:
            return compare(options, Path(folder), time.monotonic() + options.seconds)
        except OutOfTime:
            print(f"the {options.seconds:g} seconds were up")
            return 1


def compare(options: argparse.Namespace, folder: Path, until: float) -> int:
    """Make both runs and say whether they are one."""
    arguments = [
        *STATEFUL,
        f"tasks.source={few_tasks(folder / 'tasks.jsonl')}",
        f"trainer.steps={options.steps}",
        f"trainer.save_every={options.save_every}",
        f"evaluation.every={options.steps // 3}",
        f"seed={options.seed}",
    ]
    whole, killed = Runner(folder / "whole", arguments, until), Runner(folder / "killed", arguments, until)
    took = whole.to_the_end()
    training = sum(row["seconds"] for row in _rows(whole.folder / "metrics.jsonl"))
    print(f"undisturbed: {options.steps} steps in {took:.0f} s, {training:.0f} s of them in steps", flush=True)
    chance = random.Random(options.seed)
    places = []
    for kill in plan(options.kills, options.steps, training / options.steps, took - training, chance):
        places.append(killed.kill(kill))
        print(f"kill {len(places):2}: {places[-1]}", flush=True)
    killed.to_the_end()
    found = differences(whole.folder, killed.folder)
    for line in found:
        print(line)
    lost = any("LEFT BEHIND" in place for place in places)
    print(f"{options.kills} kills: " + ("NOT the same" if found else "the same weights to the bit, the same numbers"))
    return 1 if found or lost else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    sys.exit(main())
