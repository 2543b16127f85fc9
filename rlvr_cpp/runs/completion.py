"""What lets a shell complete the names of commands, and of the config keys that each takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from rlvr_cpp.runs.help import config_keys

SHELLS = ("bash", "zsh", "fish")
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


def completion(shell: str, commands: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """The lines that a shell has to evaluate.

    `commands` has, by name, the module of each and what it is for.
    """
    keys = {
        name: [f"{key}=" for key in config_keys(module.rpartition(".")[2])] for name, (module, _) in commands.items()
    }
    if shell == "fish":
        for name, (_, words) in commands.items():
            yield f"complete -c rlvr -n __fish_use_subcommand -a {name} -d {shlex.quote(words)}"
            if keys[name]:
                yield f"complete -c rlvr -n '__fish_seen_subcommand_from {name}' -a '{' '.join(keys[name])}'"
        return
    if shell == "zsh":
        yield "autoload -U +X compinit bashcompinit && compinit && bashcompinit"
    cases = (f'        *" {name}") words="{" ".join(own)}" ;;' for name, own in keys.items() if own)
    yield BASH % (shlex.quote(" ".join(commands)), "\n".join(cases))
