"""The compiler takes every kernel: what the interpreter runs, it may still refuse."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("compile_for_gpu.py")
SHARED_MEMORY = 232_448
"""Bytes that a program may have on an H100 or H200."""
HELD = {
    "mamba3": {"mamba3"},
    "mamba3_mimo": {"mamba3"},
    "mamba3_small": {"mamba3"},
    "attention": {"block_sparse_attention", "indexer"},
    "others": {"linear_cross_entropy", "sinkhorn", "engram", "rms_norm", "qk_norm_rope", "moe"},
}
"""The packages whose kernels each part compiles, forwards and backwards."""


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU compiles what it runs")
@pytest.mark.parametrize(
    "parts",
    [
        ("mamba3_small", "attention", "others", "--first"),
        # larger tiles and other configurations of the same kernels: two minutes
        pytest.param(("mamba3", "mamba3_mimo", "attention", "others"), marks=pytest.mark.slow),
    ],
)
def test_kernels_compile_for_an_h100_without_one(parts, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if "--first" in parts:
        environment["DISABLE_LLVM_OPT"] = "1"  # LLVM refuses nothing that it could not make faster
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *parts],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert {module.split(".")[1] for module, _, _ in made} == set().union(
        *(HELD[part] for part in HELD.keys() & set(parts))
    )
    assert max(shared for _, _, shared in made) <= SHARED_MEMORY
