"""The Mamba-3 scan beside mamba_ssm's Triton kernels: `python -m benchmarks.kernels_mamba3`.

Rank 1 at the shapes of a 1.5B model, bfloat16, with gate and skip; then one decoding step, and rank 4, which mamba_ssm
has in TileLang only. `simple_gla` of flash-linear-attention is the nearest scan of its own there (decay, but neither
rotation nor second share nor gate, and keys per head); its mamba3 calls mamba_ssm. FLOPs are the products of chunks of
64 rows, forwards `2L(N+P) + 4NP` a row and head, backwards `2L(3N+2P) + 10NP`; bytes are inputs, outputs and their
gradients, each once. Of the launch settings that mamba_ssm tries, over two hundred compilations, those with 4 or 8
warps, 2 stages and chunks of 64 are left unless `--all-settings`. `--tune KERNEL` times one of our kernels with other
numbers of warps and stages.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.kernels_timing import COLUMNS, Work, print_head, print_row, timed
from rlvr_kernels import Mamba3State, Mamba3Weights, mamba3, mamba3_step

BATCH, LENGTH, HEADS, COLUMNS_N, WIDTH, PAIRS = 8, 4096, 32, 128, 64, 32
Run = Callable[[], object]


def inputs(rank: int) -> tuple[list[Tensor], Mamba3Weights]:
    """Random inputs of usual size, all with gradients."""
    torch.manual_seed(0)
    normal = partial(torch.randn, device="cuda")
    low = {"dtype": torch.bfloat16}
    per_token = (BATCH, LENGTH, HEADS)
    dt = functional.softplus(normal(*per_token) - 4.0)
    tokens = [
        normal(*per_token, WIDTH, **low),
        normal(*per_token, WIDTH, **low),
        normal(BATCH, LENGTH, rank, 1, COLUMNS_N, **low),
        normal(BATCH, LENGTH, rank, 1, COLUMNS_N, **low),
        dt,
        -functional.softplus(normal(*per_token)),
        torch.sigmoid(normal(*per_token)),
        normal(BATCH, LENGTH, PAIRS, **low),
    ]
    mixes = [normal(HEADS, rank, WIDTH) for _ in range(3)] if rank > 1 else []
    ones = torch.ones(HEADS, rank, COLUMNS_N, device="cuda")
    weights = Mamba3Weights(ones, ones.clone(), torch.ones(HEADS, device="cuda"), *mixes)
    return [value.requires_grad_() for value in tokens], Mamba3Weights(
        *(None if value is None else value.requires_grad_() for value in weights)
    )


def ours(rank: int, backend: str | None = None) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """Our scan, and what it has gradients for."""
    tokens, weights = inputs(rank)
    leaves = [*tokens, *(value for value in weights if value is not None)]
    return lambda: mamba3(*tokens, weights, backend=backend)[0], leaves


def narrow_upstream() -> None:
    """Leave mamba_ssm's kernels two launch settings each, which compile in about a minute."""
    from mamba_ssm.ops.triton.mamba3 import angle_dt, mamba3_siso_bwd, mamba3_siso_fwd
    from triton.runtime import Autotuner

    for module in (angle_dt, mamba3_siso_bwd, mamba3_siso_fwd):
        for kernel in vars(module).values():
            if isinstance(kernel, Autotuner):
                kernel.configs = [
                    config
                    for config in kernel.configs
                    if config.num_warps in (4, 8)
                    and config.num_stages == 2
                    and config.maxnreg is None
                    and config.kwargs.get("CHUNK_SIZE", 64) == 64
                ]


def upstream(all_settings: bool) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """mamba_ssm's kernels on the same numbers in their layout; their rates are not squashed by tanh."""
    from mamba_ssm.ops.triton.mamba3.mamba3_siso_combined import mamba3_siso_combined

    if not all_settings:
        narrow_upstream()
    (x, z, b, c, dt, a, trapezoid, angle), weights = inputs(1)
    q, k = (value.detach()[:, :, 0].contiguous().requires_grad_() for value in (c, b))
    dt = dt.detach().transpose(1, 2).contiguous()
    decay = (a.detach().transpose(1, 2) * dt).contiguous().requires_grad_()
    share = trapezoid.detach().transpose(1, 2).contiguous().requires_grad_()
    rates = (torch.pi * torch.tanh(angle.detach())[:, :, None]).expand(-1, -1, HEADS, -1).contiguous().requires_grad_()
    biases = [value.detach()[:, 0].contiguous().requires_grad_() for value in (weights.c_bias, weights.b_bias)]
    leaves = [q, k, x, decay, dt.requires_grad_(), share, *biases, rates, weights.skip, z]
    return lambda: mamba3_siso_combined(*leaves, chunk_size=64), leaves


def simple_gla() -> tuple[Callable[[], Tensor], list[Tensor]]:
    """flash-linear-attention's scan with one decay a head."""
    from fla.ops.simple_gla import chunk_simple_gla

    (x, _, b, c, dt, a, *_), _ = inputs(1)
    q, k = (value.detach()[:, :, 0].expand(-1, -1, HEADS, -1).contiguous().requires_grad_() for value in (c, b))
    decay = (a * dt).detach().requires_grad_()
    return lambda: chunk_simple_gla(q, k, x, g=decay)[0], [q, k, x, decay]


