import pytest
import torch

from rlvr_kernels import engram, ngram_rows
from tests.kernels.comparison import CHECKS, DEVICE, assert_kernel_matches

ORDERS = (2, 3)
MULTIPLIERS = torch.tensor([48271, 69621, 16807])
SIZES = torch.tensor([[11, 13], [17, 19]])
PAD = 7


def by_hand(ids: list[int], document_ids: list[int], token: int, order: int, head: int) -> int:
    mixed = 0
    for back in range(order):
        place = token - back
        inside = place >= 0 and document_ids[place] == document_ids[token]
        mixed ^= (ids[place] if inside else PAD) * int(MULTIPLIERS[back])
    before = int(SIZES.flatten()[: ORDERS.index(order) * 2 + head].sum())
    return before + mixed % int(SIZES[ORDERS.index(order), head])


def rows_of(ids: torch.Tensor, document_ids: torch.Tensor | None = None) -> torch.Tensor:
    return ngram_rows(ids, MULTIPLIERS, SIZES, orders=ORDERS, pad_id=PAD, document_ids=document_ids)


def gathered(ids, table, document_ids, domains, backend):
    constants = (MULTIPLIERS.to(ids.device), SIZES.to(ids.device))
    extra = {"document_ids": document_ids, "domains": domains}
    return engram(ids, table, *constants, orders=ORDERS, pad_id=PAD, **extra, backend=backend)


def test_rows_equal_integers_of_any_size():
    torch.manual_seed(0)
    ids = torch.randint(0, 2**40, (2, 12))
    documents = torch.tensor([[0] * 5 + [1] * 7, [0] * 12])
    rows = rows_of(ids, documents)
    for row in range(2):
        for token in range(12):
            for o, order in enumerate(ORDERS):
                for head in range(2):
                    wanted = by_hand(ids[row].tolist(), documents[row].tolist(), token, order, head)
                    assert rows[row, token, o, head] == wanted


def test_a_packed_document_reads_what_it_reads_alone():
    torch.manual_seed(0)
    first, second = torch.randint(0, 100, (1, 4)), torch.randint(0, 100, (1, 6))
    packed = rows_of(torch.cat([first, second], 1), torch.tensor([[0] * 4 + [1] * 6]))
    assert torch.equal(packed, torch.cat([rows_of(first), rows_of(second)], 1))


def test_a_document_that_comes_back_is_another_one():
    torch.manual_seed(0)
    ids = torch.randint(0, 100, (1, 6))
    again = rows_of(ids, torch.tensor([[5, 5, 1, 5, 5, 5]]))
    assert torch.equal(again, rows_of(ids, torch.tensor([[0, 0, 1, 2, 2, 2]])))


def test_a_negative_pad_is_refused():
    with pytest.raises(ValueError, match="pad_id is -1: hashes are made of numbers from 0 on"):
        ngram_rows(torch.zeros(1, 2, dtype=torch.long), MULTIPLIERS, SIZES, orders=ORDERS, pad_id=-1)


def test_no_row_depends_on_a_later_token():
    torch.manual_seed(0)
    ids = torch.randint(0, 100, (1, 9))
    changed = ids.clone()
    changed[:, 5:] += 1
    assert torch.equal(rows_of(ids)[:, :5], rows_of(changed)[:, :5])
    assert not torch.equal(rows_of(ids)[:, 5], rows_of(changed)[:, 5])


def test_every_head_stays_in_its_part_of_the_table():
    torch.manual_seed(0)
    rows = rows_of(torch.randint(0, 10**6, (1, 500))).flatten(0, 1).flatten(1)
    ends = SIZES.flatten().cumsum(0)
    assert (rows >= ends - SIZES.flatten()).all()
    assert (rows < ends).all()
    assert rows.unique().numel() == SIZES.sum()


def test_only_rows_that_were_read_get_a_gradient():
    torch.manual_seed(0)
    ids, table = torch.randint(0, 100, (1, 5)), torch.randn(60, 4, requires_grad=True)
    gathered(ids, table, None, None, "reference").sum().backward()
    read = rows_of(ids).flatten()
    assert table.grad is not None
    assert torch.equal(table.grad[:, 0], torch.bincount(read, minlength=60).float())


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("domains", [True, False])
def test_the_kernel_equals_the_reference(packed, domains):
    torch.manual_seed(0)
    ids = torch.randint(0, 2**40, (2, 21))
    table = torch.randn(120 if domains else 60, 12)
    document_ids = torch.tensor([[0] * 3 + [1] * 18, [0] * 21]) if packed else None
    domain = torch.randint(0, 2, (2, 21)) if domains else None
    assert_kernel_matches(gathered, (ids, table, document_ids, domain))


def test_the_sorted_gradient_equals_the_atomic_one():
    from rlvr_kernels.engram import triton_kernel

    torch.manual_seed(0)
    ids, table, grad = torch.randint(0, 9, (2, 21)), torch.randn(60, 12), torch.randn(2, 21, 48)
    given = [value.to(DEVICE) for value in (grad, table, ids, MULTIPLIERS, SIZES)]
    options = (list(ORDERS), PAD, None, None)
    atomic = triton_kernel._gradient(*given, *options)
    assert torch.allclose(triton_kernel._sorted_gradient(*given, *options), atomic, atol=1e-5)


def test_the_compiler_sees_one_operation():
    from rlvr_kernels.engram import triton_kernel

    ids, table = torch.randint(0, 99, (2, 5), device=DEVICE), torch.randn(60, 4, device=DEVICE, requires_grad=True)
    constants = (MULTIPLIERS.to(DEVICE), SIZES.to(DEVICE))
    torch.library.opcheck(
        triton_kernel._lookup, (table, ids, *constants, list(ORDERS), PAD, None, None), test_utils=CHECKS
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_the_kernel_equals_the_reference_on_a_gpu(dtype, tolerance):
    torch.manual_seed(0)
    ids, table = torch.randint(0, 2**40, (4, 2048)), torch.randn(60, 64)
    assert_kernel_matches(gathered, (ids, table, None, None), tolerance, dtype)
