"""A reward of the user's own: `reward.kind=my_module:my_reward` names a Python function.

It is called once for each judged completion, with `prompt`, `completion`, `result` and `task` by their names, and
gives a number, or None for a completion that must not be scored. It is trusted code in the trainer's process. Where it
raises or gives anything else, the completion is unscorable and a warning says why: a slip of it never is a score.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from numbers import Real
from pathlib import Path
from typing import Any

from rlvr_cpp.errors import UserError, first_line
from rlvr_cpp.reward.score import Judged
from rlvr_cpp.reward.settings import KINDS

SEEN = ("prompt", "completion", "result", "task")


@dataclass
class OwnReward:
    """The function that a config names."""

    name: str
    """As the config has it: `my_module:my_reward`."""
    function: Callable[..., Any]
    sha256: str
    """Of the file that the function is defined in."""
    _told: set[str] = field(default_factory=set)

    def values(self, judged: Sequence[Judged]) -> list[float | None]:
        """The rewards, in order; None where the infrastructure failed, or the function did."""
        return [None if one.result.status == "sandbox_error" else self._value(one) for one in judged]

    def _value(self, one: Judged) -> float | None:
        prompt = one.task.prompt + one.prefix
        try:
            value = self.function(prompt=prompt, completion=one.completion, result=one.result, task=one.task)
            if isinstance(value, Real) and math.isfinite(value):  # which raises for an integer beyond all floats
                return float(value)
        except Exception as error:
            self._tell(f"raises {type(error).__name__} ({first_line(error)})", one)
            return None
        if value is not None:
            self._tell(f"gives {value!r:.60}, which is no finite number", one)
        return None

    def _tell(self, trouble: str, one: Judged) -> None:
        """Tell of each kind of trouble once."""
        from rlvr_cpp.runs.console import console  # of the extra, which nothing that checks a config needs

        if trouble not in self._told:
            self._told.add(trouble)
            told = f"warning: {self.name} {trouble} for a completion of {one.task.task_id}, which is left unscored"
            console.print(told, style="yellow", markup=False, soft_wrap=True)


def load_reward(name: str) -> OwnReward:
    """Import `module:function`, from the working folder or where Python looks. Raises UserError where it cannot be."""
    path, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:  # where a console script was started is not among them
        sys.path.append(str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(path), attribute)
    except (Exception, SystemExit) as error:  # a script that ends where it is imported would end the command in silence
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"reward.kind is {name!r}, which cannot be imported ({reason}): give module:function, with the module in "
            "this folder or on PYTHONPATH"
        ) from error
    try:
        inspect.signature(function).bind(**dict.fromkeys(SEEN))
        source = inspect.getsourcefile(function if inspect.isroutine(function) else type(function))
        assert source is not None
        return OwnReward(name, function, sha256(Path(source).read_bytes()).hexdigest())
    except (TypeError, ValueError, OSError, AssertionError) as error:
        raise UserError(
            f"reward.kind is {name!r}, which cannot be called with {', '.join(SEEN)} by name, or has no source file: "
            f"define it in a file as def {attribute}({', '.join(SEEN)})"
        ) from error


def reward_problems(kind: str) -> Iterator[str]:
    """What is wrong with `reward.kind`, in a sentence."""
    if ":" in kind:
        try:
            load_reward(kind)
        except UserError as error:
            yield str(error)
    elif kind not in KINDS:
        yield (
            f"reward.kind is {kind!r}: it must be one of {', '.join(KINDS)}, or a function of yours such as "
            "my_module:my_reward"
        )


def own_reward_facts(kind: str) -> dict[str, str] | None:
    """What a run notes of a reward of one's own; None for the others, which come with the library."""
    return {"function": kind, "sha256": load_reward(kind).sha256} if ":" in kind else None
