"""What every test process needs before the first import, and which tests are run.

A process shares two cores with another one and most often has no GPU.
"""

import ctypes
import gc
import os

import pytest

from tests.tiers import MARKS, TESTS, can_be_imported, tier_of


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


def pytest_addoption(parser):
    """`--quick` imports only those files whose tests start no compiler, no torch and no wheel."""
    parser.addoption("--quick", action="store_true", help="only what starts no compiler, no torch and no wheel")


def pytest_configure(config):
    for name, words in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {words}")


def pytest_ignore_collect(collection_path, config):
    if TESTS not in collection_path.parents:
        return None
    left_out = config.getoption("quick") and collection_path.suffix == ".py" and tier_of(collection_path)
    return True if left_out or not can_be_imported(collection_path) else None


def pytest_itemcollected(item):
    if tier := tier_of(item.path):
        item.add_marker(getattr(pytest.mark, tier))
    if item.get_closest_marker("xdist_group") is None and (group := group_of(item)):
        item.add_marker(pytest.mark.xdist_group(group))


def group_of(item):
    """Tests that share what takes long to make stay in one process: jobs their imports, a file its fixtures."""
    if "zygote" in item.fixturenames:
        return "jobs"
    made = (fixture for fixtures in item._fixtureinfo.name2fixturedefs.values() for fixture in fixtures)
    shares = any(fixture.scope == "module" for fixture in made)
    return item.nodeid.partition("::")[0] if shares else None


def pytest_collection_finish():
    """Spare the garbage collector the millions of objects that imports left: it would visit them again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()  # what is never collected is reported as leaked by some libraries
