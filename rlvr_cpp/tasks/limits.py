"""Limits of time and memory as data sets write them: numbers, messages of a protocol, phrases.

What names no limit that a program could run under (0, `None`, a word) is none: a row is not refused for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from rlvr_cpp.verifier.limits import BOUNDS

QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", re.IGNORECASE)
SECONDS = {"ms": 1e-3, "mil": 1e-3, "s": 1.0, "min": 60.0}
MEBIBYTES = {"b": 2.0**-20, "k": 2.0**-10, "m": 1.0, "g": 2.0**10}
"""What units begin with, and what they are worth."""
MOST = 1e300
"""More than any limit, and a number that can be reckoned with."""


def limit_fields(time: Any, memory: Any) -> dict[str, Any]:
    """The fields of a task for a time in seconds and a memory in MiB, each a number, a text with a unit, or none."""
    seconds, mebibytes = _number(time, SECONDS), _number(memory, MEBIBYTES)
    least = _within("memory", mebibytes)
    return {"time_limit": _within("time", seconds), "memory_limit": None if least is None else math.ceil(least)}


def seconds_of(duration: Any) -> float | None:
    """The seconds of `{"seconds": 1, "nanos": 500000000}`."""
    if not isinstance(duration, Mapping):
        return None
    return sum(worth * (_number(duration.get(name), {}) or 0.0) for name, worth in (("seconds", 1.0), ("nanos", 1e-9)))


def _number(value: Any, units: Mapping[str, float]) -> float | None:
    if isinstance(value, str) and (match := QUANTITY.match(value)):
        worth = next((worth for unit, worth in units.items() if match[2].lower().startswith(unit)), None)
        return None if worth is None else float(match[1]) * worth
    return float(min(value, MOST)) if isinstance(value, int | float) else None


def _within(name: str, value: float | None) -> float | None:
    """The value where it is above nothing, as near to it as a run can be given."""
    least, most = BOUNDS[name]
    return None if value is None or not value > 0 else min(max(value, least), most)
