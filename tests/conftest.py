"""What every test process needs before the first import: it shares two cores, and most often has no GPU."""

import ctypes
import os


def has_gpu() -> bool:
    """Whether a driver answers; to ask torch would cost every process its import."""
    try:
        return bool(ctypes.CDLL("libcuda.so.1").cuInit(0) == 0)
    except OSError:
        return False


os.environ.setdefault("OMP_NUM_THREADS", "1")
# Triton interprets kernels where there is no GPU. It reads this variable once, when it is imported, which any package
# may do long before the first test of a kernel.
if not has_gpu():
    os.environ["TRITON_INTERPRET"] = "1"
