"""Multi-token prediction: what a depth may see, its loss on packed and padded rows, and drafts that change no token."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from rlvr_model import multi_token
from rlvr_model.configuration import HybridConfig
from rlvr_model.modeling import HybridForCausalLM
from rlvr_model.multi_token import generate_speculatively, labels_ahead

VOCABULARY, WIDTH, LENGTH = 13, 16, 9
MODELS = {
    "windows": {"block_pattern": "A", "window_pattern": "SL", "sliding_window": 4},
    "mamba": {"block_pattern": "MA", "mamba_is_mimo": True},
    "all": {
        "block_pattern": "AMER", "num_hidden_layers": 8, "intermediate_size": 0, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16, "dsa_enabled": True, "dsa_start_layer": 3,
        "engram_enabled": True, "mhc_enabled": True, "residual_scalars": False,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def config(**settings):
    sizes = {
        "num_hidden_layers": 2, "intermediate_size": 24, "mamba_d_state": 8, "mamba_headdim": 8,
        "engram_ngram_orders": "2,3", "engram_heads": 2, "engram_width": 8, "engram_table_size": 31,
        "dsa_local_window": 2, "dsa_indexer_heads": 2, "dsa_indexer_dim": 4, "dsa_indexer_rope_dim": 4,
        "recurrent_num_heads": 2, "recurrent_key_dim": 4, "recurrent_value_dim": 4,
    }  # fmt: skip
    return HybridConfig(
        hidden_size=WIDTH, num_attention_heads=2, num_key_value_heads=1, head_dim=8, vocab_size=VOCABULARY,
        window_pattern=settings.pop("window_pattern", "L"), mtp_enabled=True, initializer_range=0.3, tie_word_embeddings=False,
        **(sizes | settings),
    )  # fmt: skip


def language_model(**settings):
    """A model in evaluation, whose weights are all off their start, with a drafting head."""
    made = HybridForCausalLM(config(**settings)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def prompts(batch=2):
    return torch.randint(VOCABULARY, (batch, LENGTH))


@torch.no_grad()
def greedy(model, ids, mask, steps, eos=None, pad=0):
    """One token after the other, without a cache."""
    done = torch.zeros(len(ids), dtype=torch.bool)
    mask = torch.ones_like(ids) if mask is None else mask.long()
    for _ in range(steps):
        token = model(ids, attention_mask=mask, use_cache=False).logits[:, -1].argmax(-1).masked_fill(done, pad)
        done |= token == eos
        ids, mask = torch.cat([ids, token[:, None]], 1), functional.pad(mask, (0, 1), value=1)
        if done.all():
            break
    return ids


def foresee(monkeypatch, future, spoil):
    """Let drafts come from the known future, plus what `spoil` says of the draft's number."""
    numbers = iter(range(10**6))

    def guess(decoder, hidden_states, following):
        known = decoder.cache.get_seq_length() + decoder.pending.shape[1]
        return (future[:, known : known + 1] + spoil(next(numbers))) % VOCABULARY

    monkeypatch.setattr(multi_token._Decoder, "_guess", guess)


@pytest.mark.parametrize("name", MODELS)
def test_speculation_writes_the_greedy_tokens(name, monkeypatch):
    model, ids = language_model(**MODELS[name]), prompts()
    mask = torch.arange(LENGTH) >= torch.tensor([[3], [0]])
    future = greedy(model, ids, mask, 20)
    assert len(future[:, LENGTH:].unique()) > 1
    guessed = generate_speculatively(model, ids, mask, max_new_tokens=10)
    assert torch.equal(guessed.sequences, future[:, : LENGTH + 10])
    foresee(monkeypatch, future, lambda number: torch.tensor([[number % 3 == 1], [number % 4 == 1]]))
    written = generate_speculatively(model, ids, mask, max_new_tokens=18)
    assert torch.equal(written.sequences, future[:, : LENGTH + 18])
    assert 0 < written.accepted < written.drafted < 18


@pytest.mark.parametrize(
    ("spoil", "passes", "drafted", "accepted"),
    [(lambda number: 0, 13, 12, 12), (lambda number: 1, 25, 16, 0), (lambda number: number % 2, 17, 16, 8)],
    ids=["right", "wrong", "mixed"],
)
def test_a_right_draft_saves_a_pass_and_a_wrong_one_costs_none(spoil, passes, drafted, accepted, monkeypatch):
    monkeypatch.setattr(multi_token, "MOST_PENDING", 3)
    model, ids, read = language_model(**MODELS["mamba"]), prompts(1), []
    foresee(monkeypatch, greedy(model, ids, None, 26), spoil)
    original = multi_token._Decoder._read
    monkeypatch.setattr(multi_token._Decoder, "_read", lambda *given: read.append(given) or original(*given))
    written = generate_speculatively(model, ids, max_new_tokens=25)
    assert torch.equal(written.sequences, greedy(model, ids, None, 25))
    assert (len(read), written.drafted, written.accepted) == (passes, drafted, accepted)


