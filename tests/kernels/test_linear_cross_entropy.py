"""The head's loss: against cross-entropy of logits that exist, and the kernels against the reference."""

import pytest
import torch

from rlvr_kernels import linear_cross_entropy as package
from rlvr_kernels.linear_cross_entropy import chunk_rows, linear_cross_entropy

F64 = torch.float64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHECKS = ("test_schema", "test_faketensor", "test_autograd_registration")
SETTINGS = [
    {},
    {"softcap": 2.0, "z_loss": 0.1, "reduction": "sum"},
    {"softcap": 2.0, "z_loss": 0.1, "reduction": "none"},
]


def inputs(*, rows=23, width=16, vocabulary=50, dtype=F64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(rows, width, dtype=F64, generator=generator),
        torch.randn(vocabulary, width, dtype=F64, generator=generator) / width**0.5,
    )
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    targets[::5] = -100
    return hidden.to(device, dtype).requires_grad_(), weight.to(device, dtype).requires_grad_(), targets.to(device)


def naive(hidden, weight, targets, *, softcap=None, z_loss=0.0, reduction="mean"):
    logits = hidden @ weight.T
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    losses = losses + z_loss * logits.logsumexp(-1) ** 2 * (targets != -100)
    return {"mean": losses.sum() / (targets != -100).sum(), "sum": losses.sum(), "none": losses}[reduction]


@pytest.mark.parametrize("settings", SETTINGS)
def test_reference_is_the_cross_entropy_of_the_logits(settings, monkeypatch):
    monkeypatch.setattr(package, "chunk_rows", lambda *_: 7)
    x = inputs()
    torch.testing.assert_close(linear_cross_entropy(*x, **settings), naive(*x, **settings), rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradients_of_the_reference(settings):
    hidden, weight, targets = inputs(rows=4, width=3, vocabulary=5)

    def loss(hidden, weight):
        return linear_cross_entropy(hidden, weight, targets, **settings)

    assert torch.autograd.gradcheck(loss, (hidden, weight))


def test_a_loss_of_single_tokens_has_the_targets_shape_and_is_minus_the_log_probability():
    hidden, weight, targets = inputs(rows=24)
    losses = linear_cross_entropy(hidden.view(2, 12, 16), weight, targets.view(2, 12), reduction="none")
    logps = (hidden @ weight.T).log_softmax(-1).gather(-1, targets.clamp(min=0)[:, None])[:, 0]
    torch.testing.assert_close(losses, torch.where(targets != -100, -logps, 0.0).view(2, 12), rtol=0, atol=1e-12)


def test_a_chunk_of_logits_takes_about_the_memory_of_the_hidden_states():
    assert chunk_rows(32768, 131072, 2048) == 512
    assert chunk_rows(100, 64, 64) == 100
    assert chunk_rows(3, 131072, 16) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"reduction": "avg"}, "reduction is 'avg'"), ({"softcap": 0.0}, "softcap is 0.0")],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(*inputs(), **settings)
    with pytest.raises(ValueError, match="do not belong together"):
        linear_cross_entropy(inputs()[0][:5], *inputs()[1:])


# --- kernels ---


def check(given, expected, atol):
    """Within `atol` by norm, and each element within five times that of the largest.

    A logit rounded to bfloat16 is off by up to 2^-9 of itself, which a softmax turns into a relative error of that size
    times the logit: 0.2 % to 0.5 % of a gradient by norm where logits are near 1 (1.5 % near 16), several times as much
    in a few elements out of millions, whose rows hold the largest logits. Elementwise bounds alone say little of that.
    """
    given = given.double()
    assert (given - expected).norm() <= atol * expected.norm()
    torch.testing.assert_close(given, expected, rtol=0, atol=5 * atol * expected.abs().max().item())


def compare(settings, *, dtype, device, atol, **shape):
    hidden, weight, targets = inputs(dtype=dtype, device=device, **shape)
    results = []
    for backend in ("reference", "triton"):
        kind = F64 if backend == "reference" else dtype
        x = [y.detach().to(kind).requires_grad_() for y in (hidden, weight)]
        loss = linear_cross_entropy(*x, targets, backend=backend, **settings)
        upstream = torch.linspace(0.5, 2.0, loss.numel(), device=device, dtype=loss.dtype).view(loss.shape)
        results.append((loss, *torch.autograd.grad(loss, x, upstream)))
    for reference, kernel in zip(*results, strict=True):
        check(kernel, reference, atol)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize("settings", SETTINGS)
def test_kernel_is_the_reference(settings, monkeypatch):
    from rlvr_kernels.linear_cross_entropy import triton_kernel

    monkeypatch.setattr(package, "chunk_rows", lambda *_: 5)
    monkeypatch.setattr(triton_kernel, "COLUMNS", 32)
    compare(settings, dtype=torch.float32, device="cpu", atol=1e-5, rows=12)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_kernel_without_gradients_and_without_a_counted_target():
    hidden, weight, targets = (x.detach() for x in inputs(dtype=torch.float32))
    both = [linear_cross_entropy(hidden, weight, targets, backend=b) for b in ("reference", "triton")]
    torch.testing.assert_close(*both)
    assert linear_cross_entropy(hidden, weight, targets.fill_(-100), backend="triton").isnan()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_frozen_head_costs_no_gradient_of_its_own(settings, monkeypatch):
    from rlvr_kernels.linear_cross_entropy import triton_kernel

    hidden, weight, targets = inputs(dtype=torch.float32)
    loss = linear_cross_entropy(hidden, weight, targets, backend="triton", **settings).sum()
    (trained,) = torch.autograd.grad(loss, hidden)
    monkeypatch.setattr(triton_kernel, "_add_product", None)  # what would make one
    loss = linear_cross_entropy(hidden, weight.detach(), targets, backend="triton", **settings).sum()
    assert torch.equal(*torch.autograd.grad(loss, hidden), trained)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)])
