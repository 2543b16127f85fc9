"""What a launcher was told to share out among processes, and which policies bear it.

accelerate tells its processes by environment variables, so that a job can be checked before torch is loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from rlvr_cpp.policy.settings import PolicySettings
from rlvr_cpp.runs.processes import sharding


def zero_stage() -> int:
    """DeepSpeed's: 1 shares out the optimizer, 2 gradients as well, 3 weights as well; 0 is another launcher's."""
    if sharding() != "DeepSpeed":
        return 0
    if path := os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE"):
        return int(json.loads(Path(path).read_text()).get("zero_optimization", {}).get("stage", 0))
    return int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))


def weights_are_shared() -> bool:
    """Whether no process keeps the whole model: FSDP, ZeRO-3."""
    return sharding() == "FSDP" or zero_stage() == 3


def sharding_problems(policy: PolicySettings) -> Iterator[str]:
    """What the launcher asks for and this policy, or this library, cannot do."""
    kind = sharding()
    if kind is None:
        return
    if policy.quantization is not None and weights_are_shared():
        yield (
            f"policy.quantization is {policy.quantization!r} under {kind}, which cannot share out weights of 4 bits: "
            "use policy.quantization=null, or launch with --multi_gpu or ZeRO-2"
        )
    if policy.dtype == "float16":
        yield (
            f"policy.dtype is 'float16' under {kind}, whose gradients cannot be brought to their size here: use "
            "bfloat16 or float32, or launch with --multi_gpu"
        )
    if kind == "FSDP" and os.environ.get("FSDP_VERSION", "1") != "2":
        yield "the launcher asks for FSDP's first version: set fsdp_version: 2 in its config file"
    if kind == "FSDP" and os.environ.get("FSDP_STATE_DICT_TYPE") != "FULL_STATE_DICT":
        yield (
            "the launcher asks for sharded checkpoints, from which no adapter could be read: set "
            "fsdp_state_dict_type: FULL_STATE_DICT in its config file"
        )
