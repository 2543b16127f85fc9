"""The layers that a LoRA adapter changes, read from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rlvr_cpp.errors import UserError

PREFIX = "base_model.model."
A_MATRICES = (".lora_A.weight", ".lora_embedding_A")
"""How the names of tensors end whose first dimension is the rank."""
B_MATRICES = (".lora_B.weight", ".lora_embedding_B")
"""How the names of tensors end whose second dimension is the rank. A tensor of another name is not plain LoRA's."""


def adapted_layers(names: Iterable[str]) -> set[str]:
    """The layers, by their full names below the base model, that an adapter's tensors belong to.

    Raises UserError for a tensor that is not plain LoRA's.
    """
    layers = set()
    for name in names:
        ending = next((ending for ending in A_MATRICES + B_MATRICES if name.endswith(ending)), None)
        if ending is None or not name.startswith(PREFIX):
            raise UserError(f"the adapter holds the tensor {name!r}: only LoRA's A and B matrices are taken")
        layers.add(name.removeprefix(PREFIX).removesuffix(ending))
    return layers


def targets_of(layers: Iterable[str]) -> tuple[str, ...]:
    """The names of layers without their path, each once, sorted."""
    return tuple(sorted({layer.rpartition(".")[2] for layer in layers}))


def ranks_of(shapes: Mapping[str, Sequence[int]]) -> list[int]:
    """The ranks of all A and B matrices, each once, sorted; a sound adapter has one."""
    return sorted({shape[0 if name.endswith(A_MATRICES) else 1] for name, shape in shapes.items()})


def require_one_scale(ranks: Sequence[int], config: Mapping[str, object]) -> None:
    """Raise UserError where peft's configuration gives layers ranks or scales of their own."""
    if ranks != [config["r"]] or config.get("alpha_pattern") or config.get("use_rslora"):
        raise UserError(
            f"the adapter has the ranks {list(ranks)}, alpha_pattern {config.get('alpha_pattern')} and use_rslora "
            f"{config.get('use_rslora')}: an artifact has one rank and one alpha, and scales by alpha / rank"
        )
