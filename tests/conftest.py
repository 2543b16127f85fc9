"""What every test process needs before the first import: it shares two cores, and most often has no GPU."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

# Triton interprets kernels where there is no GPU. It reads this variable once, when it is imported, which any package
# may do long before the first test of a kernel.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
