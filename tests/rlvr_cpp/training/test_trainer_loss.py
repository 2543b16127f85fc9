"""The update's loss and its gradient on given log-probabilities: those of a row stand in a table."""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_cpp.training.batches import deal, pass_rows, pass_width, without_fillers
from rlvr_cpp.training.config import GRPOConfig, GSPOConfig, GuardSettings
from rlvr_cpp.training.groups import group_advantages, live_rows
from rlvr_cpp.training.objective import Window, window_of
from rlvr_cpp.training.update_phase import UpdatePhase

DATA = Path(__file__).parents[2] / "data"
VECTORS = json.loads((DATA / "policy_losses.json").read_text())
GOLDEN = json.loads((DATA / "golden_losses_trl_1_16_0.json").read_text())
INPUTS = VECTORS["inputs"]
FGO = VECTORS["fgo"]
REL = {torch.float64: 1e-12, torch.float32: 1e-5}


def tensor(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def accelerator(processes):
    """One of `processes` whose sums and maxima over all of them are its own."""
    return SimpleNamespace(num_processes=processes, gather=lambda x: x, reduce=lambda x, reduction: x)


def policy_term(algorithm, new, passes, processes):
    """trl's loss of log-probabilities `new`, as a trainer with our words in trl's has it."""
    high = algorithm.clip_eps if algorithm.clip_eps_high is None else algorithm.clip_eps_high
    trainer = SimpleNamespace(
        args=SimpleNamespace(
            delta=None, steps_per_generation=passes * algorithm.num_minibatches,
            sapo_temperature_neg=1.05, sapo_temperature_pos=1.0,
            vespo_k_pos=2.0, vespo_lambda_pos=3.0, vespo_k_neg=3.0, vespo_lambda_neg=2.0,
        ),
        loss_type=algorithm.loss_type, epsilon_low=algorithm.clip_eps, epsilon_high=high, beta=0.0,
        max_completion_length=algorithm.max_gen_len, current_gradient_accumulation_steps=passes,
        accelerator=accelerator(processes), model=SimpleNamespace(training=True), _metrics={"train": defaultdict(list)},
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False, aux_loss_enabled=False,
        _entropy_bonus_enabled=False, get_gamma_weights=trl.GRPOTrainer.get_gamma_weights,
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, torch.zeros_like(new), None),
    )  # fmt: skip

    def term(inputs, level):
        trainer.importance_sampling_level = level
        return trl.GRPOTrainer._compute_loss(trainer, None, inputs)

    return term


