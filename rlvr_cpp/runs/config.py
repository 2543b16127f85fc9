"""The one place that reads Hydra's answer.

Values live in `conf/`, their types, units, meaning and bounds at the fields of a room's settings. A bound is the
field's metadata: `choices`, `least`, `most`, or `above` and `below` where the bound itself is out. What depends on
several keys at once is checked by a room's own function. Both happen before anything heavy is loaded, and all problems
are told together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from rlvr_cpp.errors import UserError, first_line

_PACKAGED = Path(__file__).parents[1] / "conf"
CONF = str(_PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "conf")
"""The folder of the YAML files: inside the package once installed, beside it in a checkout."""
Job = TypeVar("Job")


def read_job(raw: Any, kind: type[Job], problems: Callable[[Job], Iterable[str]]) -> Job:
    """What Hydra composed as the dataclass of a command. Raises UserError naming every key that is wrong."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        job = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), raw))
    except OmegaConfBaseException as error:
        reason = first_line(error)
        raise UserError(f"config key {error.full_key!r}: {reason.rstrip('.')}; --help says what it takes") from error
    assert isinstance(job, kind)
    found = list(out_of_bounds(job))
    told = tuple(f"{sentence.partition(' is ')[0]} is " for sentence in found)
    if found := [*found, *(sentence for sentence in problems(job) if not told or not sentence.startswith(told))]:
        raise UserError("; ".join(found))
    return job


def out_of_bounds(settings: Any, group: str = "") -> Iterator[str]:
    """Every value outside the bounds of its field, each a sentence with the key, the value and what it must be."""
    for field in fields(settings):
        key, value = f"{group}{field.name}", getattr(settings, field.name)
        if is_dataclass(value):
            yield from out_of_bounds(value, f"{key}.")
        elif (choices := field.metadata.get("choices")) is not None:
            if value not in choices:
                names = ", ".join("null" if choice is None else choice for choice in choices)
                yield f"{key} is {value!r}: it must be one of {names}"
        elif value is not None and not _is_within(value, **field.metadata):
            bounds = [within(**field.metadata)] if field.metadata else []
            yield f"{key} is {value}: it must be {' and '.join(bounds if isfinite(value) else [*bounds, 'finite'])}"


def _is_within(value: Any, **bounds: float) -> bool:
    """Whether a value lies within its bounds; what is infinite or not a number lies within none, nor without any."""
    holds = {"least": float.__ge__, "above": float.__gt__, "most": float.__le__, "below": float.__lt__}
    finite = not isinstance(value, float) or isfinite(value)
    return finite and all(holds[name](float(value), float(bound)) for name, bound in bounds.items())


def within(**bounds: float) -> str:
    """The bounds of a field in words."""
    words = {"least": "at least", "above": "more than", "most": "at most", "below": "less than"}
    return " and ".join(f"{words[name]} {bound}" for name, bound in bounds.items())
