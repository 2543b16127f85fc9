"""Block-sparse attention: the definition, what the future may not move, and the kernels against the definition."""

import math

import pytest
import torch

from rlvr_kernels.block_sparse_attention import block_sparse_attention, select_blocks

F64 = torch.float64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHECKS = ("test_schema", "test_faketensor", "test_autograd_registration")
BLOCK = 8
PACKED = torch.tensor([[0] * 5 + [1] * 20 + [2] * 22, [0] * 47])


def inputs(*, batch=2, heads=4, key_heads=2, queries=47, keys=47, width=16, dtype=F64, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(heads, queries), (key_heads, keys), (key_heads, keys)]
    return [
        torch.randn(batch, h, t, width, dtype=F64, generator=generator).to(device, dtype).requires_grad_()
        for h, t in shapes
    ]


def naive(q, k, v, blocks, document, *, window=0, softcap=None):
    """One query at a time, in Python."""
    out = torch.zeros_like(q)
    for b, h, t in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
        kv, position = h // (q.shape[1] // k.shape[1]), k.shape[2] - q.shape[2] + t
        mine = blocks[b, kv, t // math.ceil(q.shape[2] / blocks.shape[2])].tolist()
        begin, block, seen = 0, -1, []
        for s in range(position + 1):
            if s == 0 or document[b, s] != document[b, s - 1]:
                begin, block = s, block + 1
            elif (s - begin) % BLOCK == 0:
                block += 1
            if document[b, s] == document[b, position] and (block in mine or position - s < window):
                seen.append(s)
        if seen:
            scores = k[b, kv, seen] @ q[b, h, t] / math.sqrt(q.shape[3])
            scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
            out[b, h, t] = scores.softmax(0) @ v[b, kv, seen]
    return out


@pytest.mark.parametrize(
    ("queries", "lists", "document", "window", "softcap"),
    [(47, 47, None, 0, None), (47, 47, PACKED, 5, 2.0), (13, 13, PACKED, 0, None), (47, 6, PACKED, 3, None)],
)
def test_reference_is_the_loop_over_queries(queries, lists, document, window, softcap):
    q, k, v = inputs(queries=queries)
    blocks = torch.randint(-1, 6, (2, 2, lists, 3), generator=torch.Generator().manual_seed(1))
    ids = torch.zeros(2, 47) if document is None else document
    options = {"window": window, "softcap": softcap}
    out = block_sparse_attention(q, k, v, blocks, block_size=BLOCK, document_ids=document, **options)
    torch.testing.assert_close(out, naive(q, k, v, blocks, ids, **options), rtol=0, atol=1e-12)


def test_gradients_of_the_reference():
    q, k, v = inputs(batch=1, heads=2, key_heads=1, queries=9, keys=12, width=2)
    blocks = torch.tensor([[2, 0], [-1, 1], [0, 0]])[None, None]
    document = torch.tensor([[0] * 4 + [1] * 8])

    def attend(q, k, v):
        return block_sparse_attention(q, k, v, blocks, block_size=4, document_ids=document, window=2, softcap=1.5)

    assert torch.autograd.gradcheck(attend, (q, k, v))


def test_all_blocks_are_dense_attention():
    q, k, v = inputs()
    blocks = select_blocks(q, k, top_n=6, block_size=BLOCK)
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(block_sparse_attention(q, k, v, blocks, block_size=BLOCK), dense, rtol=0, atol=1e-12)


def test_a_query_that_may_read_nothing_gets_zeros_and_moves_nothing():
    q, k, v = inputs(batch=1)
    blocks = torch.full((1, 2, 47, 2), -1)
    out = block_sparse_attention(q, k, v, blocks, block_size=BLOCK)
    out.sum().backward()
    assert not out.any()
    assert not any(x.grad.any() for x in (q, k, v))


def select_and_attend(q, k, v, **options):
    blocks = select_blocks(q, k, top_n=3, block_size=BLOCK, window=4, **options)
    return block_sparse_attention(q, k, v, blocks, block_size=BLOCK, **options)


def test_the_future_moves_nothing():
    q, k, v = (x.detach() for x in inputs())
    before = select_and_attend(q, k, v)
    for x in (q, k, v):
        x[:, :, 30:] += 5 * torch.randn(x[:, :, 30:].shape, generator=torch.Generator().manual_seed(3))
    after = select_and_attend(q, k, v)
    assert torch.equal(before[:, :, :30], after[:, :, :30])
    assert not torch.equal(before[:, :, 30:], after[:, :, 30:])


def test_packed_padded_and_cached_are_as_alone():
    q, k, v = inputs(batch=1)
    document = torch.tensor([[0] * 13 + [1] * 34])
    alone = select_and_attend(*(x[:, :, 13:] for x in (q, k, v)))
    packed = select_and_attend(q, k, v, document_ids=document)
    torch.testing.assert_close(packed[:, :, 13:], alone, rtol=0, atol=1e-12)
    cached = select_and_attend(q[:, :, 40:], k, v, document_ids=document)
    torch.testing.assert_close(cached, packed[:, :, 40:], rtol=0, atol=1e-12)


def test_selection_forces_the_near_blocks_and_breaks_ties_by_recency():
    q, k = torch.zeros(1, 1, 40, 4), torch.zeros(1, 1, 40, 4)
    chosen = select_blocks(q, k, top_n=3, block_size=BLOCK, window=2, sink=True)[0, 0]
    assert chosen[39].tolist() == [4, 0, 3]  # its own and the first are forced, and of equal ones the latest is best
    assert chosen[32].tolist() == [4, 3, 0]  # position 31 is within the window
    assert chosen[3].tolist() == [0, -1, -1]


def test_selection_follows_the_share_that_the_group_gives_a_block():
    k = torch.zeros(1, 1, 32, 2, dtype=F64)
    k[..., 0:8, 0] = 4.0  # block 0, which the first head wants a lot
    k[..., 8:16, 1] = 1.0  # block 1, which the second wants a little
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=F64)[None, :, None].expand(1, 2, 32, 2)
    assert select_blocks(q, k, top_n=2, block_size=BLOCK)[0, 0, 31].tolist() == [3, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "3 query heads cannot share 2"),
        ({"queries": 50}, "50 queries for 47 keys"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    q, k, v = inputs(**change)
    with pytest.raises(ValueError, match=message):
        block_sparse_attention(q, k, v, torch.zeros(2, 2, 4, 1), block_size=BLOCK)


# --- kernels ---

CASES = {
    "one list a query": ({}, 1, None, 0, None, 3),
    "documents, window, softcap, an odd group": ({"heads": 3, "key_heads": 1}, 1, PACKED[:1], 5, 2.0, 3),
    "cached, a window beyond the lists": ({"queries": 13}, 1, PACKED[:1], 12, None, 1),
    "shared lists, no group": ({"heads": 2}, 64, None, 0, 3.0, 3),
}


def compare(arguments, per_list, document, window, softcap, top_n, *, block, dtype, device, atol):
    """The kernel in `dtype` against the reference in float64 on the same values: output and gradients."""
    q, k, v = inputs(dtype=dtype, device=device, **arguments)
    document = None if document is None else document.to(device)
    blocks = select_blocks(q, k, top_n=top_n, block_size=block, document_ids=document)[:, :, ::per_list].contiguous()
    options = {"block_size": block, "document_ids": document, "window": window, "softcap": softcap}
    upstream = torch.randn(q.shape, generator=torch.Generator().manual_seed(7)).to(q)
    results = []
    for backend in ("reference", "triton"):
        x = [y.detach().to(F64 if backend == "reference" else dtype).requires_grad_() for y in (q, k, v)]
        out = block_sparse_attention(*x, blocks, backend=backend, **options)
        results.append((out, *torch.autograd.grad(out, x, upstream.to(out.dtype))))
    for plain, kernel in zip(*results, strict=True):
        torch.testing.assert_close(kernel.to(F64), plain, rtol=atol, atol=atol * plain.abs().max().item())


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kernel_is_the_reference(case):
    arguments, *rest = case
    compare({"batch": 1, **arguments}, *rest, block=BLOCK, dtype=torch.float32, device="cpu", atol=1e-5)


def test_the_compiler_sees_one_operation():
    from rlvr_kernels.block_sparse_attention.triton_kernel import _attend

    q, k, v = inputs(batch=1, heads=2, key_heads=1, queries=16, keys=16, dtype=torch.float32, device=DEVICE)
    sizes = ((1, 1, 16, 1), (1, 1), (1, 16))
    blocks, starts, begins = (torch.zeros(size, dtype=torch.int32, device=DEVICE) for size in sizes)
    torch.library.opcheck(_attend, (q, k, v, blocks, starts, begins, 16, 0, 0.0, 0.25), test_utils=CHECKS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("dtype", "atol", "width", "per_list"),
    [(torch.bfloat16, 2e-2, 128, 1), (torch.bfloat16, 2e-2, 128, 128), (torch.float32, 1e-4, 64, 1)],
)
def test_kernel_is_the_reference_on_a_gpu(dtype, atol, width, per_list):
    arguments = {"batch": 1, "heads": 8, "key_heads": 2, "queries": 1500, "keys": 1500, "width": width}
    document = torch.tensor([[0] * 333 + [1] * 1167])
    window, softcap = (40, 20.0) if per_list == 1 else (0, None)
    compare(arguments, per_list, document, window, softcap, 4, block=256, dtype=dtype, device="cuda", atol=atol)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_without_a_break():
    q, k, v = inputs(batch=1, queries=512, keys=512, width=64, dtype=torch.bfloat16, device="cuda")
    blocks = select_blocks(q, k, top_n=2, block_size=64)
    attend = torch.compile(block_sparse_attention, fullgraph=True)
    out = attend(q, k, v, blocks, block_size=64)
    torch.testing.assert_close(out, block_sparse_attention(q, k, v, blocks, block_size=64), rtol=2e-2, atol=2e-2)
