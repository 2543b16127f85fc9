"""A training step beside what a user would write instead: `python -m benchmarks.trl_baseline`.

The same job twice, each in a fresh process with empty caches, one after the other. Ours is
`python -m rlvr_cpp.gspo`; the other is plain `trl.GRPOTrainer` with the reward function that suggests itself: for each
completion, one after the other, a temporary folder, g++ on candidate and tests in one file, the program with a
timeout, and what it printed. Model, adapter, tasks, batch, optimizer steps, KL term and learning rate are the same and
come from the same config.

The baseline has no sandbox: its candidates run with every right of the user, a forged verdict counts, and a machine
that fails is a bad program. Ours has all of that and is timed with it. Both get one thread of torch and the same
cores. Rewards are drawn from different samples, so their means agree about as well as two seeds do.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvr_cpp.tasks.task import BUILTIN, load_tasks

WARM_UP = 2
"""Steps that are not timed."""
COMMON = ("model=tiny-cpp", "evaluation.limit=8", "evaluation.samples=0", "evaluation.every=null")
PASSED = re.compile(r"PASSED (\d+)/(\d+)")
COLUMNS = ("seconds", "generate", "wait", "verify", "update", "reward")
Row = Mapping[str, float]


# --- the baseline ---


def naive_reward(code: str, test: str, std: str, timeout: float) -> float:
    """0 where it does not compile, else 0.3 and 0.7 times the share of tests that pass."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "program.cpp").write_text(f"{code}\n{test}")
        build = ["g++", f"-std={std}", "program.cpp", "-o", "program"]
        if subprocess.run(build, cwd=folder, capture_output=True).returncode:
            return 0.0
        try:
            done = subprocess.run(["./program"], cwd=folder, capture_output=True, text=True, timeout=timeout)
        except (subprocess.TimeoutExpired, UnicodeDecodeError):
            return 0.3
    found = PASSED.search(done.stdout)
    return 0.3 + 0.7 * int(found[1]) / int(found[2]) if found else 0.3


def train_baseline(steps: int, seed: int, out: Path) -> None:
    """Train with plain trl and write one line a step: `seconds`, of which `verify`, and the mean `reward`."""
    import torch
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlvr_cpp.policy.policy import find_model

    job = read_job(seed)
    torch.set_num_threads(job.policy.threads or 1)
    tasks = [task for task in load_tasks(job.tasks.source or BUILTIN) if task.split == "train"]
    model, adapter, scorer = find_model(job.model), job.adapter, Scorer(job.verifier.timeout)
    trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, job.policy.dtype)),
        processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
        reward_funcs=scorer,
        args=trl.GRPOConfig(output_dir=str(out), seed=seed, **trl_arguments(job, steps)),
        train_dataset=Dataset.from_list([{"prompt": t.prompt, "test": t.test, "std": t.std} for t in tasks]),
        peft_config=LoraConfig(
            r=adapter.rank, lora_alpha=adapter.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[step_log(out / "metrics.jsonl", job.algorithm.num_minibatches, scorer)],
    ).train()


class Scorer:
    """The naive reward of a batch, one completion after the other, and what the last batch took and got."""

    __name__ = "compiles_and_passes"

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.last: dict[str, float] = {}

    def __call__(
        self, prompts: list[str], completions: list[str], test: list[str], std: list[str], **others: Any
    ) -> list[float]:
        """What trl calls with a batch and the columns of its tasks."""
        started = time.monotonic()
        programs = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        rewards = [naive_reward(*each, self.timeout) for each in zip(programs, test, std, strict=True)]
        self.last = {"verify": time.monotonic() - started, "reward": statistics.fmean(rewards)}
        return rewards


