"""Fused operations of the hybrid model: for each a plain PyTorch reference, Triton kernels, and one dispatcher.

References run anywhere, in float64 too, and are what the kernels are tested against; kernels are imported when one is
first used. The package needs torch, and triton only on a GPU.
"""

from rlvr_kernels.engram import engram, ngram_rows
from rlvr_kernels.mamba3 import Mamba3State, Mamba3Weights, mamba3, mamba3_step
from rlvr_kernels.qk_norm_rope import qk_norm_rope
from rlvr_kernels.rms_norm import rms_norm
from rlvr_kernels.sinkhorn import read_streams, sinkhorn, write_streams

__all__ = [
    "Mamba3State",
    "Mamba3Weights",
    "engram",
    "mamba3",
    "mamba3_step",
    "ngram_rows",
    "qk_norm_rope",
    "read_streams",
    "rms_norm",
    "sinkhorn",
    "write_streams",
]