def work(rank: int, *, forward: bool, backward: bool) -> Work:
    """Of one scan."""
    rows = BATCH * LENGTH * HEADS * rank
    n, p, chunk = COLUMNS_N, WIDTH, 64
    products = forward * (2 * chunk * (n + p) + 4 * n * p) + backward * (2 * chunk * (3 * n + 2 * p) + 10 * n * p)
    values = (3 * forward + 5 * backward) * BATCH * LENGTH * HEADS * p
    return Work(float(rows * products), 2.0 * values)


def scan_table(rank: int, methods: list[tuple[str, Callable[[], tuple[Callable[[], Tensor], list[Tensor]]]]]) -> None:
    """Forward, backward, and both, of each method; how many times faster it is than the first that ran."""
    shape = f"B {BATCH}, T {LENGTH}, H {HEADS}, N {COLUMNS_N}, P {WIDTH}, R {rank}"
    print_head(f"Mamba-3 scan, {shape}", *COLUMNS)
    first: dict[str, float] = {}

    def measure(part: str, make: Callable[[], tuple[Callable[[], Tensor], list[Tensor]]]) -> list[str]:
        run, leaves = make()
        output = run()
        grad = torch.randn_like(output)
        steps: dict[str, Run] = {
            "forward": run,
            "backward": lambda: torch.autograd.grad(output, leaves, grad, retain_graph=True, allow_unused=True),
            "both": lambda: torch.autograd.grad(run(), leaves, grad, allow_unused=True),
        }
        asked = work(rank, forward=part != "backward", backward=part != "forward")
        with torch.set_grad_enabled(part != "forward"):
            ms, cells = timed(steps[part], asked, first.get(part))
        first.setdefault(part, ms)
        return cells

    for label, make in methods:
        for part in ("forward", "backward", "both"):
            print_row(f"{label}, {part}", lambda part=part, make=make: measure(part, make))


def step_table() -> None:
    """One token of many sequences: the state's bytes bound it."""
    rows = 128
    print_head(f"Mamba-3 decoding step, B {rows}, H {HEADS}, N {COLUMNS_N}, P {WIDTH}", *COLUMNS)
    tokens, weights = inputs(1)
    token = [value.detach()[:, :16].flatten(0, 1) for value in tokens]
    fixed = Mamba3Weights(*(None if value is None else value.detach() for value in weights))
    zeros = partial(torch.zeros, device="cuda")
    state = Mamba3State(
        zeros(rows, HEADS, WIDTH, COLUMNS_N),
        zeros(rows, HEADS, PAIRS),
        zeros(rows, 1, HEADS, COLUMNS_N),
        zeros(rows, HEADS, WIDTH),
    )
    asked = Work(6.0 * rows * HEADS * WIDTH * COLUMNS_N, 8.0 * state.hidden.numel())
    first: list[float] = []

    def measure(run: Run) -> list[str]:
        ms, cells = timed(run, asked, first[0] if first else None)
        first.append(ms)
        return cells

    print_row("plain PyTorch", lambda: measure(lambda: mamba3_step(*token, fixed, state, backend="reference")))
    print_row("ours", lambda: measure(lambda: mamba3_step(*token, fixed, state)))


def time_of_kernels(rank: int) -> dict[str, float]:
    """Milliseconds of each GPU kernel in one forward and backward pass."""
    run, leaves = ours(rank)
    output = run()
    grad = torch.randn_like(output)
    torch.autograd.grad(output, leaves, grad)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(5):
            torch.autograd.grad(run(), leaves, grad)
        torch.cuda.synchronize()
    times = {event.key: event.device_time_total / 5e3 for event in profile.key_averages()}
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def kernel_table(rank: int) -> None:
    """Where the time of ours goes."""
    print_head(f"kernels of one forward and backward pass, R {rank}", "ms")
    for name, ms in list(time_of_kernels(rank).items())[:14]:
        print_row(name[:43], lambda ms=ms: [f"{ms:.3f}"])


def tune_table(kernel: str, rank: int) -> None:
    """One kernel with other launch settings."""
    from rlvr_kernels.mamba3 import triton_kernel

    print_head(f"{kernel}, R {rank}: ms by warps and stages", "ms")
    for warps in (4, 8):
        for stages in (1, 2, 3):

            def measure(warps: int = warps, stages: int = stages) -> list[str]:
                triton_kernel._LAUNCH[kernel] = {"num_warps": warps, "num_stages": stages}
                return [f"{time_of_kernels(rank)[kernel]:.3f}"]

            print_row(f"{warps} warps, {stages} stages", measure)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", metavar="KERNEL", help="one of ours, such as chunk_key_gradients")
    parser.add_argument("--rank", type=int, help="this rank alone")
    parser.add_argument("--all-settings", action="store_true", help="let mamba_ssm try all of its launch settings")
    arguments = parser.parse_args()
    if arguments.tune:
        tune_table(arguments.tune, arguments.rank or 1)
        return
    if arguments.rank in (None, 1):
        print_row("where the time goes", lambda: kernel_table(1) or [])
        step_table()
        peers = [("mamba_ssm", partial(upstream, arguments.all_settings)), ("fla simple_gla", simple_gla)]
        scan_table(1, [("ours", partial(ours, 1)), *peers])
    if arguments.rank in (None, 4):
        scan_table(4, [("ours", partial(ours, 4))])
        print_row("where the time goes", lambda: kernel_table(4) or [])


if __name__ == "__main__":
    main()
