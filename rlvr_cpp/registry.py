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

import argparse
import sys
from collections.abc import Sequence

from rlvr_cpp.runs.options import plain_main


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status is 2 for a mistake or a refusal, told in one sentence."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    from rlvr_cpp.adapters.registry.commands import parser
    from rlvr_cpp.adapters.registry.lookup import default_registry

    return parser(__doc__ or "", default_registry())


if __name__ == "__main__":
    sys.exit(main())
