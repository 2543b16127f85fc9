"""Adapters by project and version, promoted on evidence: `python -m rlvr_cpp.registry`.

    register FOLDER --project demo                         a new version, a draft
    promote demo@v1 --evidence E.json --against B.json     make it active, if the rule holds
    list [demo]     show demo | demo@v1     compare demo@v1 demo@v2
    archive demo@v1 [--deprecate]           export demo@v1 [FOLDER] [--mlflow URI]
    rebuild                                                the index, from the version folders

A version is `draft`, then `active` (one for each project and base), `archived`, `deprecated`. Beside its number it is
found as `demo@champion` (active) or `demo@candidate` (newest draft). Nothing here needs torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rlvr_cpp.adapter_metadata import read_metadata
from rlvr_cpp.errors import UserError
from rlvr_cpp.registry_versions import DEPRECATED, checked_adapter, named, read_versions, split_name

SCHEME = "registry:"
REFUSED = 2


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


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status is 2 for a mistake or a refusal, told in one sentence."""
    try:
        from rlvr_cpp.registry_commands import parser
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is missing: pip install 'rlvr-cpp[train]'", file=sys.stderr)
        return REFUSED
    call = parser(__doc__ or "", default_registry()).parse_args(argv)
    try:
        call.command(call)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
