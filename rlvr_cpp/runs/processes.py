"""Several processes of one run, as `accelerate launch` starts them: who speaks, what they agree on.

Each process has its own model, sampler and verifier; the first one alone writes the run folder and the terminal.
accelerate is imported where there is more than one of them, so that the room `runs` brings no torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def count() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def on_this_machine() -> int:
    """How many of them share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", count()))


def connect(device: str) -> None:
    """Meet the others, over the network that suits the `policy.device` setting."""
    if count() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=device == "cpu" or (device == "auto" and not torch.cuda.is_available()))


def of_the_first(value: T) -> T:
    """What the first process has for `value`."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    shared = [value]
    broadcast_object_list(shared, from_process=0)
    return shared[0]


def of_everyone(value: T) -> list[T]:
    """What each process has for `value`, in order."""
    if count() == 1:
        return [value]
    from accelerate.utils import gather_object

    return list(gather_object([value]))


def share_of(items: Sequence[T]) -> list[T]:
    """This process's items: every n-th, and as many as any other has, the first ones filling up.

    Processes that share out a model's weights have to ask it equally often.
    """
    own = items[rank() :: count()]
    return [*own, *items[: -(-len(items) // count()) - len(own)]]


def sharding() -> str | None:
    """What the launcher was told to share weights out with: `FSDP` or `DeepSpeed`; None leaves them whole."""
    asked = (name for name in ("FSDP", "DeepSpeed") if os.environ.get(f"ACCELERATE_USE_{name.upper()}") == "true")
    return next(asked, None)


def shared_folder(folder: Path) -> Path:
    """The first process's run folder; one that Hydra made for another process is removed."""
    chosen = of_the_first(folder)
    if chosen != folder:
        shutil.rmtree(folder / ".hydra", ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
    return chosen