def test_the_head_drafts_with_its_cache_what_it_would_draft_on_the_whole_row(monkeypatch):
    model, ids, drafts = language_model(**MODELS["mamba"]), prompts(1), []
    original = multi_token._Decoder._guess

    def recorded(decoder, hidden_states, following):
        drafts.append(original(decoder, hidden_states, following))
        return drafts[-1]

    monkeypatch.setattr(multi_token._Decoder, "_guess", recorded)
    written = generate_speculatively(model, ids, max_new_tokens=12)
    with torch.no_grad():
        hidden = model.model(written.sequences, use_cache=False).last_hidden_state
        states = next(model.mtp(hidden, written.sequences, context_of(model, hidden), model.model.embed_tokens))
        whole = model.logits(states).argmax(-1)[0]
    lengths, position = [], LENGTH - 1
    for draft in drafts:
        assert draft.item() == whole[position]
        lengths.append(position)
        if position + 2 >= written.sequences.shape[1]:
            break
        position += 2 if draft.item() == written.sequences[0, position + 2] else 1
    assert len(lengths) > 5


def context_of(model, hidden, mask=None, documents=None):
    return model.model.context(hidden, mask, None, documents, None)


def test_rows_end_where_greedy_rows_end():
    model, ids = language_model(**MODELS["mamba"]), prompts(3)
    for eos in greedy(model, ids, None, 12)[:, LENGTH:].unique().tolist()[:4]:
        expected = greedy(model, ids, None, 12, eos, pad=2)
        written = generate_speculatively(model, ids, max_new_tokens=12, eos_ids=[eos], pad_id=2).sequences
        length = expected.shape[1]
        assert torch.equal(written[:, :length], expected)
        assert (written[:, length:] == 2).all()


def test_a_depth_sees_the_tokens_before_its_target_and_no_more():
    model, ids = language_model(mtp_depth=2), prompts(1)
    hidden, other = torch.randn(1, LENGTH, WIDTH), (ids + 1) % VOCABULARY
    context, embed = context_of(model, hidden), model.model.embed_tokens
    for depth, states in enumerate(model.mtp(hidden, ids, context, embed), start=1):
        for t in range(LENGTH - depth - 1):
            seen = torch.arange(LENGTH) <= t + depth
            changed = list(model.mtp(hidden, torch.where(seen, ids, other), context, embed))[depth - 1]
            assert torch.equal(changed[:, : t + 1], states[:, : t + 1])
            seen[t + depth] = False
            changed = list(model.mtp(hidden, torch.where(seen, ids, other), context, embed))[depth - 1]
            assert not torch.equal(changed[:, t], states[:, t])


def mean_loss(model):
    def next_token_loss(states, labels):
        logits = model.logits(states[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())

    return next_token_loss


def test_the_loss_of_packed_and_padded_rows_is_that_of_their_documents():
    model = language_model(mtp_depth=2, mtp_lambda=0.3)
    ids, hidden, embed = prompts(1), torch.randn(1, LENGTH, WIDTH), model.model.embed_tokens
    labels = ids.clone()
    labels[0, 7] = -100
    for documents, mask, cuts in (
        (torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1]]), None, [(0, 4), (4, 9)]),
        (None, torch.arange(LENGTH)[None] >= 3, [(3, 9)]),
        (None, None, [(0, 9)]),
    ):
        sums = []
        for depth in (1, 2):
            losses = []
            for start, end in cuts:
                alone, own = hidden[:, start:end], ids[:, start:end]
                states = list(model.mtp(alone, own, context_of(model, alone), embed))[depth - 1]
                for t in range(end - start - depth - 1):
                    label = labels[0, start + t + depth + 1]
                    if label != -100:
                        losses.append(functional.cross_entropy(model.logits(states[0, t]), label))
            sums.append(torch.stack(losses).mean())
        context = context_of(model, hidden, mask, documents)
        real = labels if mask is None else labels.masked_fill(~mask, -100)
        loss = model.mtp.loss(hidden, ids, real, context, embed, mean_loss(model))
        torch.testing.assert_close(loss, 0.15 * (sums[0] + sums[1]), rtol=0, atol=1e-10)


def test_labels_ahead_stay_in_their_document():
    labels = torch.arange(8)[None]
    packed: Any = SimpleNamespace(document_ids=torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]]), key_mask=None)
    plain: Any = SimpleNamespace(document_ids=None, key_mask=None)
    assert labels_ahead(labels, 1, plain)[0, 1:].tolist() == [2, 3, 4, 5, 6, 7, -100]
    assert labels_ahead(labels, 1, packed)[0, 1:].tolist() == [2, -100, -100, 5, 6, 7, -100]
    assert labels_ahead(labels, 2, packed)[0, 1:].tolist() == [-100, -100, -100, 6, 7, -100, -100]


def test_rows_too_short_to_look_ahead_cost_nothing():
    model = language_model(mtp_depth=2)
    ids, hidden = prompts(1)[:, :2], torch.randn(1, 2, WIDTH)
    loss = model.mtp.loss(hidden, ids, ids, context_of(model, hidden), model.model.embed_tokens, mean_loss(model))
    assert loss == 0


def test_without_weight_the_loss_teaches_nothing():
    model = language_model(mtp_lambda=0.0)
    ids, hidden = prompts(1), torch.randn(1, LENGTH, WIDTH, requires_grad=True)
    loss = model.mtp.loss(hidden, ids, ids, context_of(model, hidden), model.model.embed_tokens, mean_loss(model))
    loss.backward()
    assert not hidden.grad.any()


def test_a_model_that_cannot_draft_is_refused():
    model = language_model()
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ValueError, match="flex_attention"):
        generate_speculatively(model, prompts(), max_new_tokens=1)
    model.mtp = None
    with pytest.raises(ValueError, match="mtp_enabled is false"):
        generate_speculatively(model, prompts(), max_new_tokens=1)
