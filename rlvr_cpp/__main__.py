"""One command for all: `rlvr verify file.cpp`, `rlvr gspo`, ...; each is a module and a script of its own as well.

`rlvr` lists them, `rlvr COMMAND --help` tells of one, and `eval "$(rlvr completion bash)"` (zsh, fish) lets the shell
complete their names and keys.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module

from rlvr_cpp import __version__
from rlvr_cpp.runs.command import INSTALL
from rlvr_cpp.runs.help import config_keys

COMMANDS = {
    "verify": ("rlvr_cpp.verify", "judge a C++ file, or programs and answers line by line"),
    "doctor": ("rlvr_sandbox.__main__", "what this host can isolate, shown and tried"),
    "gspo": ("rlvr_cpp.gspo", "train by sequence ratios; without arguments the demo"),
    "grpo": ("rlvr_cpp.grpo", "train by token ratios"),
    "evaluate": ("rlvr_cpp.evaluate", "measure a model on a benchmark, with intervals"),
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
BASH = """_rlvr() {
    local words=%s
    case "$COMP_CWORD ${COMP_WORDS[1]}" in
        "1 "*) ;;
%s
        *) words= ;;
    esac
    compopt +o nospace
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o default -F _rlvr rlvr"""


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the rest of the command line to the command that its first word names; gives that one's exit status."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(_page())
    elif name == "--version":
        print(f"rlvr-cpp {__version__}")
    elif name == "completion" and rest in (["bash"], ["zsh"], ["fish"]):
        print("\n".join(_completion(*rest)))
    elif name in COMMANDS:
        return _call(name, rest)
    else:
        print(f"error: {_unknown(name)}", file=sys.stderr)
        return 2
    return 0


def _call(name: str, rest: Sequence[str]) -> int:
    module, _ = COMMANDS[name]
    argv = sys.argv
    sys.argv = ["doctor", "doctor"] if name == "doctor" else [f"rlvr {name}", *rest]
    try:
        return import_module(module).main() or 0
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is missing: {INSTALL}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        sys.argv = argv


def _unknown(name: str) -> str:
    if name == "completion":
        return "completion is for a shell: rlvr completion bash, zsh or fish"
    near = difflib.get_close_matches(name, COMMANDS, 1)
    return f"there is no command {name!r}: " + (
        f"did you mean {near[0]}?" if near else f"it is one of {', '.join(COMMANDS)}"
    )


def _page() -> str:
    listed = "\n".join(f"    {name:<12}{words}" for name, (_, words) in COMMANDS.items())
    return f"{(__doc__ or '').strip()}\n\n{listed}\n\nrlvr --version prints the version."


def _completion(shell: str) -> Iterator[str]:
    """What a shell evaluates to complete the names of commands, and of the keys that each takes."""
    keys = {
        name: [f"{key}=" for key in config_keys(module.rpartition(".")[2])] for name, (module, _) in COMMANDS.items()
    }
    if shell == "fish":
        for name, (_, words) in COMMANDS.items():
            yield f"complete -c rlvr -n __fish_use_subcommand -a {name} -d {shlex.quote(words)}"
            if keys[name]:
                yield f"complete -c rlvr -n '__fish_seen_subcommand_from {name}' -a '{' '.join(keys[name])}'"
        return
    if shell == "zsh":
        yield "autoload -U +X compinit bashcompinit && compinit && bashcompinit"
    cases = (f'        *" {name}") words="{" ".join(own)}" ;;' for name, own in keys.items() if own)
    yield BASH % (shlex.quote(" ".join(COMMANDS)), "\n".join(cases))


if __name__ == "__main__":
    sys.exit(main())
