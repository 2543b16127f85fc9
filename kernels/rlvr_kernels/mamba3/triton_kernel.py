"""The Mamba-3 scan on a GPU as one custom operation, and its gradient as another.

Two kernels go along a sequence chunk by chunk, do the little that has to be done in order, and leave each chunk the
state that it begins with (or the gradient of the one that it ends with). Then all chunks are independent, and the other
kernels do the rest with one program per chunk and head. Turned keys are made where they are used and never written.
The backward pass keeps nothing but the inputs and walks the states again. What B, C and the angles get from each head
is written per head and summed after, in a fixed order, so gradients do not change from run to run.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.nn import functional

from rlvr_kernels.autocast import in_given_precision
from rlvr_kernels.backend import interpreting
from rlvr_kernels.mamba3.reference import Mamba3State, Mamba3Weights, _entering, _per_head, _rotated
from rlvr_kernels.mamba3.triton_gradients import angle_gradients, chunk_key_gradients, chunk_value_gradients
from rlvr_kernels.mamba3.triton_outputs import chunk_outputs
from rlvr_kernels.mamba3.triton_states import walk_state_gradients, walk_states
from rlvr_kernels.triton_math import operand_type


@in_given_precision
def scan(
    x: Tensor,
    z: Tensor | None,
    b: Tensor,
    c: Tensor,
    dt: Tensor,
    a: Tensor,
    trapezoid: Tensor,
    angle: Tensor,
    weights: Mamba3Weights,
    document_ids: Tensor | None,
    state: Mamba3State | None,
    chunk_size: int,
) -> tuple[Tensor, Mamba3State]:
    """Arguments as for `rlvr_kernels.mamba3`; P, N, the rank and the rows of a chunk must be powers of two."""
    rank, columns = b.shape[2], b.shape[4]
    for name, size, least in (("P", x.shape[3], 16), ("N", columns, 32), ("chunk_size * R", chunk_size * rank, 16)):
        if size < least or size & (size - 1):
            raise ValueError(f"{name}={size} does not fit the Triton scan: use a power of two >= {least}.")
    if z is None:
        weights = weights._replace(mix_z=None, mix_out=None)
    dt, a, trapezoid = dt.float(), a.float(), trapezoid.float()
    if state is not None:
        state = Mamba3State(*(field.float() for field in state))
    hidden = _entering(x, b, (1 - trapezoid) * dt, weights, state)
    theta = hidden.new_zeros(*hidden.shape[:2], angle.shape[-1]) if state is None else state.theta
    documents = None if document_ids is None else document_ids.to(torch.int32)
    out, last_hidden, last_theta = _scan(
        x, z, b, c, dt, a, trapezoid, angle, *weights, documents, hidden, theta, chunk_size
    )
    last_b = _rotated(_per_head(b[:, -1], weights.b_bias), last_theta)
    return out, Mamba3State(last_hidden, last_theta, last_b, x[:, -1].float())


class _Inputs(NamedTuple):
    """The arguments of the two custom operations, in the order of `_ARGUMENTS`."""

    x: Tensor
    z: Tensor | None
    b: Tensor
    c: Tensor
    dt: Tensor
    a: Tensor
    trapezoid: Tensor
    angle: Tensor
    b_bias: Tensor
    c_bias: Tensor
    skip: Tensor
    mix_x: Tensor | None
    mix_z: Tensor | None
    mix_out: Tensor | None
    document: Tensor | None
    hidden: Tensor
    theta: Tensor
    chunk_size: int

    def laid_out(self) -> _Inputs:
        """With the strides that the kernels take for granted: only tokens of x and z may lie apart."""
        return _Inputs(*(_laid_out(name, value) for name, value in self._asdict().items()))

    def out_shape(self) -> tuple[int, ...]:
        batch, length, heads, width = self.x.shape
        return (batch, length, heads, width) if self.z is not None else (batch, length, self.b.shape[2], heads, width)

    def numbers(self, kernel: Any) -> dict[str, Any]:
        """The arguments of a kernel that are numbers, by name."""
        spaced = self.x if self.z is None else self.z
        rank, groups, columns = self.b.shape[2:]
        values = {
            "length": self.x.shape[1],
            "x_batch": self.x.stride(0),
            "z_batch": spaced.stride(0),
            "heads": self.x.shape[2],
            "groups": groups,
            "pairs": self.angle.shape[2],
            "x_token": self.x.stride(1),
            "z_token": spaced.stride(1),
            "P": self.x.shape[3],
            "N": columns,
            "RANK": rank,
            "ROWS": rank * self.chunk_size,
            "DOT": operand_type(self.x.dtype),
            "WIDE": 4 * self.angle.shape[2] > columns,
        }
        return {name: value for name, value in values.items() if name in kernel.arg_names}

    def tensors(self, kernel: Any) -> dict[str, Tensor | None]:
        """The arguments of a kernel that the operation was given as tensors, by name."""
        pointers = {f"{name}_ptr": value for name, value in self._asdict().items()}
        return {name: value for name, value in pointers.items() if name in kernel.arg_names}

    def launch(self, kernel: Any, grid: tuple[int, ...], **results: Tensor | None) -> None:
        """Runs a kernel whose remaining pointers are `results`."""
        pointers = {f"{name}_ptr": value for name, value in results.items()}
        kernel[grid](**self.tensors(kernel) | pointers, **self.numbers(kernel), **_LAUNCH[kernel.fn.__name__])

    def chunks(self) -> int:
        return -(-self.x.shape[1] // self.chunk_size)

    def walk_states(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The states and angles before each chunk, and those after the last."""
        batch, _, heads, width = self.x.shape
        columns = self.b.shape[4]
        hiddens = self.hidden.new_empty(batch, heads, self.chunks(), width, columns, dtype=self.kept_dtype())
        thetas = self.hidden.new_empty(batch, heads, self.chunks(), columns // 2)
        last_hidden, last_theta = torch.empty_like(self.hidden), torch.empty_like(self.theta)
        results = {"hiddens": hiddens, "thetas": thetas, "last_hidden": last_hidden, "last_theta": last_theta}
        self.launch(walk_states, (heads, batch), **results)
        return hiddens, thetas, last_hidden, last_theta

    def kept_dtype(self) -> torch.dtype:
        """In which products are taken, states before chunks and gradients per head are kept."""
        return torch.float32 if interpreting() else self.x.dtype


def _laid_out(name: str, value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    together = name in ("x", "z") and value.stride(3) == 1 and value.stride(2) == value.shape[3]
    return value if together else value.contiguous()


_LAUNCH = {
    "walk_states": {"num_warps": 4, "num_stages": 2},
    "chunk_outputs": {"num_warps": 4, "num_stages": 1},
    "walk_state_gradients": {"num_warps": 4, "num_stages": 2},
    "chunk_value_gradients": {"num_warps": 4, "num_stages": 1},
    "chunk_key_gradients": {"num_warps": 4, "num_stages": 1},
}
_ARGUMENTS = (
    "Tensor x, Tensor? z, Tensor b, Tensor c, Tensor dt, Tensor a, Tensor trapezoid, Tensor angle, Tensor b_bias, "
    "Tensor c_bias, Tensor skip, Tensor? mix_x, Tensor? mix_z, Tensor? mix_out, Tensor? document, Tensor hidden, "
    "Tensor theta, int chunk_size"
)


@torch.library.custom_op("rlvr_kernels::mamba3", mutates_args=(), schema=f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
def _scan(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs = _Inputs(*arguments).laid_out()
    batch, _, heads, _ = inputs.x.shape
    hiddens, thetas, last_hidden, last_theta = inputs.walk_states()
    out = inputs.x.new_empty(inputs.out_shape())
    places = {"out": out, "hiddens": hiddens, "thetas": thetas}
    backwards = dict.fromkeys(("grad_out", "grad_mix_z", "grad_mix_out"))
    inputs.launch(chunk_outputs, (heads, inputs.chunks(), batch), **places, **backwards)
    return out, last_hidden, last_theta


@_scan.register_fake
def _results(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs = _Inputs(*arguments)
    return (
        inputs.x.new_empty(inputs.out_shape()),
        torch.empty_like(inputs.hidden, memory_format=torch.contiguous_format),
        torch.empty_like(inputs.theta, memory_format=torch.contiguous_format),
    )


@torch.library.custom_op(
    "rlvr_kernels::mamba3_backward",
    mutates_args=(),
    schema=f"(Tensor grad_out, Tensor grad_hidden, Tensor grad_theta, {_ARGUMENTS}) -> Tensor[]",
)
def _scan_backward(grad_out: Tensor, grad_hidden: Tensor, grad_theta: Tensor, *arguments: Any) -> list[Tensor]:
    """The gradient of each tensor that was given but `document`, in order."""
    inputs = _Inputs(*arguments).laid_out()
    grad_out, grad_hidden, grad_theta = grad_out.contiguous(), grad_hidden.contiguous(), grad_theta.contiguous()
    batch, length, heads, width = inputs.x.shape
    rank, groups, columns = inputs.b.shape[2:]
    chunks, pairs = inputs.chunks(), inputs.angle.shape[2]
    wide = partial(torch.empty, dtype=torch.float32, device=inputs.x.device)
    kept = partial(torch.empty, dtype=inputs.kept_dtype(), device=inputs.x.device)
    mixes = [None if mix is None else wide(batch, heads, chunks, rank, width) for mix in inputs[11:14]]
    grad_mix_x, grad_mix_z, grad_mix_out = mixes
    hiddens, thetas, _, _ = inputs.walk_states()
    before = {"hiddens": hiddens, "thetas": thetas, "grad_out": grad_out}
    grad_z = None if inputs.z is None else torch.empty(inputs.out_shape(), dtype=inputs.z.dtype, device=inputs.x.device)
    if grad_z is not None:
        places = {"out": grad_z, "grad_mix_z": grad_mix_z, "grad_mix_out": grad_mix_out}
        inputs.launch(chunk_outputs, (heads, chunks, batch), **before, **places)
    grad_hiddens, grad_first_hidden = torch.empty_like(hiddens), torch.empty_like(grad_hidden)
    inputs.launch(
        walk_state_gradients,
        (heads, batch),
        thetas=thetas,
        grad_out=grad_out,
        grad_hidden=grad_hidden,
        grad_hiddens=grad_hiddens,
        grad_first_hidden=grad_first_hidden,
    )

    grad_x = torch.empty(inputs.x.shape, dtype=inputs.x.dtype, device=inputs.x.device)
    grad_b, grad_c = kept(batch, length, rank, heads, columns), kept(batch, length, rank, heads, columns)
    grad_log_decay, grad_weight, grad_later, grad_dt = (wide(batch, length, heads) for _ in range(4))
    rows = {name: wide(batch, length, rank, heads) for name in ("grad_own", "grad_lasting", "grad_elapsed")}
    grad_turn, grad_turned = kept(batch, length, heads, pairs), wide(batch, heads, chunks, pairs)
    grad_b_bias, grad_c_bias = (wide(batch, heads, chunks, rank, columns) for _ in range(2))
    grad_skip = wide(batch, heads, chunks)
    grid = (heads, chunks, batch)
    edges = {"thetas": thetas, "grad_out": grad_out, "grad_hiddens": grad_hiddens} | rows
    values = {"grad_x": grad_x, "grad_skip": grad_skip, "grad_mix_x": grad_mix_x}
    inputs.launch(chunk_value_gradients, grid, **edges, **values)
    keys = {"grad_b": grad_b, "grad_c": grad_c, "grad_b_bias": grad_b_bias, "grad_c_bias": grad_c_bias}
    keys |= {"grad_log_decay": grad_log_decay, "grad_weight": grad_weight, "grad_later": grad_later}
    keys |= {"grad_turn": grad_turn, "grad_turned": grad_turned}
    inputs.launch(chunk_key_gradients, grid, **edges, **keys, hiddens=hiddens)

    to_end = torch.cat([grad_turned, grad_theta[:, :, None]], dim=2).flip(2).cumsum(2).flip(2)
    grad_angle = torch.empty_like(inputs.angle)
    after = to_end[:, :, 1:].contiguous()
    _launch_angles(inputs, grad_turn, after, grad_angle, grad_dt)
    arrived = _of_previous_token(grad_later, inputs.document)
    grads = [
        grad_x,
        grad_z,
        grad_b.view(batch, length, rank, groups, -1, columns).sum(4),
        grad_c.view(batch, length, rank, groups, -1, columns).sum(4),
        grad_dt + inputs.a * grad_log_decay + inputs.trapezoid * grad_weight + (1 - inputs.trapezoid) * arrived,
        inputs.dt * grad_log_decay,
        inputs.dt * (grad_weight - arrived),
        grad_angle,
        grad_b_bias.sum((0, 2)),
        grad_c_bias.sum((0, 2)),
        grad_skip.sum((0, 2)),
        *(None if mix is None else mix.sum((0, 2)) for mix in mixes),
        None,
        grad_first_hidden,
        to_end[:, :, 0],
    ]
    return [
        grad.to(given.dtype)
        for grad, given in zip(grads, inputs[:17], strict=True)
        if grad is not None and given is not None
    ]


def _launch_angles(inputs: _Inputs, grad_turn: Tensor, after: Tensor, grad_angle: Tensor, grad_dt: Tensor) -> None:
    batch, length, heads, _ = inputs.x.shape
    pairs = inputs.angle.shape[2]
    tokens = 16
    angle_gradients[(triton.cdiv(length, tokens), batch)](
        *(grad_turn, after, inputs.angle, inputs.dt, grad_angle, grad_dt),
        *(length, inputs.chunks(), inputs.chunk_size),
        heads=heads,
        pairs=pairs,
        PAIRS=max(triton.next_power_of_2(pairs), 1),
        TOKENS=tokens,
    )


@_scan_backward.register_fake
def _gradients(grad_out: Tensor, grad_hidden: Tensor, grad_theta: Tensor, *arguments: Any) -> list[Tensor]:
    given = [value for value in (*arguments[:14], *arguments[15:17]) if value is not None]
    return [torch.empty_like(value, memory_format=torch.contiguous_format) for value in given]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.chunk_size = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    found = iter(_scan_backward(*grads, *tensors, ctx.chunk_size))
    return *(None if value is None or place == 14 else next(found) for place, value in enumerate(tensors)), None


_scan.register_autograd(_differentiate, setup_context=_remember)


def _of_previous_token(share: Tensor, documents: Tensor | None) -> Tensor:
    """`share (B, T, H)` of the token before, 0 where none of the same document is."""
    if documents is not None:
        share = share * functional.pad(documents[:, 1:] == documents[:, :-1], (0, 1))[..., None]
    return functional.pad(share[:, :-1], (0, 0, 1, 0))
