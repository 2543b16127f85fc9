"""Shapes by name: the YAML files of `conf/architecture`, each a self-contained list of what differs from the defaults.

They are Hydra configs, too: a training job composes `architecture: <name>` from the same folder. The group is not
called `model`, which is what commands are told the model's name by.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlvr_model.configuration import HybridConfig

_ROOT = Path(__file__).parents[1]
_PLACES = (_ROOT / "rlvr_cpp" / "conf", _ROOT.parent / "conf")
"""Beside this package once installed, at the top in a checkout."""


def preset_names() -> list[str]:
    """Every preset, in alphabetical order."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load_preset(name: str, **changes: Any) -> HybridConfig:
    """The config of a preset, with changed settings. Raises ValueError for an unknown name or setting."""
    path = _folder() / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"preset {name!r} does not exist: use one of {', '.join(preset_names())}")
    settings = {**_read(path), **changes}
    unknown = sorted(set(settings) - set(HybridConfig.__annotations__) - {"attn_implementation"})
    if unknown:
        raise ValueError(f"preset {name} sets {', '.join(unknown)}, which the hybrid model does not have")
    return HybridConfig(**settings)


def _folder() -> Path:
    return next(place for place in _PLACES if place.is_dir()) / "architecture"


def _read(path: Path) -> dict[str, Any]:
    settings = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items()}