def step_log(path: Path, every: int, scorer: Scorer) -> Any:
    """A callback that writes one line for each batch of completions, which is `every` optimizer steps."""
    from transformers import TrainerCallback

    class StepLog(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.began = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % every == 0:
                now = time.monotonic()
                with path.open("a") as file:
                    file.write(json.dumps({"seconds": now - self.began, **scorer.last}) + "\n")
                self.began = now

    return StepLog()


def read_job(seed: int) -> Any:
    """The job that the command runs, from the same YAML."""
    from hydra import compose, initialize_config_dir

    from rlvr_cpp.runs.config import CONF
    from rlvr_cpp.training.checks import load

    with initialize_config_dir(CONF, version_base=None):
        return load(compose("gspo", [*COMMON, f"seed={seed}"]))


def trl_arguments(job: Any, steps: int) -> dict[str, Any]:
    """The job as a user of trl would spell it."""
    algorithm, settings = job.algorithm, job.trainer
    return {
        "loss_type": algorithm.loss_type,
        "importance_sampling_level": algorithm.ratio,
        "num_generations": algorithm.group_size,
        "beta": algorithm.kl_coeff,
        "use_bias_correction_kl": False,
        "epsilon": algorithm.clip_eps,
        "epsilon_high": algorithm.clip_eps_high,
        "max_completion_length": algorithm.max_gen_len,
        "temperature": algorithm.temperature,
        "per_device_train_batch_size": settings.batch_size // algorithm.num_minibatches,
        "steps_per_generation": algorithm.num_minibatches,
        "max_steps": steps * algorithm.num_minibatches,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_schedule,
        "max_grad_norm": settings.max_grad_norm,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


# --- both, and the table ---


def run_both(steps: int, seed: int) -> dict[str, list[Row]]:
    """The rows of each trainer's steps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = ["rlvr_cpp.gspo", *COMMON, f"trainer.steps={steps}", f"seed={seed}", f"hydra.run.dir={folder}/ours"]
        plain = ["benchmarks.trl_baseline", f"--steps={steps}", f"--seed={seed}", f"--baseline-into={folder}/plain"]
        return {
            "plain trl": run_alone(plain, folder / "plain"),
            "rlvr-cpp": run_alone(ours, folder / "ours"),
        }


def run_alone(command: Sequence[str], out: Path) -> list[Row]:
    """The metrics of a command in a fresh process that finds no cache of earlier ones; exits where it fails."""
    print(f"python -m {' '.join(command)}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | {"XDG_CACHE_HOME": empty, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"error: {command[0]} ended with status {done.returncode}:\n{done.stdout[-3000:]}")
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def median(rows: Sequence[Row], name: str) -> float | None:
    """Over the steps behind the warm-up; None where the trainer does not tell."""
    values = [row[name] for row in rows[WARM_UP:] if name in row]
    return statistics.median(values) if values else None


def print_table(found: Mapping[str, Sequence[Row]]) -> None:
    """Seconds a step, where they go, and whether both did the same work."""
    steps = min(map(len, found.values()))
    print(f"seconds of a step, medians of {steps - WARM_UP} steps behind {WARM_UP} of warm-up")
    print(f"{'':12}" + "".join(f"{name:>10}" for name in ("step", *COLUMNS[1:-1], "reward")))
    for name, rows in found.items():
        values = [*(median(rows, column) for column in COLUMNS[:-1]), statistics.fmean(row["reward"] for row in rows)]
        print(f"{name:12}" + "".join(f"{'-' if value is None else format(value, '.2f'):>10}" for value in values))
    whole = {name: median(rows, "seconds") or 0.0 for name, rows in found.items()}
    print(f"plain trl takes {whole['plain trl'] / whole['rlvr-cpp']:.2f} times as long")
    print(
        "step = generate + wait + update; verify is how long programs were being judged, in ours beside generation and "
        "in plain trl\nafter it; reward is the mean of all steps, a check that both do the same work"
    )


def main() -> int:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=12, help=f"batches of completions, more than {WARM_UP}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baseline-into", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps <= WARM_UP:
        parser.error(f"--steps is {arguments.steps}: it must be more than the {WARM_UP} of warm-up")
    if arguments.baseline_into:
        arguments.baseline_into.mkdir()
        train_baseline(arguments.steps, arguments.seed, arguments.baseline_into)
    else:
        print_table(run_both(arguments.steps, arguments.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
