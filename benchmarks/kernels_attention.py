"""Block-sparse attention beside dense attention, and the indexer: `python -m benchmarks.kernels_attention`.

One row of 64K positions, 16 query heads on 4 key heads of width 128, 8 blocks of 256 keys for each query: its own, the
one before, the first, and five drawn from its past. "Shared" draws them once for 128 queries; "drifting" gives each
query a list of its own that changes every 32 queries; "independent" draws anew for each query, so that a tile of
queries visits nearly everything: no real selection is like that. Dense attention is what
`scaled_dot_product_attention` offers, FlashAttention and cuDNN; flex attention gets the shared lists as a block mask.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.kernels_timing import COLUMNS, Work, milliseconds, print_head, print_row, timed
from rlvr_kernels.block_sparse_attention import block_sparse_attention, select_blocks
from rlvr_kernels.block_sparse_attention.reference import block_starts
from rlvr_kernels.block_sparse_attention.schedule import visited_blocks
from rlvr_kernels.documents import document_starts
from rlvr_kernels.indexer import indexer_scores, indexer_topk

HEADS, KEY_HEADS, WIDTH, BLOCK, CHOSEN = 16, 4, 128, 256, 8
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def lists(length: int, every: int) -> Tensor:
    """(1, KEY_HEADS, length / every, CHOSEN) int32: one list for `every` queries, of blocks that all of them see."""
    own = torch.arange(0, length, every, device="cuda") // BLOCK
    past = torch.arange(length // BLOCK, device="cuda") < (own - 1)[:, None]
    rank = torch.rand(KEY_HEADS, *past.shape, device="cuda").masked_fill(~past, -1.0)
    rank[..., 0] = 2.0
    drawn = rank.topk(CHOSEN - 2, dim=-1)
    drawn = drawn.indices.masked_fill(drawn.values < 0, -1)
    near = torch.stack([own, own - 1], dim=1).expand(KEY_HEADS, -1, -1)
    return torch.cat([near, drawn], dim=-1)[None].int()


def pairs(length: int) -> float:
    """Query-key pairs that a head has to look at."""
    seen = torch.arange(length) + 1
    return float(torch.minimum(seen, (CHOSEN - 1) * BLOCK + seen % BLOCK).sum())


def backward_of(attend: Attend, inputs: list[Tensor], upstream: Tensor) -> Callable[[], object]:
    """What is left to run after the forward pass."""
    out = attend(*inputs)
    return lambda: torch.autograd.grad(out, inputs, upstream, retain_graph=True)


def dense(backend: SDPBackend) -> Attend:
    """Dense causal attention by one implementation of torch."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    return attend


