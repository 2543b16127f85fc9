"""One command for all: `rlvr verify file.cpp`, `rlvr gspo`, ...; each is a module and a script of its own as well.

`rlvr` lists them, `rlvr COMMAND --help` tells of one, and `eval "$(rlvr completion bash)"` (zsh, fish) lets the shell
complete their names and keys.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rlvr_cpp import __version__
from rlvr_cpp.runs.dispatch import dispatch

COMMANDS = {
    "verify": ("rlvr_cpp.verify", "judge a C++ file, or programs and answers line by line"),
    "doctor": ("rlvr_sandbox.__main__", "what this host can isolate, shown and tried"),
    "gspo": ("rlvr_cpp.gspo", "train by sequence ratios; without arguments the demo"),
    "grpo": ("rlvr_cpp.grpo", "train by token ratios"),
    "evaluate": ("rlvr_cpp.evaluate", "measure a model on a benchmark, with intervals"),
    "view": ("rlvr_cpp.view", "a page of all that a run wrote, and its verdicts"),
    "compare": ("rlvr_cpp.compare", "two evaluations, problem by problem"),
    "best-of-n": ("rlvr_cpp.best_of_n", "sample, judge, and keep the best program"),
    "proxy": ("rlvr_cpp.proxy", "a model that tells verdicts before they are there"),
    "tasks": ("rlvr_cpp.check_tasks", "convert, show and check files of tasks"),
    "families": ("rlvr_cpp.tasks.families.build", "make tasks, and a base model's corpus"),
    "artifact": ("rlvr_cpp.artifact", "pack the adapter that a run has trained"),
    "registry": ("rlvr_cpp.registry", "adapters by version, promoted on evidence"),
    "sft": ("rlvr_pretrain.sft", "train a small model on prompts and completions"),
    "describe": ("rlvr_pretrain.describe", "the layers and sizes of a hybrid model"),
}
"""By name: the module whose `main` it is, and what it is for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the rest of the command line to the command that its first word names; gives that one's exit status."""
    return dispatch(__doc__ or "", __version__, COMMANDS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
