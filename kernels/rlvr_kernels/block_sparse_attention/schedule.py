"""Which blocks a tile of queries visits, and which tiles visit a block: the union of the queries' lists, made once.

The kernels run over these lists and mask each query to its own. Everything stays on the device and nothing waits for
it, so the lists have room for all blocks (all tiles) and come with a count.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr_kernels.block_sparse_attention.reference import block_of_position


def visited_blocks(
    blocks: Tensor, starts: Tensor, document_starts: Tensor, queries: int, tile: int, window: int
) -> Tensor:
    """(B, H_kv, tiles, n) bool: some query of the tile of `tile` queries reads keys of the block."""
    length, count = document_starts.shape[1], starts.shape[1]
    tiles = -(-queries // tile)
    lists = torch.arange(tiles * tile, device=blocks.device) // -(-queries // blocks.shape[2])
    chosen = blocks[:, :, lists.clamp(max=blocks.shape[2] - 1)].reshape(*blocks.shape[:2], tiles, -1)
    visited = torch.zeros(*chosen.shape[:3], count + 1, dtype=torch.bool, device=blocks.device)
    visited = visited.scatter(-1, chosen.long() + 1, True)[..., 1:]
    first = length - queries + torch.arange(tiles, device=blocks.device) * tile
    last = (first + tile - 1).clamp(max=length - 1)
    block, number = block_of_position(starts, length), torch.arange(count, device=blocks.device)
    if window:
        nearest = block[:, (first - window + 1).clamp(min=0), None]
        visited = visited | ((number >= nearest) & (number <= block[:, last, None]))[:, None]
    return visited & (number <= block[:, last, None])[:, None]


def compact(visited: Tensor) -> tuple[Tensor, Tensor]:
    """(..., n) int32 with the indices that are set, ascending, in front, and (...) int32 how many they are."""
    size = visited.shape[-1]
    place = torch.where(visited, visited.cumsum(-1) - 1, size)
    index = torch.arange(size, dtype=torch.int32, device=visited.device).expand(visited.shape)
    listed = torch.zeros(*visited.shape[:-1], size + 1, dtype=torch.int32, device=visited.device)
    return listed.scatter(-1, place, index)[..., :size].contiguous(), visited.sum(-1, dtype=torch.int32)
