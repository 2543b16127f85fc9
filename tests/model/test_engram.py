"""The Engram memory against a slow look-up, and its histories through caches, packed rows and padding."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional
from transformers import DynamicCache

from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.engram import NO_TOKEN, Engram, fold_tokens, folded_ids, table_sizes

VOCABULARY, WIDTH, BATCH, LENGTH, LAYER = 20, 8, 2, 17, 2


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def config(**settings):
    sizes = {"engram_ngram_orders": "2,3", "engram_heads": 2, "engram_width": 6, "engram_table_size": 11}
    return HybridConfig(
        hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        vocab_size=VOCABULARY, engram_enabled=True, engram_layers=[0, LAYER], **(sizes | settings),
    )  # fmt: skip


def memory(**settings):
    """A branch whose parameters are all off their start."""
    module = Engram(config(**settings), LAYER)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return module


def context(ids, *, past=0, **fields):
    places = torch.arange(past, past + ids.shape[1]).expand(len(ids), -1)
    fields = {"position_ids": places, "input_ids": ids, "past_length": past} | fields
    return LayerContext(cos=torch.empty(0), sin=torch.empty(0), **fields)


def tokens(batch=BATCH, length=LENGTH):
    return torch.randint(VOCABULARY, (batch, length)), torch.randn(batch, length, WIDTH)


def naive(module, ids, hidden_states, domain=0):
    """The branch on one document, (T,) and (T, d), with whole numbers for hashes and a loop for everything."""
    tables, values, outputs = module.tables, [], []
    sizes, multipliers = tables.sizes.tolist(), tables.multipliers.tolist()
    for t, hidden in enumerate(hidden_states):
        rows, start = [], domain * sum(map(sum, sizes))
        for order, row_of_sizes in zip(tables.orders, sizes, strict=True):
            mixed = 0
            for back in range(order):
                mixed ^= (int(ids[t - back]) if t >= back else NO_TOKEN) * multipliers[back]
            for size in row_of_sizes:
                rows.append(tables.weight[start + mixed % size])
                start += size
        read = torch.cat(rows)
        query = functional.rms_norm(hidden, (WIDTH,), module.query_norm.weight, 1e-6)
        key = functional.rms_norm(module.key_proj.weight @ read, (WIDTH,), module.key_norm.weight, 1e-6)
        score = query @ key / WIDTH**0.5
        gate = torch.sigmoid(score.sign() * score.abs().clamp(min=1e-6).sqrt())
        values.append(gate * (module.value_proj.weight @ read))
        carried = torch.zeros(WIDTH)
        for tap, weight in enumerate(module.convolution):
            place = t - (len(module.convolution) - 1 - tap) * max(tables.orders)
            if place >= 0:
                carried = carried + weight * functional.rms_norm(
                    values[place], (WIDTH,), module.value_norm.weight, 1e-6
                )
        outputs.append(values[t] + functional.silu(carried))
    return torch.stack(outputs)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "settings", [{}, {"engram_ngram_orders": "2,3,4", "engram_kernel_size": 2}, {"engram_kernel_size": 1}]
)
def test_the_branch_is_the_slow_look_up(settings):
    module, (ids, x) = memory(**settings), tokens()
    expected = torch.stack([naive(module, *row) for row in zip(ids, x, strict=True)])
    close(module(x, context(ids)), expected)
    for cuts in (range(LENGTH + 1), [0, 1, LENGTH], [0, 2, 3, 12, LENGTH], [0, LENGTH]):
        close(cached(module, ids, x, list(cuts)), expected)


@torch.no_grad()
def cached(module, ids, x, cuts, mask=None, positions=None):
    cache, parts = DynamicCache(config=config()), []
    for start, end in pairwise(cuts):
        fields = {"past_key_values": cache, "key_mask": None if mask is None else mask[:, :end]}
        if positions is not None:
            fields["position_ids"] = positions[:, start:end]
        parts.append(module(x[:, start:end], context(ids[:, start:end], past=start, **fields)))
    return torch.cat(parts, dim=1)


def test_a_document_of_a_packed_row_is_what_it_is_alone():
    module, (ids, x) = memory(), tokens(1)
    lengths = torch.tensor([1, 3, 13])
    documents = torch.arange(3).repeat_interleave(lengths)[None]
    places = torch.cat([torch.arange(int(n)) for n in lengths])[None]
    y = module(x, context(ids, document_ids=documents, position_ids=places))
    for start, end in ((0, 1), (1, 4), (4, LENGTH)):
        close(y[0, start:end], naive(module, ids[0, start:end], x[0, start:end]))


def test_padding_on_the_left_changes_nothing():
    module, (ids, x), pads = memory(), tokens(), [5, 0]
    mask = torch.arange(LENGTH) >= torch.tensor(pads)[:, None]
    places = (mask.cumsum(1) - 1).clamp(min=0)
    whole = module(x, context(ids, key_mask=mask, position_ids=places))
    by_token = cached(module, ids, x, list(range(LENGTH + 1)), mask, places)
    in_parts = cached(module, ids, x, [0, 3, 8, LENGTH], mask, places)
    shifted = module(x, context(ids, key_mask=mask, position_ids=places + 100))
    for row, pad in enumerate(pads):
        for y in (whole, by_token, in_parts, shifted):
            close(y[row, pad:], naive(module, ids[row, pad:], x[row, pad:]))


def test_nothing_is_added_at_the_start_and_everything_learns_within_three_updates():
    module, (ids, x) = Engram(config(), LAYER), tokens()
    assert not module(x, context(ids)).any()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (module(x, context(ids)) - x).square().sum().backward()
        optimizer.step()
    assert all(parameter.grad.abs().max() > 0 for parameter in module.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_the_future_is_not_seen(training):
    module, (ids, x) = memory().train(training), tokens(1)
    other, other_x = tokens(1)
    other, other_x = torch.cat([ids[:, :9], other[:, 9:]], 1), torch.cat([x[:, :9], other_x[:, 9:]], 1)
    assert torch.equal(module(x, context(ids))[:, :9], module(other_x, context(other))[:, :9])


def test_a_domain_reads_and_trains_its_own_tables():
    module, (ids, x) = memory(engram_domains=2), tokens()
    y = module(x, context(ids, domain_ids=torch.tensor([0, 1])))
    for row in (0, 1):
        close(y[row], naive(module, ids[row], x[row], domain=row))
    y[1].sum().backward()
    first, second = module.tables.weight.grad.chunk(2)
    assert not first.any()
    assert second.any()


def test_only_rows_that_were_read_have_a_gradient():
    module, (ids, x) = memory(engram_table_size=1000), tokens(1, 5)
    module(x, context(ids)).sum().backward()
    assert 0 < module.tables.weight.grad.any(dim=1).sum() <= 5 * 4


def test_tables_in_host_memory_are_the_same_and_stay_there():
    near, far = memory(), memory(engram_offload=True)
    far.load_state_dict(near.state_dict())
    ids, x = tokens()
    assert torch.equal(near(x, context(ids)), far(x, context(ids)))
    far.to("meta", torch.bfloat16)
    assert far.tables.weight.device.type == far.tables.multipliers.device.type == "cpu"
    assert far.tables.weight.dtype == torch.float64
    assert far.key_proj.weight.is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tables_in_host_memory_serve_a_gpu():
    near, far = memory().cuda(), memory(engram_offload=True).cuda()
    far.load_state_dict(near.state_dict())
    ids, x = (value.cuda() for value in tokens())
    places = torch.arange(LENGTH, device="cuda").expand(BATCH, -1)
    outputs = [module(x, context(ids, position_ids=places)) for module in (near, far)]
    close(*outputs)
    outputs[1].sum().backward()
    assert far.tables.weight.grad.device.type == "cpu"


def test_no_two_tables_of_the_model_have_one_size():
    sizes = torch.cat([table_sizes(config(), layer).flatten() for layer in (0, LAYER)]).tolist()
    assert sizes == [11, 13, 17, 19, 23, 29, 31, 37]
    first, second = Engram(config(), 0).tables, Engram(config(), LAYER).tables
    assert not torch.equal(first.multipliers, second.multipliers)
    assert not torch.equal(Engram(config(engram_seed=1), 0).tables.multipliers, first.multipliers)
    assert (first.multipliers % 2 == 1).all()
    assert all(VOCABULARY * multiplier < 2**63 for multiplier in first.multipliers.tolist())


@torch.no_grad()
def test_the_cache_follows_beams():
    module, (ids, x) = memory(), tokens()
    cache, beams = DynamicCache(config=config()), torch.tensor([1, 1])
    module(x[:, :8], context(ids[:, :8], past_key_values=cache))
    cache.layers[LAYER].reorder_cache(beams)
    rest = module(x[beams, 8:], context(ids[beams, 8:], past=8, past_key_values=cache))
    close(rest, module(x, context(ids))[beams, 8:])


def test_embeddings_without_token_ids_are_refused():
    with pytest.raises(ValueError, match="give input_ids"):
        memory()(torch.randn(1, 3, WIDTH), context(torch.zeros(1, 3, dtype=torch.long), input_ids=None))


def test_folded_tokens_read_the_same_rows():
    texts = [f"token{number}" for number in range(VOCABULARY)]
    texts[:6] = ["Vector", " vector", "ＶＥＣＴＯＲ", " ", "\n", "\ufffd"]
    assert folded_ids(texts)[:7] == [0, 0, 0, 3, 4, 5, 6]
    module, (ids, x) = memory(engram_lowercase=True), tokens()
    with pytest.raises(ValueError, match="fold_tokens"):
        module(x, context(ids))
    with pytest.raises(ValueError, match="2 entries for 20 tokens"):
        fold_tokens(module, texts[:2])
    fold_tokens(module, texts)
    plain = memory()
    plain.load_state_dict({name: value for name, value in module.state_dict().items() if "fold" not in name})
    folded = torch.where(ids < 3, 0, ids)
    assert (folded != ids).any()
    assert torch.equal(module(x, context(ids)), plain(x, context(folded)))
    other = memory(engram_lowercase=True)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x, context(ids)), module(x, context(ids)))
    with pytest.raises(ValueError, match="engram_lowercase is off"):
        fold_tokens(plain, texts)
