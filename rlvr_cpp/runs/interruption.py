"""Ctrl-C that is not lost.

Python raises KeyboardInterrupt wherever the main thread happens to be; within a finalizer or a weak reference's
callback it is printed and forgotten. So the wish is remembered as well, and a run asks for it between its phases.
"""

from __future__ import annotations

import signal
from types import FrameType

_wished: list[int] = []


def listen() -> None:
    """From now on SIGINT and SIGTERM interrupt the run."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _wished.append(number)
    raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt where one was asked for and lost."""
    if _wished:
        raise KeyboardInterrupt
