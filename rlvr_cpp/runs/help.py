"""The page of `--help`: what a command does, and every key that it may be told, with its value and its meaning.

Composing a config costs Hydra a second, which who asks for help need not wait: the values are read from the same YAML
files, the meanings from the fields' docstrings. What overrides make of them, `--cfg job` tells.
"""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from textwrap import dedent, fill
from typing import Any, get_type_hints

from rlvr_cpp.runs.config import CONF, within


def help_page(usage: str, config_name: str, kind: type) -> str:
    """The help of a command with the config `conf/<config_name>.yaml`, whose keys are the fields of `kind`."""
    usage = usage.strip()
    parts = [usage, "Keys, set as key=value; a group's name, as in group=option, sets all of its keys at once:"]
    parts += _keys_and_groups(kind, default_values(config_name))
    if "+recipe=" in usage:
        parts.append(f"+recipe=option overrides several groups: {_options('recipe')}. Yours: --config-dir DIR")
        parts.append(f"+hardware=option sets quantisation and batches beside a recipe: {_options('hardware')}")
    parts.append("--cfg job prints the config that a command line makes, --multirun runs key=a,b for each value.")
    return "\n\n".join(parts)


def default_values(config_name: str) -> dict[str, Any] | None:
    """What the config holds where nothing is overridden, but for Hydra's own keys; None where no YAML can be read."""
    try:
        import yaml
    except ModuleNotFoundError:
        return None

    def read(path: Path) -> dict[str, Any]:
        own = yaml.safe_load(path.read_text())
        values: dict[str, Any] = {}
        for entry in own.pop("defaults", ["_self_"]):
            if isinstance(entry, str):
                _merge(values, own if entry == "_self_" else read(path.with_name(f"{entry}.yaml")))
            elif not (group := next(iter(entry))).startswith("override "):
                option = path.parent / group / f"{entry[group]}.yaml"
                is_global = option.read_text().startswith("# @package _global_")
                _merge(values, read(option) if is_global else {group: read(option)})
        return values

    values = read(Path(CONF, f"{config_name}.yaml"))
    del values["hydra"]
    return values


def config_keys(config_name: str) -> list[str]:
    """The keys of `conf/<config_name>.yaml`, as they are set; empty where there is no such config or no YAML reader."""
    values = default_values(config_name) if Path(CONF, f"{config_name}.yaml").exists() else None
    return list(_flat(values or {}, ""))


def _flat(values: dict[str, Any], group: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{group}{key}.")
        else:
            yield f"{group}{key}"


def _merge(values: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _keys_and_groups(kind: type, values: dict[str, Any] | None) -> Iterator[str]:
    """The command's own keys, then each group: its options, what it is about, its keys."""
    types = get_type_hints(kind)
    groups = [field for field in fields(kind) if is_dataclass(types[field.name])]
    meanings = _meanings(kind)
    yield "\n".join(_key(field, values, meanings) for field in fields(kind) if field not in groups)
    for group in groups:
        name, settings = group.name, types[group.name]
        head = f"{name}: {options}" if (options := _options(name)) else name
        about, meanings = _plain(settings.__doc__ or ""), _meanings(settings)
        inner = None if values is None else values[name]
        lines = [_key(field, inner, meanings, "  ") for field in fields(settings)]
        yield "\n".join([_wrapped(head, "", "    "), _wrapped(about, "  ", "  "), *lines])


def _key(field: Field[Any], values: dict[str, Any] | None, meanings: dict[str, str], indent: str = "") -> str:
    value = "" if values is None else f": {_yaml_word(values[field.name])}"
    bounds = {name: bound for name, bound in field.metadata.items() if name != "choices"}
    meaning = meanings.get(field.name, "")
    if bounds:
        meaning += f" ({within(**bounds)})"
    elif (choices := field.metadata.get("choices")) and not all(str(choice) in meaning for choice in choices):
        meaning += f" ({', '.join('null' if choice is None else str(choice) for choice in choices)})"
    return _wrapped(f"{indent}{field.name + value:<28}  {meaning.strip()}".rstrip(), "", " " * (len(indent) + 30))


def _yaml_word(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml_word, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml_word(inner)}' for key, inner in value.items())}}}"
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _meanings(kind: type) -> dict[str, str]:
    """Each field's docstring: Python keeps none, so they are read from the source."""
    found: dict[str, str] = {}
    for owner in reversed([base for base in kind.__mro__ if is_dataclass(base)]):
        (body,) = ast.parse(dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for line, following in zip(body.body, body.body[1:], strict=False):
            match line, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = _plain(text)
    return found


def _plain(docstring: str) -> str:
    """A docstring in the words of a config."""
    return re.sub(r"\bNone\b", "null", " ".join(docstring.split()).replace("`", ""))


def _options(group: str) -> str:
    return ", ".join(sorted(path.stem for path in Path(CONF, group).glob("*.yaml")))


def _wrapped(text: str, first: str, rest: str) -> str:
    width = min(shutil.get_terminal_size((100, 40)).columns, 120)
    return fill(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