def rows_of(new, old, ref, mask, advantages, loss_mask=None, ratio_mask=None):
    """A batch as the trainer has it before it is dealt out."""
    count, width = mask.shape
    batch = {
        "prompt_ids": torch.arange(count)[:, None],
        "prompt_mask": torch.ones(count, 1, dtype=torch.long),
        "completion_ids": torch.zeros(count, width, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
        "loss_mask": torch.ones_like(mask.long()) if loss_mask is None else loss_mask.long(),
    }
    if ratio_mask is not None:
        batch["ratio_mask"] = ratio_mask.long()
    return batch


def loss_and_gradient(algorithm, batch, new, update=None, passes=1, processes=1):
    """The sum over all passes of all processes, as the optimizer steps see it, and its gradient in `new`.

    `processes` share the rows in turn; the mean over their gradients is taken as data-parallel training does.
    """
    table = new.clone().requires_grad_()
    update = torch.zeros(len(new), dtype=torch.long) if update is None else update
    updates = algorithm.num_minibatches
    windows = [Window(*window_of(batch, update, step).tolist()) for step in range(updates)]
    shares = [torch.where(torch.arange(len(new)) % processes == p, update, -1) for p in range(processes)]
    width = max(pass_width(share, updates, passes) for share in shares)
    total: Any = 0.0
    for share in shares:
        phase = UpdatePhase(algorithm, GuardSettings(), accelerator(processes), new.dtype)
        dealt = deal(share, batch["completion_mask"].sum(dim=1), updates, passes, width)
        for number, one in enumerate(zip(dealt.rows, dealt.counts, strict=True)):
            chosen = without_fillers(*one) if processes == 1 else one
            part = {**pass_rows(batch, *chosen), "window": windows[number // passes]}
            scored = table[part["prompt_ids"][:, 0]][:, : part["completion_ids"].shape[1]]
            term = policy_term(algorithm, scored, passes, processes)
            total = total + phase.loss(part, scored, term, passes=passes) / processes
    total.backward()
    return total.item(), table.grad


def config(**changes):
    return GRPOConfig(**{"group_size": 4, "max_gen_len": 7, "num_minibatches": 1, "kl_coeff": 0.0, **changes})


SEQUENCE = {"ratio": "sequence"}
LUSPO = {**SEQUENCE, "loss_type": "luspo"}
CASES = {
    "grpo": config(kl_coeff=0.1),
    "grpo_nokl": config(),
    "gspo": config(**SEQUENCE, kl_coeff=0.1),
    "gspo_paper_clip": config(**SEQUENCE, clip_eps=3e-4, clip_eps_high=4e-4),
    "gspo_token_equal_adv": config(**SEQUENCE, kl_coeff=0.1),
    "luspo": config(**LUSPO, kl_coeff=0.1),
    "luspo_paper_clip": config(**LUSPO, clip_eps=2e-3, clip_eps_high=2.5e-3),
    "luspo_norm_maxlen": config(**LUSPO, kl_coeff=0.1, luspo_norm="max_len"),
    "dapo": config(loss_type="dapo", clip_eps_high=0.28),
    "dr_grpo": config(loss_type="dr_grpo"),
}


def vector_batch(vector, dtype=torch.float64, advantages=None, **masks):
    new, old, ref = (tensor(INPUTS[name], dtype) for name in ("logp_new", "logp_old", "logp_ref"))
    adv = tensor(vector["adv"] if advantages is None else advantages, dtype)
    return new, rows_of(new, old, ref, tensor(INPUTS["mask"]), adv, **masks)


@pytest.mark.parametrize("dtype", REL)
@pytest.mark.parametrize("name", CASES)
def test_vectors_of_loss_and_gradient(name, dtype):
    new, batch = vector_batch(VECTORS[name], dtype)
    loss, gradient = loss_and_gradient(CASES[name], batch, new)
    assert loss == pytest.approx(VECTORS[name]["loss"], abs=REL[dtype])
    assert torch.allclose(gradient, tensor(VECTORS[name]["grad"], dtype), atol=REL[dtype])


@pytest.mark.parametrize("name", ["grpo", "gspo", "luspo", "dr_grpo_with_std", "luspo_over_maxlen"])
def test_vectors_of_the_on_policy_identities(name):
    settings_of = {
        "grpo": config(), "gspo": config(**SEQUENCE), "luspo": config(**LUSPO),
        "dr_grpo_with_std": config(loss_type="dr_grpo"), "luspo_over_maxlen": config(**LUSPO, luspo_norm="max_len"),
    }  # fmt: skip
    old = tensor(INPUTS["logp_old"])
    batch = rows_of(old, old, old, tensor(INPUTS["mask"]), tensor(VECTORS["grpo"]["adv"]))
    _, gradient = loss_and_gradient(settings_of[name], batch, old)
    assert torch.allclose(gradient, tensor(VECTORS["on_policy_identities"][name]["grad"]), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("B_ratio_and_loss", config(**SEQUENCE)),
        ("B_with_full_KL", config(**SEQUENCE, kl_coeff=0.1)),
        ("B_luspo_full_KL", config(**LUSPO, kl_coeff=0.1)),
        ("C_full_ratio_token_form", config(**SEQUENCE)),
    ],
)
def test_vectors_of_fgo(name, algorithm):
    mask = tensor(FGO["fgo_mask"])
    ratio_mask = torch.ones_like(mask) if name.startswith("C") else mask
    new, batch = vector_batch(FGO, loss_mask=mask, ratio_mask=ratio_mask)
    loss, gradient = loss_and_gradient(algorithm, batch, new)
    assert loss == pytest.approx(FGO[name]["loss"], abs=1e-12)
    assert torch.allclose(gradient, tensor(FGO[name]["grad"]), atol=1e-12)


@pytest.mark.parametrize("form", ["compile_error", "coverage"])
def test_fgo_is_no_silent_no_op_under_a_sequence_ratio(form):
    mask = tensor(FGO["fgo_mask"])
    new, batch = vector_batch(FGO, loss_mask=mask, ratio_mask=mask if form == "compile_error" else mask**0)
    _, gradient = loss_and_gradient(config(**SEQUENCE), batch, new)
    assert not torch.allclose(gradient, tensor(FGO["A_noop"]["grad"]), atol=1e-3)
    assert not gradient[mask == 0].any()


def test_vector_of_discarding_a_group():
    vector = VECTORS["dapo_discard"]
    new, batch = vector_batch(vector)
    update = live_rows(tensor(vector["rewards"]), 4).update_of_rows(4, 1)
    for name, algorithm in (("discarded", config(loss_type="dapo", clip_eps_high=0.28, kl_coeff=0.1)),
                            ("nokl_discarded", config(loss_type="dapo", clip_eps_high=0.28))):  # fmt: skip
        loss, gradient = loss_and_gradient(algorithm, batch, new, update)
        assert loss == pytest.approx(vector[name]["loss"], abs=1e-12)
        assert torch.allclose(gradient[:4], tensor(vector[name]["grad"]), atol=1e-12)
        assert not gradient[4:].any()


def test_vector_of_accumulation_has_one_denominator_for_a_step():
    vector = VECTORS["dapo_accumulation"]
    new, batch = vector_batch(VECTORS["dapo"])
    loss, gradient = loss_and_gradient(CASES["dapo"], batch, new, passes=2)
    assert loss == pytest.approx(vector["right_global"], abs=1e-12)
    assert torch.allclose(gradient, tensor(vector["right_grad"]), atol=1e-12)
    assert loss != pytest.approx(vector["wrong_mean_of_means"], abs=1e-3)


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=lambda c: f"{c['loss_type']}-{c['level']}-{c['beta']}-{c['use_bias_correction_kl']}"
)
def test_golden_losses_of_trl_through_our_names(case):
    algorithm = config(
        ratio=case["level"], loss_type=case["loss_type"], kl_coeff=case["beta"],
        kl_estimator="k3_is" if case["use_bias_correction_kl"] else "k3",
        clip_eps=GOLDEN["epsilon"], clip_eps_high=GOLDEN["epsilon_high"], max_gen_len=GOLDEN["max_completion_length"],
    )  # fmt: skip
    new = tensor(GOLDEN["logps"])
    batch = rows_of(
        new, tensor(GOLDEN["old_logps"]), tensor(GOLDEN["ref_logps"]), tensor(GOLDEN["mask"]),
        tensor(GOLDEN["advantages"]),
    )  # fmt: skip
    loss, gradient = loss_and_gradient(algorithm, batch, new)
    assert loss == pytest.approx(case["loss"], abs=1e-12)
    assert torch.allclose(gradient, tensor(case["grad"]), atol=1e-12)


ALGORITHMS = {
    "grpo": config(kl_coeff=0.1),
    "gspo": GSPOConfig(group_size=4, max_gen_len=7, num_minibatches=1, kl_coeff=0.1),
    "luspo": config(**LUSPO, kl_coeff=0.1),
    "dapo": config(loss_type="dapo", kl_coeff=0.1),
    "dr_grpo": config(loss_type="dr_grpo", kl_coeff=0.1),
}
algorithms = st.sampled_from(list(ALGORITHMS))


@st.composite
def batches(draw, rows=8, width=6):
    """Random log-probabilities, lengths, masks and rewards of two groups, one of them now and then tied."""
    seed = draw(st.integers(0, 2**31))
    stream = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, width, generator=stream, dtype=torch.float64) * 3
    new, ref = (old + 0.3 * torch.randn(rows, width, generator=stream, dtype=torch.float64) for _ in range(2))
    lengths = torch.randint(1, width + 1, (rows,), generator=stream)
    mask = (torch.arange(width) < lengths[:, None]).double()
    loss_mask = (torch.rand(rows, width, generator=stream) < 0.8).double()
    loss_mask[:, 0] = 1
    rewards = torch.tensor([draw(st.sampled_from([0.0, 0.3, 0.65, 1.0])) for _ in range(rows)], dtype=torch.float64)
    return new, old, ref, mask, loss_mask, rewards


