"""How a command ends when it does not end well: one sentence for a mistake, no traceback for an interruption."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlvr_cpp.errors import UserError

BAD_INPUT, INTERRUPTED = 2, 130


@contextmanager
def plain_endings(folder: Path) -> Iterator[None]:
    """Turn a UserError into exit status 2 and Ctrl-C into 130.

    A mistake is found before the run begins, so `folder` then holds nothing but Hydra's own files and is removed.
    """
    try:
        yield
    except UserError as error:
        if not (folder / "run.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        print(f"interrupted; what there is stands in {folder}", file=sys.stderr)
        sys.exit(INTERRUPTED)