def flex(blocks: Tensor, length: int, every: int) -> Attend:
    """Flex attention with the shared lists as its block mask."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    ordered = blocks.where(blocks >= 0, length).sort(dim=-1).values.repeat_interleave(HEADS // KEY_HEADS, dim=1)
    counts = (ordered < length).sum(dim=-1, dtype=torch.int32)
    room = torch.zeros(1, HEADS, length // every, length // BLOCK, dtype=torch.int32, device="cuda")
    room[..., :CHOSEN] = ordered.where(ordered < length, 0)
    mask = BlockMask.from_kv_blocks(
        counts, room, BLOCK_SIZE=(every, BLOCK), mask_mod=lambda b, h, query, key: query >= key
    )
    run = torch.compile(flex_attention)
    return lambda q, k, v: run(q, k, v, block_mask=mask, enable_gqa=True)


def sparse(blocks: Tensor) -> Attend:
    """Ours."""
    return lambda q, k, v: block_sparse_attention(q, k, v, blocks, block_size=BLOCK)


def union(blocks: Tensor, length: int, rows: int) -> float:
    """Blocks that a tile of `rows` query rows visits, on average."""
    begins = document_starts(None, (1, length), blocks.device)
    starts = block_starts(begins, BLOCK, aligned=True)
    tile = rows // (HEADS // KEY_HEADS)
    return float(visited_blocks(blocks, starts, begins, length, tile, 0).sum(-1).float().mean())


def attention_table(length: int) -> None:
    """Dense and sparse, forward and backward."""
    torch.manual_seed(0)
    q, *kv = (
        torch.randn(1, h, length, WIDTH, device="cuda", dtype=torch.bfloat16) for h in (HEADS, KEY_HEADS, KEY_HEADS)
    )
    inputs = [x.requires_grad_() for x in (q, *kv)]
    upstream = torch.randn_like(q)
    moved = 2.0 * (2 * q.numel() + 2 * kv[0].numel())
    dense_work = Work(4 * WIDTH * HEADS * length * (length + 1) / 2, moved)
    sparse_work = Work(4 * WIDTH * HEADS * pairs(length), moved)
    shared, drifting, independent = lists(length, 128), lists(length, 32), lists(length, 1)
    drifting = drifting.repeat_interleave(32, dim=2)
    rows: list[tuple[str, Callable[[], Attend], Work]] = [
        ("dense, FlashAttention", lambda: dense(SDPBackend.FLASH_ATTENTION), dense_work),
        ("dense, cuDNN", lambda: dense(SDPBackend.CUDNN_ATTENTION), dense_work),
        (f"sparse, shared, union {union(shared, length, 128):.1f}", lambda: sparse(shared), sparse_work),
        (f"sparse, drifting, union {union(drifting, length, 128):.1f}", lambda: sparse(drifting), sparse_work),
        (f"sparse, independent, union {union(independent, length, 128):.1f}", lambda: sparse(independent), sparse_work),
        ("sparse, flex attention, shared", lambda: flex(shared, length, 128), sparse_work),
    ]
    for direction, factor in (("forward", 1.0), ("backward", 2.5)):
        print_head(f"attention {direction}, {length} positions, {CHOSEN} blocks of {BLOCK} a query", *COLUMNS)
        first: list[float] = []

        def measure(
            make: Callable[[], Attend], work: Work, factor: float = factor, first: list[float] = first
        ) -> list[str]:
            attend = make()
            with torch.set_grad_enabled(factor > 1):
                run = backward_of(attend, inputs, upstream) if factor > 1 else lambda: attend(*inputs)
                ms, cells = timed(run, Work(factor * work.flops, 2 * work.bytes), first[0] if first else None)
            first.append(ms)
            return cells

        for label, make, work in rows:
            print_row(label, lambda make=make, work=work, measure=measure: measure(make, work))
    selection_table(q.detach(), kv[0].detach(), length)


def selection_table(q: Tensor, k: Tensor, length: int) -> None:
    """The choice of blocks and, with 16 heads of width 32, the indexer's choice of 2048 keys."""
    generator = torch.Generator("cuda").manual_seed(0)
    iq, ik, iw = (
        torch.randn(1, length, *rest, device="cuda", dtype=torch.bfloat16, generator=generator)
        for rest in ((16, 32), (32,), (16,))
    )
    print_head(f"selection, {length} positions", "ms", "TFLOP/s", "faster")
    half = length * (length + 1) / 2

    def blocks() -> list[str]:
        ms = milliseconds(lambda: select_blocks(q, k, top_n=CHOSEN, block_size=BLOCK, window=128))
        return [f"{ms:.3f}", f"{2 * WIDTH * HEADS * half / BLOCK / ms / 1e9:.0f}", ""]

    times: list[float] = []

    def keys(backend: str) -> list[str]:
        ms = milliseconds(lambda: indexer_topk(iq, ik, iw, top_k=2048, backend=backend))
        times.append(ms)
        return [f"{ms:.1f}", f"{2 * 16 * 32 * half / ms / 1e9:.0f}", f"{times[0] / ms:.2f}x"]

    print_row(f"select_blocks, best {CHOSEN}", blocks)
    print_row("indexer, best 2048, PyTorch", lambda: keys("reference"))
    print_row("indexer, best 2048, Triton", lambda: keys("triton"))
    short = 8192
    print_head(f"indexer scores of all pairs, {short} positions", "fwd ms", "bwd ms")

    def scores(backend: str) -> list[str]:
        inputs = [x[:, :short].detach().requires_grad_() for x in (iq, ik, iw)]
        out = indexer_scores(*inputs, backend=backend)
        upstream = torch.ones_like(out)
        forward = milliseconds(lambda: indexer_scores(*inputs, backend=backend))
        backward = milliseconds(lambda: torch.autograd.grad(out, inputs, upstream, retain_graph=True))
        return [f"{forward:.3f}", f"{backward:.3f}"]

    print_row("PyTorch", lambda: scores("reference"))
    print_row("Triton", lambda: scores("triton"))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=65536, help="positions, a multiple of 256")
    attention_table(parser.parse_args().length)


if __name__ == "__main__":
    main()