def dealt(parts, algorithm):
    new, old, ref, mask, loss_mask, rewards = parts
    batch = rows_of(new, old, ref, mask, group_advantages(rewards, 4), loss_mask, loss_mask)
    return new, batch, live_rows(rewards, 4).update_of_rows(4, algorithm.num_minibatches)


def same(first, second):
    assert first[0] == pytest.approx(second[0], abs=1e-11)
    assert torch.allclose(first[1], second[1], atol=1e-11)


@settings(deadline=None, max_examples=30)
@given(batches(), algorithms, st.integers(1, 5), st.integers(1, 3))
def test_how_a_step_is_cut_into_passes_and_processes_does_not_matter(parts, name, passes, processes):
    new, batch, update = dealt(parts, ALGORITHMS[name])
    whole = loss_and_gradient(ALGORITHMS[name], batch, new, update)
    same(loss_and_gradient(ALGORITHMS[name], batch, new, update, passes, processes), whole)


@settings(deadline=None, max_examples=30)
@given(batches(), algorithms, st.integers(1, 4))
def test_padding_does_not_matter(parts, name, columns):
    new, batch, update = dealt(parts, ALGORITHMS[name])
    wide = tuple(torch.nn.functional.pad(x, (0, columns), value=-1.0) for x in parts[:3])
    masks = tuple(torch.nn.functional.pad(x, (0, columns)) for x in parts[3:5])
    new_wide, batch_wide, _ = dealt((*wide, *masks, parts[5]), ALGORITHMS[name])
    loss, gradient = loss_and_gradient(ALGORITHMS[name], batch_wide, new_wide, update)
    same((loss, gradient[:, : new.shape[1]]), loss_and_gradient(ALGORITHMS[name], batch, new, update))
    assert not gradient[:, new.shape[1] :].any()


