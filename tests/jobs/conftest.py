"""What the jobs' tests share."""

from pathlib import Path

import pytest

from tests.jobs.zygote import Zygote

HERE = Path(__file__).parent
RUNS = {"finished", "artifact"}
"""Fixtures that run a job."""


def pytest_itemcollected(item):
    """Tests that look at the same finished run stay in one process, so that it is made once."""
    shares = HERE in item.path.parents and RUNS.intersection(item.fixturenames)
    if shares and item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    made = Zygote(tmp_path_factory.mktemp("zygote"))
    yield made
    made.close()
