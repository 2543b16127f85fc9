"""A proxy verifier: guesses whether a program compiles (or passes) where there is no compiler to ask.

A logistic regression on three bags of words (`features.py`), trained on programs that the real verifier has judged;
its margins become probabilities by a sigmoid that is fitted on folds of whole tasks (Platt 1999). It serves where a
wrong guess is cheap, such as choosing what to show first. It is no judge: a policy that is paid by it learns to please
it. Scoring needs neither a compiler nor torch, and a saved proxy is numbers and JSON: nothing in it can be executed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import draft_of
from rlvr_cpp.search.proxy.data import Target, Verified, label
from rlvr_cpp.search.proxy.features import SETTINGS, vectorize

Floats = npt.NDArray[np.float64]
PROXY_FILE = "proxy.safetensors"
FOLDS = 5
STRENGTH = 10.0
"""Inverse of the regularization: rows have length 1, so weights have to be large."""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A trained proxy verifier. `save` and `load` are inverse, to the last bit of a score."""

    target: Target
    """What it guesses."""
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
        about = {"target": self.target, "features": json.dumps(SETTINGS)}
        with draft_of(path) as draft:
            save_file({"weights": self.weights, "numbers": numbers}, draft, metadata=about)

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
        return cls(target=target, weights=weights, bias=float(bias), slope=float(slope), shift=float(shift))


def train(programs: Sequence[Verified], target: Target = "compiles", seed: int = 0) -> Proxy:
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
    return Proxy(
        target=target,
        weights=linear.coef_[0].astype(np.float64),
        bias=float(linear.intercept_[0]),
        slope=sigmoid.a_,
        shift=sigmoid.b_,
    )
