"""Without a GPU, Triton interprets its kernels; it reads this variable when a kernel is first defined."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
