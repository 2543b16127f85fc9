"""A proxy verifier: guesses whether a program compiles (or passes) where there is no compiler to ask.

A logistic regression on three bags of words (`proxy_features`), trained on programs that the real verifier has judged;
its margins become probabilities by a sigmoid that is fitted on folds of whole tasks (Platt 1999). It serves where a
wrong guess is cheap, such as choosing what to show first. It is no judge: a policy that is paid by it learns to please
it. Scoring needs neither a compiler nor torch, and a saved proxy is numbers and JSON: nothing in it can be executed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlvr_cpp.errors import UserError
from rlvr_cpp.proxy_data import TARGETS, Verified, label, read_verified, split_by_task
from rlvr_cpp.proxy_features import SETTINGS, vectorize
from rlvr_cpp.tasks import BUILTIN, load_tasks

Floats = npt.NDArray[np.float64]
FILE = "proxy.safetensors"
FOLDS = 5
STRENGTH = 10.0
"""Inverse of the regularization: rows have length 1, so weights have to be large."""


@dataclass(frozen=True)
class Proxy:
    """A trained proxy verifier. `save` and `load` are inverse, to the last bit of a score."""

    target: str
    """What it guesses: `compiles` or `passes`."""
    weights: Floats
    """(features,)"""
    bias: float
    slope: float
    """With `shift` the calibration: p = 1 / (1 + exp(slope * margin + shift))."""
    shift: float

    def score(self, codes: Sequence[str]) -> Floats:
        """(N,) probabilities of whole programs: prompt and completion, without tests."""
        if not codes:
            return np.zeros(0)
        margins = vectorize(codes) @ self.weights + self.bias
        return np.asarray(1.0 / (1.0 + np.exp(self.slope * margins + self.shift)))

    def save(self, path: Path) -> None:
        """Write one safetensors file, all or nothing; its metadata say what it guesses and from which features."""
        from safetensors.numpy import save_file

        numbers = np.array([self.bias, self.slope, self.shift])
        partial = path.with_name(f"{path.name}.partial")
        about = {"target": self.target, "features": json.dumps(SETTINGS)}
        save_file({"weights": self.weights, "numbers": numbers}, partial, metadata=about)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Proxy:
        """What `save` wrote. Raises UserError where the file is no proxy or was trained on other features."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                about = file.metadata() or {}
                weights, (bias, slope, shift) = file.get_tensor("weights"), file.get_tensor("numbers")
            features, target = json.loads(about["features"]), about["target"]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{path} is no proxy verifier that can be read ({error}): train one") from error
        if features != SETTINGS:
            raise UserError(f"{path} was trained on features {features}, but this version has {SETTINGS}: train again")
        return cls(target, weights, float(bias), float(slope), float(shift))


def train(programs: Sequence[Verified], target: str = "compiles", seed: int = 0) -> Proxy:
    """Learn to guess `target` from judged programs.

    Raises UserError where they have one label only, or too few tasks have both.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    labels = label(programs, target)
    rows = vectorize([program.code for program in programs])
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    regression = LogisticRegression(C=STRENGTH, solver="liblinear", random_state=seed)
    try:
        parts = list(folds.split(rows, labels, [program.task_id for program in programs]))
        model = CalibratedClassifierCV(regression, method="sigmoid", cv=parts, ensemble=False).fit(rows, labels)
    except ValueError as error:
        raise UserError(
            f"target {target!r} is true of {sum(labels)} of {len(programs)} programs, which do not make {FOLDS} folds "
            f"of whole tasks with both kinds ({error}): give more runs, or of another temperature"
        ) from error
    (calibrated,) = model.calibrated_classifiers_
    (sigmoid,) = calibrated.calibrators
    linear = calibrated.estimator
    return Proxy(target, linear.coef_[0].astype(np.float64), float(linear.intercept_[0]), sigmoid.a_, sigmoid.b_)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 2 tells of a mistake in the input."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is missing: pip install 'rlvr-cpp[train]'", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rlvr_cpp.proxy", description="A verifier without a compiler.")
    commands = parser.add_subparsers(required=True)
    learn = commands.add_parser("train", help="learn from judged programs, and measure on held-out tasks")
    learn.add_argument("--out", type=Path, required=True, help="folder for the proxy, its numbers and a plot")
    learn.add_argument("--target", choices=TARGETS, default=TARGETS[0])
    learn.add_argument("--held-out", type=float, default=0.25, help="share of tasks to measure on")
    learn.set_defaults(run=_train_command)
    check = commands.add_parser("measure", help="compare a trained proxy with the verdicts of other runs")
    check.add_argument("proxy", type=Path, help="folder or file of a trained proxy")
    check.set_defaults(run=_measure_command)
    for command in (learn, check):
        command.add_argument("source", nargs="+", type=Path, help="run folder, or its candidates, completions, samples")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--tasks", default=str(BUILTIN), help="of completions whose programs are not in the file")
        command.add_argument("--chat", action="store_true", help="these completions answered in a chat")
    guess = commands.add_parser("score", help="print the probability and the name of each file")
    guess.add_argument("proxy", type=Path, help="folder or file of a trained proxy")
    guess.add_argument("file", nargs="+", help="C++ files; - is standard input")
    guess.set_defaults(run=_score_command)
    return parser


def _train_command(options: argparse.Namespace) -> None:
    from rlvr_cpp import proxy_report

    training, held_out = split_by_task(_programs(options), options.held_out, options.seed)
    proxy = train(training, options.target, options.seed)
    report = proxy_report.measure(proxy, held_out, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    proxy.save(options.out / FILE)
    proxy_report.write(report, options.out)
    print(f"trained on {len(training)} programs of {len({program.task_id for program in training})} tasks")
    print("\n".join(proxy_report.lines(report)))
    print(f"proxy: {options.out / FILE}")


def _measure_command(options: argparse.Namespace) -> None:
    from rlvr_cpp import proxy_report

    report = proxy_report.measure(_load(options.proxy), _programs(options), options.seed)
    print("\n".join(proxy_report.lines(report)))


def _programs(options: argparse.Namespace) -> list[Verified]:
    tasks = {task.task_id: task for task in load_tasks(options.tasks)}
    return read_verified(options.source, tasks, options.chat)


def _load(path: Path) -> Proxy:
    return Proxy.load(path / FILE if path.is_dir() else path)


def _score_command(options: argparse.Namespace) -> None:
    proxy = _load(options.proxy)
    for name, probability in zip(options.file, proxy.score([_read(name) for name in options.file]), strict=True):
        print(f"{probability:.3f}  {name}")


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"file {name!r} cannot be read ({error}): give a C++ file in UTF-8") from error


if __name__ == "__main__":
    sys.exit(main())
