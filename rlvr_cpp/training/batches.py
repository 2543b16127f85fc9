"""Deal the live rows of a rollout batch out to its forward passes.

A batch feeds several optimizer steps, each of several passes. Dead rows are left behind; where the live ones do not
fill every pass, a pass is filled up with rows that count for nothing. So all passes on all processes have one size,
which collectives need, and no more work is done than there are live rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler

LEFT_PADDED = ("prompt_ids", "prompt_mask")

Batch = dict[str, Any]
"""Tensors by row, of a rollout batch or of one forward pass."""


@dataclass(frozen=True)
class Deal:
    """Rows by pass, the passes of the first optimizer step first."""

    rows: torch.Tensor
    """(updates * passes, width) long: indices into the batch."""
    counts: torch.Tensor
    """(updates * passes, width) bool: False for a row that only fills up."""


def pass_width(update_of_row: torch.Tensor, updates: int, passes: int) -> int:
    """Rows in a pass so that the fullest optimizer step fits; at least one. `update_of_row` (B,) has -1 for dead."""
    fullest = max(int((update_of_row == step).sum()) for step in range(updates))
    return max(1, -(-fullest // passes))


def deal(update_of_row: torch.Tensor, lengths: torch.Tensor, updates: int, passes: int, width: int) -> Deal:
    """Give each optimizer step its rows of `update_of_row` (B,) in `passes` passes of `width`.

    Rows of like `lengths` (B,), in tokens, share a pass: little of it is padding.
    """
    rows = torch.zeros(updates, passes * width, dtype=torch.long)
    counts = torch.zeros(updates, passes * width, dtype=torch.bool)
    for step in range(updates):
        mine = (update_of_row == step).nonzero().flatten()
        mine = mine[lengths[mine].argsort(stable=True)]
        rows[step, : len(mine)] = mine
        counts[step, : len(mine)] = True
    return Deal(rows.view(updates * passes, width), counts.view(updates * passes, width))


def without_fillers(rows: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A pass of a process that runs alone, so that its passes may differ in size: what counts, or else one row."""
    return (rows[counts], counts[counts]) if counts.any() else (rows[:1], counts[:1])


def pass_rows(batch: Batch, rows: torch.Tensor, counts: torch.Tensor) -> Batch:
    """One pass: `rows` of the batch, without the padding that none of them needs.

    `live` (width,) tells which count; the others have no advantage and no token in any mask.
    """
    chosen = {key: value[rows.to(value.device)] for key, value in batch.items()}
    live = counts.to(chosen["completion_mask"].device)
    chosen["loss_mask"] = chosen["loss_mask"] * live[:, None]
    chosen["advantages"] = chosen["advantages"] * live
    prompt, completion = (max(1, int(chosen[name].sum(dim=1).max())) for name in ("prompt_mask", "completion_mask"))
    full = batch["completion_mask"].shape[1]
    for key, value in chosen.items():
        if key in LEFT_PADDED:
            chosen[key] = value[:, -prompt:]
        elif value.ndim == 2 and value.shape[1] == full:
            chosen[key] = value[:, :completion]
    return {**chosen, "live": live}


def join_batches(first: Batch, second: Batch) -> Batch:
    """The rows of both, padded to the wider one: prompts on the left, completions on the right."""
    joined = {}
    for key, value in first.items():
        other = second[key]
        if value.ndim == 2:
            width = max(value.shape[1], other.shape[1])
            value, other = (_widened(tensor, width, key in LEFT_PADDED) for tensor in (value, other))
        joined[key] = torch.cat([value, other])
    return joined


def _widened(tensor: torch.Tensor, width: int, on_the_left: bool) -> torch.Tensor:
    missing = width - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (missing, 0) if on_the_left else (0, missing))


def is_per_row(value: Any, rows: int) -> bool:
    """Whether a value of trl's batch is a tensor with one entry for each of `rows`."""
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == rows


class TaskOrder(Sampler[int]):
    """trl's repeating sampler, drawn an epoch at a time; with `draw`, which gives so many tasks, they are those."""

    def __init__(self, sampler: Any, draw: Callable[[int], Sequence[int]] | None = None) -> None:
        self.sampler = sampler
        self._draw = draw
        self._epoch: list[int] = []
        self._following: list[int] = []
        """The epoch behind it, where that was asked for."""

    def __iter__(self) -> Iterator[int]:
        self._epoch, self._following = self._following or self._drawn_epoch(), []
        return iter(self._epoch)

    def _drawn_epoch(self) -> list[int]:
        return list(self.sampler) if self._draw is None else [*self._drawn(self._draw)]

    def _drawn(self, draw: Callable[[int], Sequence[int]]) -> Iterator[int]:
        """An epoch as trl's sampler has it: each step's tasks repeated, task by task and as a whole."""
        sampler = self.sampler
        for _ in range(sampler.num_samples // sampler.batch_size):
            chunk = draw(sampler.batch_size)
            for _ in range(sampler.repeat_count):
                yield from (index for index in chunk for _ in range(sampler.mini_repeat_count))

    def __len__(self) -> int:
        return len(self.sampler)

    def rollout(self, number: int) -> list[int]:
        """The tasks of a rollout of this epoch or the next, each once, by index; `number` from 0."""
        rows = self.sampler.batch_size * self.sampler.mini_repeat_count
        start = number * rows * self.sampler.repeat_count
        if start >= len(self._epoch):
            self._following = self._following or self._drawn_epoch()
        both = [*self._epoch, *self._following]
        return both[start : start + rows : self.sampler.mini_repeat_count]
