"""The folder `kernels/` must stay out of the way of Hugging Face's package `kernels`, which transformers looks for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = "import transformers.integrations.hub_kernels"  # every model imports it, and it looks for `kernels`
OURS = "import rlvr_kernels; assert callable(rlvr_kernels.mamba3)"
THEIRS = "import kernels; assert kernels.BELONGS_TO == 'Hugging Face', kernels.__path__"


def run(code: str, *paths: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def installed_kernels(tmp_path):
    """A package of that name as an installer would leave it, of the version that transformers accepts."""
    (tmp_path / "kernels").mkdir()
    names = "BELONGS_TO = 'Hugging Face'\ndef __getattr__(name):\n    return type(name, (), {})\n"
    (tmp_path / "kernels" / "__init__.py").write_text(f"__version__ = '0.18.2'\n{names}")
    metadata = tmp_path / "kernels-0.18.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.2\n")
    return tmp_path


@pytest.mark.parametrize("order", [(OURS, MODEL), (MODEL, OURS)], ids=["ours first", "transformers first"])
def test_ours_and_transformers_live_together(order):
    run("; ".join(order), ROOT / "kernels", ROOT)


@pytest.mark.parametrize("order", [(OURS, THEIRS), (THEIRS, OURS)], ids=["ours first", "theirs first"])
def test_an_installed_package_of_that_name_is_found_from_the_checkout(installed_kernels, order):
    run("; ".join(order), ROOT / "kernels", ROOT, installed_kernels)


def test_importing_ours_needs_no_triton():
    blocked = "import sys; sys.modules['triton'] = None\n"
    run(blocked + OURS + "; import torch; rlvr_kernels.rms_norm(torch.ones(2, 2))", ROOT / "kernels")