@settings(deadline=None, max_examples=30)
@given(batches(), algorithms, st.permutations(range(2)), st.permutations(range(4)))
def test_the_order_of_groups_and_members_does_not_matter(parts, name, groups, members):
    order = torch.tensor([4 * g + m for g in groups for m in members])
    new, batch, update = dealt(parts, ALGORITHMS[name])
    loss, gradient = loss_and_gradient(ALGORITHMS[name], batch, new, update)
    moved = dealt(tuple(x[order] for x in parts), ALGORITHMS[name])
    other = loss_and_gradient(ALGORITHMS[name], moved[1], moved[0], moved[2])
    same((loss, gradient[order]), other)


@settings(deadline=None, max_examples=30)
@given(batches(), batches(), algorithms)
def test_dead_rows_behind_the_others_do_not_matter(parts, others, name):
    new, batch, update = dealt(parts, ALGORITHMS[name])
    tied = (*others[:5], torch.full_like(others[5], 0.3))
    longer = tuple(torch.cat(pair) for pair in zip(parts, tied, strict=True))
    new_longer, batch_longer, update_longer = dealt(longer, ALGORITHMS[name])
    loss, gradient = loss_and_gradient(ALGORITHMS[name], batch_longer, new_longer, update_longer)
    same((loss, gradient[: len(new)]), loss_and_gradient(ALGORITHMS[name], batch, new, update))
    assert not gradient[len(new) :].any()


@settings(deadline=None, max_examples=30)
@given(batches(), algorithms)
def test_an_fgo_mask_of_ones_is_no_mask(parts, name):
    new, old, ref, mask, _, rewards = parts
    advantages, update = group_advantages(rewards, 4), live_rows(rewards, 4).update_of_rows(4, 1)
    ones = torch.ones_like(mask)
    masked = rows_of(new, old, ref, mask, advantages, ones, ones)
    plain = rows_of(new, old, ref, mask, advantages)
    algorithm = ALGORITHMS[name]
    same(loss_and_gradient(algorithm, masked, new, update), loss_and_gradient(algorithm, plain, new, update))


@settings(deadline=None, max_examples=30)
@given(batches())
def test_luspo_of_equal_lengths_is_gspo_times_the_length(parts):
    new, old, ref, mask, _, rewards = parts
    batch = rows_of(new, old, ref, torch.ones_like(mask), group_advantages(rewards, 4))
    update = live_rows(rewards, 4).update_of_rows(4, 1)
    gspo = loss_and_gradient(ALGORITHMS["gspo"], batch, new, update)
    luspo = loss_and_gradient(ALGORITHMS["luspo"], batch, new, update)
    same((6 * gspo[0], 6 * gspo[1]), luspo)


@settings(deadline=None, max_examples=30)
@given(batches())
def test_gspo_of_single_tokens_is_grpo(parts):
    new, old, ref, mask, _, rewards = parts
    single = torch.zeros_like(mask)
    single[:, 0] = 1
    batch = rows_of(new, old, ref, single, group_advantages(rewards, 4))
    update = live_rows(rewards, 4).update_of_rows(4, 1)
    same(*(loss_and_gradient(ALGORITHMS[name], batch, new, update) for name in ("gspo", "grpo")))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_without_a_live_row_has_no_loss_and_no_gradient(name):
    new, batch = vector_batch(VECTORS["gspo"])
    loss, gradient = loss_and_gradient(ALGORITHMS[name], batch, new, torch.full((8,), -1))
    assert loss == 0.0
    assert not gradient.any()


@pytest.mark.parametrize("live", [0, 4])
def test_a_backward_pass_that_also_updates_is_left_out_where_no_row_is_live(live):
    """DeepSpeed's does both, and says itself whether it stepped, which the schedule asks."""
    algorithm, taken = config(), []
    processes = accelerator(1)
    processes.sync_gradients = True
    phase = UpdatePhase(algorithm, GuardSettings(), processes, torch.float32)
    new = torch.zeros(4, 2)
    batch = rows_of(new, new, new, torch.ones(4, 2), torch.zeros(4))
    part = {**batch, "window": Window(live, 2 * live, 2 * live), "live": torch.zeros(4, dtype=torch.long)}
    loss = phase.loss(part, new, lambda *_: new.sum(), passes=1)
    phase.unless_empty(lambda loss, **options: taken.append(options))(loss, scale_wrt_gas=False)
    assert taken == [{"scale_wrt_gas": False}] * (live > 0)
    optimizer = SimpleNamespace(optimizer=SimpleNamespace(overflow=False))
    phase.leave_out_empty(optimizer, [])
    assert optimizer._is_overflow == optimizer.optimizer.overflow == (live == 0)
