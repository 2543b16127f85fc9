"""What several Triton kernels compute, and what all of them must know about being interpreted.

Triton's interpreter does bfloat16 arithmetic on the raw bits and says nothing, so under it the operands of a product
are float32 (`operand_type`); everything else is float32 everywhere. It has no tanh either, hence the one below.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rlvr_kernels.backend import interpreting


def operand_type(dtype: torch.dtype) -> tl.dtype:
    """The type in which matrices of `dtype` are multiplied; sums are float32."""
    names = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}
    return tl.float32 if interpreting() else names[dtype]


def autotuned(configs: list[triton.Config], interpreted: triton.Config, key: list[str]) -> triton.runtime.Autotuner:
    """A decorator that times `configs` once per `key`; the interpreter can time nothing and takes `interpreted`."""
    return triton.autotune([interpreted] if interpreting() else configs, key=key)


@triton.jit
def tanh(x):
    """tanh(x) in float32."""
    return 2 * tl.sigmoid(2 * x) - 1
