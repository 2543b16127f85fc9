"""The memory of Engram (arXiv 2601.07372): the last tokens, hashed, name rows of a large table.

For an order n the hash is `m = XOR_{j<n} ids[t-j] · multiplier_j` in int64, and head h of that order reads row
`m mod size_{n,h}` of its own part of the table. Sizes are distinct primes, so two n-grams that collide in one head are
apart in the others. Rows depend on token ids alone: they can be looked up before the forward pass, on the host if the
table lies there (`ngram_rows`).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from rlvr_kernels.backend import choose
from rlvr_kernels.documents import document_starts
from rlvr_kernels.engram import reference


def ngram_rows(
    ids: Tensor,
    multipliers: Tensor,
    sizes: Tensor,
    *,
    orders: tuple[int, ...],
    pad_id: int,
    document_ids: Tensor | None = None,
) -> Tensor:
    """The rows `(B, T, orders, heads)` int64 that each token's n-grams name in one table of `sizes.sum()` rows.

    `ids (B, T)` int64; `multipliers (>= max(orders),)` int64, odd and small enough that an id times one stays below
    2^63; `sizes (orders, heads)` int64, whose parts of the table follow each other. Places before the row or, with
    `document_ids (B, T)`, before the document hold `pad_id`, never another document's token; a document is a run of
    equal ids. Raises ValueError for a negative `pad_id`.
    """
    ids, document_ids = _prepared(ids, pad_id, document_ids)
    return reference.ngram_rows(ids, multipliers, sizes, orders, pad_id, document_ids)


def engram(
    ids: Tensor,
    table: Tensor,
    multipliers: Tensor,
    sizes: Tensor,
    *,
    orders: tuple[int, ...],
    pad_id: int,
    document_ids: Tensor | None = None,
    domains: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """The concatenated rows `(B, T, orders · heads · width)` of `table (domains · sizes.sum(), width)`.

    Arguments as for `ngram_rows`. `domains (B, T)` int64 picks one of several tables that follow each other in `table`.
    The gradient of the table is dense; only rows that were read differ from zero.
    """
    ids, document_ids = _prepared(ids, pad_id, document_ids)
    if choose(backend, ids, table) == "reference":
        rows = reference.ngram_rows(ids, multipliers, sizes, orders, pad_id, document_ids)
        if domains is not None:
            rows = rows + (domains * sizes.sum())[..., None, None]
        return functional.embedding(rows.flatten(2), table).flatten(2)
    from rlvr_kernels.engram import triton_kernel

    return triton_kernel.engram(ids, table, multipliers, sizes, orders, pad_id, document_ids, domains)


def _prepared(ids: Tensor, pad_id: int, document_ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Ids that a product does not overflow, and an id for each run of equal document ids, which may come back later."""
    if pad_id < 0:
        raise ValueError(f"pad_id is {pad_id}: hashes are made of numbers from 0 on; give an id beyond the vocabulary")
    shape = (ids.shape[0], ids.shape[1])
    return ids.long(), None if document_ids is None else document_starts(document_ids, shape, ids.device)
