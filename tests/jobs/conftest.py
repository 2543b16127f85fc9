"""What the jobs' tests share."""

import pytest

from tests.jobs.zygote import Zygote


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    made = Zygote(tmp_path_factory.mktemp("zygote"))
    yield made
    made.close()
