"""What the jobs' tests share."""

from pathlib import Path

import pytest

from tests.jobs.zygote import Zygote

HERE = Path(__file__).parent


def pytest_itemcollected(item):
    """Tests that run jobs stay in one process: what the jobs import is imported once."""
    if HERE in item.path.parents and "zygote" in item.fixturenames:
        item.add_marker(pytest.mark.xdist_group("jobs"))


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    made = Zygote(tmp_path_factory.mktemp("zygote"))
    yield made
    made.close()
