"""What the trainer's tests share."""

import pytest


@pytest.fixture(scope="session")
def tasks():
    """Sixteen tasks to train on."""
    from rlvr_cpp.tasks.task import BUILTIN, load_tasks

    return [task for task in load_tasks(BUILTIN) if task.split == "train"][:16]


@pytest.fixture(scope="session")
def mixed(tasks, tmp_path_factory):
    """Two steps on verdicts of every kind, which many tests look at and none goes on with."""
    from tests.rlvr_cpp.training.decided import MIXED, DecidedVerifier, train

    return train(tasks, DecidedVerifier(*MIXED), tmp_path_factory.mktemp("mixed"))