def test_hidden_states_and_head_may_differ_in_precision(dtypes):
    hidden, weight, targets = inputs()
    given = [x.detach().to(dtype).requires_grad_() for x, dtype in zip((hidden, weight), dtypes, strict=True)]
    exact = [x.detach().double().requires_grad_() for x in given]
    found = torch.autograd.grad(linear_cross_entropy(*given, targets, backend="triton"), given)
    for gradient, expected, x in zip(
        found, torch.autograd.grad(linear_cross_entropy(*exact, targets), exact), given, strict=True
    ):
        assert gradient.dtype == x.dtype
        check(gradient, expected, 1e-2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_in_half_precision_a_gradient_waits_for_the_loss_scale():
    _, weight, targets = inputs(rows=64, vocabulary=600)
    targets, weight = targets.clamp(min=0) % 10, weight.detach() * (torch.arange(600) < 10)[:, None]
    sure = 13 * torch.nn.functional.normalize(weight[targets], dim=1) / weight[targets].norm(dim=1, keepdim=True)
    half = [x.half().requires_grad_() for x in (sure, weight)]
    exact = [x.detach().double().requires_grad_() for x in half]
    found = torch.autograd.grad(65536 * linear_cross_entropy(*half, targets, backend="triton"), half)
    expected = torch.autograd.grad(65536 * linear_cross_entropy(*exact, targets), exact)
    for gradient, wanted in ((found[0], expected[0]), (found[1][10:], expected[1][10:])):
        check(gradient, wanted, 1e-2)


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_no_token_has_no_loss(backend):
    hidden, weight, targets = inputs(dtype=torch.float32)
    assert linear_cross_entropy(hidden[:0], weight, targets[:0], reduction="sum", backend=backend) == 0
    assert linear_cross_entropy(hidden[:0], weight, targets[:0], reduction="none", backend=backend).shape == (0,)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize("beyond", [-1, 50])
def test_a_target_beyond_the_vocabulary_makes_the_loss_nan(beyond):
    hidden, weight, targets = inputs(dtype=torch.float32)
    targets[1] = beyond
    losses = linear_cross_entropy(hidden, weight, targets, reduction="none", backend="triton")
    assert losses.isnan().nonzero().tolist() == [[1]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_gradients_scaled_in_place_are_not_given_twice():
    hidden, weight, targets = inputs(dtype=torch.float32)
    loss = linear_cross_entropy(hidden, weight, targets, backend="triton")
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="gives its gradients once"):
        loss.backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_is_the_gradients_and_one_chunk_of_logits():
    rows, width, vocabulary = 8192, 512, 32768
    x = inputs(rows=rows, width=width, vocabulary=vocabulary, dtype=torch.bfloat16, device="cuda")
    torch.autograd.grad(linear_cross_entropy(*x), x[:2])
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    torch.autograd.grad(linear_cross_entropy(*x), x[:2])
    chunk = chunk_rows(rows, vocabulary, width) * vocabulary
    needed = 2 * (x[0].numel() + x[1].numel() + chunk)
    assert torch.cuda.max_memory_allocated() - before < 1.02 * needed


def test_the_compiler_sees_one_operation():
    from rlvr_kernels.linear_cross_entropy.triton_kernel import _losses, _summed

    x = inputs(rows=4, vocabulary=16, dtype=torch.float32, device=DEVICE)
    torch.library.opcheck(_losses, (*x, 2.0, 0.0, -100, 4), test_utils=CHECKS)
    torch.library.opcheck(_summed, (*x, 2.0, 0.0, -100, 4, True, True), test_utils=CHECKS)
    frozen = (x[0], x[1].detach(), x[2])
    torch.library.opcheck(_losses, (*frozen, 2.0, 0.0, -100, 4), test_utils=CHECKS)
    torch.library.opcheck(_summed, (*frozen, 2.0, 0.0, -100, 4, True, False), test_utils=CHECKS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 1e-2), (torch.float32, 1e-3)])
def test_kernel_is_the_reference_on_a_gpu(settings, dtype, atol):
    compare(settings, dtype=dtype, device="cuda", atol=atol, rows=1000, width=256, vocabulary=10_007)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_float32_weight_under_bfloat16_hidden_states_gets_a_float32_sum():
    hidden, weight, targets = inputs(rows=1000, width=256, vocabulary=10_007, dtype=torch.float32, device="cuda")
    hidden = hidden.detach().bfloat16().requires_grad_()
    linear_cross_entropy(hidden, weight, targets).backward()
    assert weight.grad.dtype == torch.float32
    (expected,) = torch.autograd.grad(naive(hidden.double(), weight.bfloat16().double(), targets), weight)
    check(weight.grad, expected, 1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_without_a_break():
    x = inputs(rows=256, dtype=torch.float32, device="cuda")
    compiled = torch.compile(linear_cross_entropy, fullgraph=True)
    torch.testing.assert_close(compiled(*x), linear_cross_entropy(*x), rtol=1e-3, atol=1e-3)
