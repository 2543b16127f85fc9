"""An interruption that falls where Python forgets exceptions is still one."""

import os
import signal

import pytest

from rlvr_cpp.runs import interruption


@pytest.fixture
def listening(monkeypatch):
    monkeypatch.setattr(interruption, "_wished", [])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interruption.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Swallows:
    """Its finalizer is interrupted, which Python prints and forgets."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_in_a_finalizer_is_remembered(listening, number):
    thing = Swallows(number)
    del thing
    with pytest.raises(KeyboardInterrupt):
        interruption.check()


def test_without_one_a_run_goes_on(listening):
    interruption.check()
