"""Reinforcement learning for C++ code models, with a real compiler as the judge.

The verifier and the rewards import no torch. The trainers are loaded when they are first asked for and need the
extra `train`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rlvr_cpp.cases import Case
from rlvr_cpp.errors import UserError
from rlvr_cpp.program import Program
from rlvr_cpp.result import VerifyResult
from rlvr_cpp.reward import compute_reward
from rlvr_cpp.shaping import CompilerRewardShaper
from rlvr_cpp.think import strip_think_blocks, strip_think_token_ids
from rlvr_cpp.verifier import Verifier, verify_cpp

if TYPE_CHECKING:
    from rlvr_cpp.adapter_artifact import load_adapter_artifact as load_adapter_artifact
    from rlvr_cpp.adapter_artifact import save_adapter_artifact as save_adapter_artifact
    from rlvr_cpp.best_of_n import best_of_n_generate as best_of_n_generate
    from rlvr_cpp.config import GRPOConfig as GRPOConfig
    from rlvr_cpp.config import GSPOConfig as GSPOConfig
    from rlvr_cpp.trainer import GRPOTrainer as GRPOTrainer
    from rlvr_cpp.trainer import GSPOTrainer as GSPOTrainer

__version__ = "0.1.0"

__all__ = [  # without the lazy names: a star import must not need torch
    "Case",
    "CompilerRewardShaper",
    "Program",
    "UserError",
    "Verifier",
    "VerifyResult",
    "compute_reward",
    "strip_think_blocks",
    "strip_think_token_ids",
    "verify_cpp",
]


LAZY = {
    "GRPOConfig": "rlvr_cpp.config",
    "GSPOConfig": "rlvr_cpp.config",
    "GRPOTrainer": "rlvr_cpp.trainer",
    "GSPOTrainer": "rlvr_cpp.trainer",
    "best_of_n_generate": "rlvr_cpp.best_of_n",
    "load_adapter_artifact": "rlvr_cpp.adapter_artifact",
    "save_adapter_artifact": "rlvr_cpp.adapter_artifact",
}


def __getattr__(name: str) -> Any:
    if name in LAZY:
        try:
            return getattr(import_module(LAZY[name]), name)
        except ModuleNotFoundError as error:
            raise ImportError(f"{name} needs the extra 'train' ({error}): pip install 'rlvr-cpp[train]'") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
