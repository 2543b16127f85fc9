"""Reinforcement learning for C++ code models, with a real compiler as the judge.

The verifier and the rewards import no torch. The trainers are loaded when they are first asked for and need the
extra `train`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.reward.shaping import CompilerRewardShaper
from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.verifier.cases import Case
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.think import strip_think_blocks, strip_think_token_ids
from rlvr_cpp.verifier.verifier import Verifier, verify_cpp

if TYPE_CHECKING:
    from rlvr_cpp.adapters.artifact import load_adapter_artifact as load_adapter_artifact
    from rlvr_cpp.adapters.artifact import save_adapter_artifact as save_adapter_artifact
    from rlvr_cpp.search.generate import best_of_n_generate as best_of_n_generate
    from rlvr_cpp.training.config import GRPOConfig as GRPOConfig
    from rlvr_cpp.training.config import GSPOConfig as GSPOConfig
    from rlvr_cpp.training.trainer import GRPOTrainer as GRPOTrainer
    from rlvr_cpp.training.trainer import GSPOTrainer as GSPOTrainer

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
    "GRPOConfig": "rlvr_cpp.training.config",
    "GSPOConfig": "rlvr_cpp.training.config",
    "GRPOTrainer": "rlvr_cpp.training.trainer",
    "GSPOTrainer": "rlvr_cpp.training.trainer",
    "best_of_n_generate": "rlvr_cpp.search.generate",
    "load_adapter_artifact": "rlvr_cpp.adapters.artifact",
    "save_adapter_artifact": "rlvr_cpp.adapters.artifact",
}


def __getattr__(name: str) -> Any:
    if name in LAZY:
        try:
            return getattr(import_module(LAZY[name]), name)
        except ModuleNotFoundError as error:
            raise ImportError(f"{name} needs the extra 'train' ({error}): pip install 'rlvr-cpp[train]'") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
