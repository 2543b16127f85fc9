"""From the verdicts of a rollout step to the forward passes of its optimizer steps.

Every process knows the rollouts of all, so group rules are the same everywhere; each deals out its own rows only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator

from rlvr_cpp.training.batches import Batch, deal, pass_rows, pass_width, without_fillers
from rlvr_cpp.training.config import GRPOConfig
from rlvr_cpp.training.groups import Signal, group_signal
from rlvr_cpp.training.objective import Window, window_of
from rlvr_cpp.training.rollout import Rollout
from rlvr_cpp.training.stepcoder.token_masks import TokenMask


def signal_of(rollouts: Sequence[Rollout], algorithm: GRPOConfig) -> Signal:
    """What the group rules say of rollouts that lie group by group."""
    return group_signal(
        [rollout.primary for rollout in rollouts],
        [rollout.reward for rollout in rollouts],
        [len(rollout.ids) for rollout in rollouts],
        [rollout.truncated for rollout in rollouts],
        algorithm,
    )


def own_rows(sizes: Sequence[int], accelerator: Accelerator) -> torch.Tensor:
    """This process's rows among those of all rounds and processes, in the order of its batch.

    `sizes` has how many each process sampled, round by round.
    """
    processes, rank = accelerator.num_processes, accelerator.process_index
    starts = [sum(sizes[:part]) for part in range(rank, len(sizes), processes)]
    own = [torch.arange(start, start + size) for start, size in zip(starts, sizes[rank::processes], strict=True)]
    return torch.cat(own)


def with_signal(batch: Batch, signal: Signal, rows: torch.Tensor, algorithm: GRPOConfig) -> Batch:
    """The batch with `update` (-1 for dead rows) and `advantages` by the group rules and a `loss_mask` of ones.

    `rows` are those of the batch among all that the signal speaks of.
    """
    device = batch["completion_ids"].device
    update = signal.rows.update_of_rows(algorithm.group_size, algorithm.num_minibatches)[rows]
    return {
        **batch,
        "update": update.to(device),
        "advantages": signal.advantages[rows].to(device, torch.float32),
        "loss_mask": torch.ones_like(batch["completion_mask"]),
    }


def with_token_masks(batch: Batch, masks: Sequence[TokenMask]) -> Batch:
    """The batch with FGO's `loss_mask` and `ratio_mask`; in the second a row may keep the ratio of all its tokens."""
    loss_mask, ratio_mask = batch["loss_mask"].clone(), batch["loss_mask"].clone()
    for row, mask in enumerate(masks):
        kept = torch.tensor(mask.tokens, dtype=loss_mask.dtype, device=loss_mask.device)
        loss_mask[row, : len(kept)] = kept
        if not mask.keeps_ratio:
            ratio_mask[row, : len(kept)] = kept
    return {**batch, "loss_mask": loss_mask, "ratio_mask": ratio_mask}


def deal_passes(batch: Batch, updates: int, passes: int, accelerator: Accelerator) -> list[Batch]:
    """The live rows as `passes` forward passes for each of `updates`, each with the `window` of its update."""
    rows = {name: value for name, value in batch.items() if name != "update"}
    update = batch["update"]
    counts = torch.stack([window_of(rows, update, step) for step in range(updates)])
    windows = [Window(*row) for row in accelerator.reduce(counts, reduction="sum").tolist()]
    width = torch.tensor([pass_width(update, updates, passes)], device=update.device)
    lengths = rows["prompt_mask"].sum(dim=1) + rows["completion_mask"].sum(dim=1)
    dealt = deal(update, lengths, updates, passes, int(accelerator.gather(width).max()))
    chosen = list(zip(dealt.rows, dealt.counts, strict=True))
    if accelerator.num_processes == 1:
        chosen = [without_fillers(*one) for one in chosen]
    return [{**pass_rows(rows, *one), "window": windows[number // passes]} for number, one in enumerate(chosen)]
