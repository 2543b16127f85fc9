"""The order of training tasks, which can be looked at before it is used: what comes next can be made ready."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler


class TaskOrder(Sampler[int]):
    """trl's repeating sampler, drawn an epoch at a time."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self._epoch: list[int] = []

    def __iter__(self) -> Iterator[int]:
        self._epoch = list(self.sampler)
        return iter(self._epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def rollout(self, number: int) -> list[int]:
        """The tasks of a rollout of this epoch, each once, by index; `number` from 0."""
        rows = self.sampler.batch_size * self.sampler.mini_repeat_count
        start = number * rows * self.sampler.repeat_count
        return self._epoch[start : start + rows : self.sampler.mini_repeat_count]
