"""Several commands one after the other in one process, each in a folder of its own: `several.py CALLS.json`.

CALLS.json has `[module, [argument, ...]]` by folder name. Each folder exists; what the command wrote, what of it is
errors, and how it ended is left beside it.
"""

import contextlib
import json
import os
import runpy
import sys
import traceback
import warnings
from pathlib import Path


def main(calls: Path) -> None:
    warnings.filterwarnings("ignore", message=".* found in sys.modules")  # by a command before
    for name, (module, arguments) in json.loads(calls.read_text()).items():
        os.chdir(calls.parent / name)
        with (
            (calls.parent / f"{name}.out").open("w") as output,
            (calls.parent / f"{name}.err").open("w") as errors,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            status = run(module, arguments)
        (calls.parent / f"{name}.status").write_text(str(status))


def run(module: str, arguments: list[str]) -> object:
    """The exit status of `python -m module arguments`."""
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return 0 if end.code is None else end.code
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
