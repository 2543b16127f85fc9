"""Find an adapter by folder or by its name in the registry."""

from __future__ import annotations

import os
from pathlib import Path

from rlvr_cpp.adapters.metadata import read_metadata
from rlvr_cpp.adapters.registry.versions import DEPRECATED, checked_adapter, named, read_versions, split_name
from rlvr_cpp.errors import UserError

SCHEME = "registry:"


def default_registry() -> Path:
    """`$XDG_DATA_HOME/rlvr-cpp/registry`, by default below `~/.local/share`."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "rlvr-cpp" / "registry"


def find_adapter(source: str, registry: Path | None = None) -> Path:
    """The folder of an adapter artifact: `source` itself, `registry:<project>` (active) or `registry:<project>@v3`.

    Only folders are read, so it works where the registry's index is damaged or nothing can be written. Raises
    UserError where there is none, a file in it was changed, or the version is deprecated.
    """
    if not source.startswith(SCHEME):
        read_metadata(Path(source))
        return Path(source)
    root = registry or default_registry()
    project, which = split_name(source.removeprefix(SCHEME))
    version = named(read_versions(root, project), project, which or "champion")
    if version.status == DEPRECATED:
        raise UserError(f"{version.name} is deprecated ({version.history[-1].reason}): use another version")
    return checked_adapter(root, version)
