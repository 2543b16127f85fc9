"""The lightning indexer: scores, the selection's promises, and the kernels against the definition."""

import math

import pytest
import torch

from rlvr_kernels import indexer
from rlvr_kernels.indexer import indexer_scores, indexer_topk

F64 = torch.float64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHECKS = ("test_schema", "test_faketensor", "test_autograd_registration")
PACKED = torch.tensor([[0] * 9 + [1] * 38, [0] * 47])


def inputs(*, batch=2, queries=47, keys=47, heads=3, width=16, dtype=F64, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, queries, heads, width), (batch, keys, width), (batch, queries, heads)]
    return [torch.randn(s, dtype=F64, generator=generator).to(device, dtype).requires_grad_() for s in shapes]


def naive(q, k, weights, document):
    """(B, T, S): one pair at a time, in Python."""
    out = torch.full((*q.shape[:2], k.shape[1]), -math.inf, dtype=F64)
    for b, t, s in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
        position = k.shape[1] - q.shape[1] + t
        if s <= position and (document[b, s : position + 1] == document[b, position]).all():
            total = sum(weights[b, t, j] * (q[b, t, j] @ k[b, s]).clamp(min=0) for j in range(q.shape[2]))
            out[b, t, s] = total / math.sqrt(q.shape[2] * q.shape[3])
    return out


def kept(indices):
    """The selection as sets, without the unused places."""
    return [[set(row) - {-1} for row in rows] for rows in indices.tolist()]


@pytest.mark.parametrize(("queries", "document"), [(47, None), (5, PACKED)])
def test_reference_is_the_loop_over_pairs(queries, document):
    x = inputs(queries=queries, heads=2, width=4)
    expected = naive(*x, torch.zeros(2, 47) if document is None else document)
    torch.testing.assert_close(indexer_scores(*x, document_ids=document), expected, rtol=0, atol=1e-12)


def test_gradients_of_the_reference():
    def visible(*x):
        return indexer_scores(*x).masked_select(torch.ones(7, 7, dtype=torch.bool).tril())

    assert torch.autograd.gradcheck(visible, inputs(batch=1, queries=7, keys=7, heads=2, width=3))


def test_selection_is_the_window_and_the_best_of_the_rest():
    q, k, weights = (x.detach() for x in inputs(batch=1))
    scores, chosen = indexer_scores(q, k, weights)[0], indexer_topk(q, k, weights, ratio=0.3, window=4)[0]
    for t in range(47):
        count = min(t + 1, max(4, math.ceil(0.3 * (t + 1))))
        near = set(range(max(0, t - 3), t + 1))
        rest = sorted(set(range(t + 1)) - near, key=lambda s: (float(scores[t, s]), s), reverse=True)
        assert set(chosen[t].tolist()) - {-1} == near | set(rest[: count - len(near)])


def test_of_equal_scores_the_later_key_wins():
    q, k, weights = inputs(batch=1)
    quiet = indexer_topk(q, k, weights * 0, top_k=6, window=2)[0]
    blind = indexer_topk(q.abs(), -k.abs(), weights, top_k=6, window=2)[0]  # ReLU makes them all zero
    assert quiet[46].tolist() == list(range(46, 40, -1))
    assert blind[46].tolist() == list(range(46, 40, -1))


@pytest.mark.parametrize("chunks", [(1024, 8192), (5, 7)])
def test_packed_padded_and_cached_choose_as_alone(chunks, monkeypatch):
    monkeypatch.setattr(indexer, "QUERY_CHUNK", chunks[0])
    monkeypatch.setattr(indexer, "KEY_CHUNK", chunks[1])
    q, k, weights = (torch.relu(x) for x in inputs(batch=1))  # many ties
    document = torch.tensor([[0] * 9 + [1] * 38])
    options = {"ratio": 0.3, "window": 3}
    alone = kept(indexer_topk(q[:, 9:], k[:, 9:], weights[:, 9:], **options))
    packed = kept(indexer_topk(q, k, weights, document_ids=document, **options))
    cached = kept(indexer_topk(q[:, 40:], k, weights[:, 40:], document_ids=document, **options))
    assert [{s - 9 for s in row} for row in packed[0][9:]] == alone[0]
    assert cached[0] == packed[0][40:]


def test_shapes_that_do_not_fit_are_refused():
    q, k, weights = inputs(queries=48)
    with pytest.raises(ValueError, match="48 queries for 47 keys"):
        indexer_scores(q, k, weights)
    with pytest.raises(ValueError, match="do not belong together"):
        indexer_topk(q, k, weights[..., :1])


# --- kernels ---


def compare(document, *, dtype, device, atol, **shape):
    """Scores, gradients and selection of the kernels in `dtype` against the float64 reference on the same values."""
    x = inputs(dtype=dtype, device=device, **shape)
    document = None if document is None else document.to(device)
    plain = [y.detach().double().requires_grad_() for y in x]
    expected = indexer_scores(*plain, document_ids=document, backend="reference")
    scores = indexer_scores(*x, document_ids=document, backend="triton")
    visible = ~expected.isneginf()
    assert torch.equal(visible, ~scores.isneginf())
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(5)).to(device)
    pairs = [(scores[visible], expected[visible])]
    given = torch.autograd.grad(scores.masked_fill(~visible, 0), x, upstream)
    wanted = torch.autograd.grad(expected.masked_fill(~visible, 0), plain, upstream.double())
    pairs += list(zip(given, wanted, strict=True))
    for kernel, reference in pairs:
        torch.testing.assert_close(kernel.double(), reference, rtol=atol, atol=atol * reference.abs().max().item())


def same_selection(document, *, device, **shape):
    """Small integers have exact products, so that even the ties are the same."""
    x = [y.detach().round() for y in inputs(dtype=torch.float32, device=device, **shape)]
    options = {"ratio": 0.3, "window": 4, "document_ids": None if document is None else document.to(device)}
    assert torch.equal(indexer_topk(*x, backend="triton", **options), indexer_topk(*x, backend="reference", **options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize(("queries", "document"), [(47, None), (13, PACKED)])
def test_kernel_is_the_reference(queries, document, monkeypatch):
    compare(document, queries=queries, dtype=torch.float32, device="cpu", atol=1e-5)
    monkeypatch.setattr(indexer, "KEY_CHUNK", 32)
    same_selection(document, queries=queries, device="cpu", heads=4)


def test_the_compiler_sees_one_operation():
    from rlvr_kernels.indexer.triton_kernel import _all_scores

    x = inputs(batch=1, queries=8, keys=8, heads=2, dtype=torch.float32, device=DEVICE)
    torch.library.opcheck(_all_scores, (*x, torch.zeros(1, 8, dtype=torch.int32, device=DEVICE)), test_utils=CHECKS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 2e-2), (torch.float32, 1e-4)])
def test_kernel_is_the_reference_on_a_gpu(dtype, atol):
    document = torch.tensor([[0] * 300 + [1] * 1200])
    shape = {"batch": 1, "queries": 700, "keys": 1500, "heads": 16, "width": 32}
    compare(document, dtype=dtype, device="cuda", atol=atol, **shape)
    same_selection(document, device="cuda", **shape)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_without_a_break():
    x = inputs(batch=1, queries=256, keys=256, dtype=torch.float32, device="cuda")
    compiled = torch.compile(indexer_scores, fullgraph=True)
    torch.testing.assert_close(compiled(*x), indexer_scores(*x), rtol=1e-4, atol=1e-4)
