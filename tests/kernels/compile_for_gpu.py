"""Compiles the kernels of operations for an H100 on a machine that has none: `python compile_for_gpu.py NAME...`.

With `--first` each kernel is compiled with the first of the configurations that a device chooses from.

The interpreter runs what the compiler refuses, so a machine without a GPU should at least compile. Triton needs no
device for that, only to be told of one: launches become warm-ups, which compile and run nothing, and what the
operations return means nothing. Prints a line of JSON for each kernel: module, name and shared memory in bytes.
"""

import json
import sys
from types import SimpleNamespace

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

import rlvr_kernels.backend
from rlvr_kernels import (
    Mamba3State,
    Mamba3Weights,
    engram,
    mamba3,
    mamba3_step,
    qk_norm_rope,
    read_streams,
    rms_norm,
    sinkhorn,
    write_streams,
)
from rlvr_kernels.block_sparse_attention import block_sparse_attention
from rlvr_kernels.indexer import indexer_scores, indexer_topk
from rlvr_kernels.linear_cross_entropy import linear_cross_entropy
from rlvr_kernels.moe import moe

H100 = SimpleNamespace(
    get_current_target=lambda: GPUTarget("cuda", 90, 32),
    get_current_device=lambda: 0,
    get_current_stream=lambda device=None: 0,
    get_active_torch_device=lambda: torch.device("cpu"),
    get_benchmarker=lambda: lambda run, **_: (run(), [1.0, 1.0, 1.0])[1],
    utils=SimpleNamespace(get_device_properties=lambda device: {"max_shared_mem": 232448, "multiprocessor_count": 132}),
)


def leaf(*shape, dtype=torch.bfloat16):
    return torch.rand(*shape).to(dtype).requires_grad_()


def backwards(*outputs):
    sum(output.float().sum() for output in outputs).backward()


def scan(rank, pairs, documents, heads=4, width=64, columns=128, length=130):
    mixes = [leaf(heads, rank, width, dtype=torch.float32) for _ in range(3 if rank > 1 else 0)]
    biases = [leaf(heads, rank, columns, dtype=torch.float32) for _ in range(2)]
    weights = Mamba3Weights(*biases, leaf(heads, dtype=torch.float32), *mixes)
    values = [leaf(1, length, heads, width) for _ in range(2)] + [leaf(1, length, rank, 2, columns) for _ in range(2)]
    steps = [leaf(1, length, heads, dtype=torch.float32) for _ in range(3)]
    tokens = (*values, *steps, leaf(1, length, pairs))
    ids = torch.zeros(1, length, dtype=torch.long) if documents else None
    output, state = mamba3(*tokens, weights, document_ids=ids, backend="triton")
    backwards(output, state.hidden)
    with torch.no_grad():
        mamba3_step(*(value[:, 0] for value in tokens), weights, Mamba3State(*state), backend="triton")


def attend():
    blocks = torch.zeros(1, 2, 256, 2, dtype=torch.int32)
    q, k, v = leaf(1, 4, 256, 64), leaf(1, 2, 256, 64), leaf(1, 2, 256, 64)
    backwards(block_sparse_attention(q, k, v, blocks, block_size=64, window=3, backend="triton"))


def index():
    q, k, weights = leaf(1, 64, 4, 32), leaf(1, 64, 32), leaf(1, 64, 4)
    backwards(indexer_scores(q, k, weights, backend="triton"))
    indexer_topk(q, k, weights, window=8, backend="triton")


def lose():
    for reduction in ("mean", "none"):
        targets = torch.zeros(64, dtype=torch.long)
        backwards(
            linear_cross_entropy(
                leaf(64, 128), leaf(500, 128), targets, softcap=30.0, reduction=reduction, backend="triton"
            )
        )


def mix():
    mixing = sinkhorn(leaf(8, 4, 4, dtype=torch.float32), backend="triton")
    streams, weights = leaf(8, 4, 128), leaf(8, 4, dtype=torch.float32)
    backwards(
        write_streams(streams, read_streams(streams, weights, backend="triton"), weights, mixing, backend="triton")
    )


def recall():
    ids, sizes = torch.zeros(2, 50, dtype=torch.long), torch.tensor([[11, 13], [17, 19]])
    numbers = {"orders": (2, 3), "pad_id": 100, "document_ids": ids, "domains": ids}
    backwards(engram(ids, leaf(60, 64), torch.tensor([3, 5, 7]), sizes, **numbers, backend="triton"))


def norm():
    backwards(rms_norm(leaf(8, 512), leaf(512), backend="triton"))
    backwards(*qk_norm_rope(leaf(1, 8, 4, 128), leaf(1, 8, 2, 128), *torch.rand(2, 1, 8, 64), backend="triton"))


def route():
    experts, weights = torch.zeros(64, 2, dtype=torch.long), leaf(64, 2, dtype=torch.float32)
    backwards(
        moe(
            leaf(64, 128), leaf(4, 256, 128), leaf(4, 128, 128), experts, weights, lane="block_sparse", backend="triton"
        )
    )


OPERATIONS = {
    "mamba3": lambda: scan(1, 32, documents=False),
    "mamba3_mimo": lambda: scan(4, 64, documents=True),
    "mamba3_small": lambda: scan(2, 16, documents=True, heads=2, width=32, columns=64),
    "attention": lambda: (attend(), index()),
    "others": lambda: (lose(), mix(), recall(), norm(), route()),
}


def only_first():
    choose = Autotuner.run

    def run(self, *arguments, **options):
        self.configs = self.configs[:1]
        return choose(self, *arguments, **options)

    Autotuner.run = run


def main(*names):
    compile_and_run = JITFunction.run

    def only_compile(kernel, *arguments, grid, warmup, **options):
        made = compile_and_run(kernel, *arguments, grid=grid, warmup=True, **options)
        print(json.dumps([kernel.fn.__module__, kernel.fn.__name__, made.metadata.shared]), flush=True)
        return made

    JITFunction.run = only_compile
    rlvr_kernels.backend._obstacle = lambda tensors: None
    driver.set_active(H100)
    for name in names:
        OPERATIONS[name]()


if __name__ == "__main__":
    if "--first" in sys.argv:
        only_first()
    main(*(name for name in sys.argv[1:] if name in OPERATIONS))
