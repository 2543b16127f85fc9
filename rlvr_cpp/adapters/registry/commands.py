"""The registry's command line: one function a command, each said in a few lines."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlvr_cpp.adapters.metadata import read_metadata
from rlvr_cpp.adapters.registry import changes
from rlvr_cpp.adapters.registry.card import model_card
from rlvr_cpp.adapters.registry.gate import DEFAULT_RULE, Rule, comparability, compare_records
from rlvr_cpp.adapters.registry.index import opened, rebuild
from rlvr_cpp.adapters.registry.mlflow import mirror_of, push
from rlvr_cpp.adapters.registry.tables import console, print_differences, print_log, print_version, print_versions
from rlvr_cpp.adapters.registry.versions import Version, aliases, checked_adapter, named, split_name
from rlvr_cpp.errors import Parser, UserError
from rlvr_cpp.runs.evidence import EvaluationRecord
from rlvr_cpp.runs.files import new_folder


def parser(description: str, registry: Path) -> argparse.ArgumentParser:
    """All commands and their options; each parsed call has its function as `run`."""
    where = Parser(add_help=False)
    where.add_argument("--registry", type=Path, default=registry, metavar="FOLDER", help="default: %(default)s")
    whole = Parser(
        prog="python -m rlvr_cpp.registry",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(required=True, metavar="command")

    add = _command(commands, where, list_versions, "list", "all versions, or one project's")
    add("project", nargs="?")
    add = _command(commands, where, show, "show", "a project's log, or one version")
    add("name", help="demo or demo@v1")
    add = _command(commands, where, register, "register", "copy an adapter artifact into the registry")
    add("folder", type=Path)
    add("--project", required=True)
    add = _command(commands, where, promote, "promote", "make a version active")
    add("name", help="demo@v1 or demo@candidate")
    add("--evidence", type=Path, metavar="FILE", help="the version's evaluation.json")
    add("--against", type=Path, metavar="FILE", help="that of the active version (its own by default) or of the base")
    add("--min-tasks", type=int, default=DEFAULT_RULE.min_tasks, metavar="N", help="default: %(default)s")
    add("--delta", type=float, default=DEFAULT_RULE.delta, help="how far the interval may reach below 0 (%(default)s)")
    add("--force", action="store_true", help="whatever speaks against it; it stays in the log")
    add("--reason", metavar="TEXT")
    add = _command(commands, where, archive, "archive", "take a version out of use")
    add("name", help="demo@v1")
    add("--deprecate", action="store_true", help="an archived one, for good")
    add("--reason", metavar="TEXT")
    add = _command(commands, where, compare, "compare", "what two versions do not have in common")
    add("names", nargs=2, metavar="name")
    add = _command(commands, where, export, "export", "copy a version out, with a model card")
    add("name", help="demo@v1")
    add("folder", type=Path, nargs="?")
    add("--mlflow", metavar="URI", help="write it to this MLflow registry")
    _command(commands, where, make_index, "rebuild", "make the index anew from the version folders")
    return whole


def _command(commands: Any, where: argparse.ArgumentParser, function: Any, name: str, words: str) -> Any:
    command = commands.add_parser(name, parents=[where], help=words, description=f"{words[0].upper()}{words[1:]}.")
    command.set_defaults(run=function)
    return command.add_argument


def list_versions(call: argparse.Namespace) -> None:
    """Print one line a version."""
    with opened(call.registry) as index:
        versions = index.versions(call.project)
    print_versions(versions)


def show(call: argparse.Namespace) -> None:
    """Print a project's versions and log, or all of one version."""
    project, which = split_name(call.name)
    with opened(call.registry) as index:
        versions = index.versions(project)
    if which is None:
        named(versions, project, "v1")
        print_versions(versions)
        print_log(versions)
        return
    version = named(versions, project, which)
    folder = checked_adapter(call.registry, version)
    print_version(version, aliases(version, versions), read_metadata(folder), folder)
    print_log([version])


def register(call: argparse.Namespace) -> None:
    """Register and say under which name."""
    version = changes.register(call.registry, call.folder, call.project)
    console.print(f"{version.name} is registered, a draft", soft_wrap=True)


def promote(call: argparse.Namespace) -> None:
    """Promote and print what it rests on."""
    project, which = _version_name(call.name)
    version = changes.promote(
        call.registry,
        project,
        which,
        None if call.evidence is None else EvaluationRecord.load(call.evidence),
        None if call.against is None else EvaluationRecord.load(call.against),
        rule=Rule(call.min_tasks, call.delta),
        force=call.force,
        reason=call.reason,
    )
    console.print(f"{version.name} is active", soft_wrap=True)
    print_log([version])


def archive(call: argparse.Namespace) -> None:
    """Archive or deprecate, and say so."""
    project, which = _version_name(call.name)
    version = changes.archive(call.registry, project, which, deprecate=call.deprecate, reason=call.reason)
    console.print(f"{version.name} is {version.status}", soft_wrap=True)


def compare(call: argparse.Namespace) -> None:
    """Print the fields in which two versions differ, and what their records say of the same tasks."""
    first, second = (_find(call.registry, name) for name in call.names)
    here, there = (_flat(asdict(read_metadata(checked_adapter(call.registry, v)))) for v in (first, second))
    names = sorted(name for name in {**here, **there} if here.get(name) != there.get(name))
    print_differences(first, second, [(name, str(here.get(name, "")), str(there.get(name, ""))) for name in names])
    old, new = (changes.stored_record(call.registry, version) for version in (first, second))
    if old is None or new is None:
        without = [v.name for v, record in ((first, old), (second, new)) if record is None]
        console.print(f"no results to compare: {' and '.join(without)} became active on none, if ever", soft_wrap=True)
    elif problems := comparability(new, old):
        console.print(f"their results cannot be compared: {'; '.join(problems)}", soft_wrap=True)
    else:
        for measure, comparison in compare_records(new, old).items():
            console.print(f"{measure}: {comparison}", soft_wrap=True)


def export(call: argparse.Namespace) -> None:
    """Copy the artifact with a model card to a folder, write it to MLflow, or both."""
    if call.folder is None and call.mlflow is None:
        raise UserError("nothing to export to: give a folder, --mlflow URI, or both")
    project, which = _version_name(call.name)
    with opened(call.registry) as index:
        versions = index.versions(project)
    version = named(versions, project, which)
    adapter = checked_adapter(call.registry, version)
    if call.folder is not None:
        record = changes.stored_record(call.registry, version)
        with new_folder(call.folder) as draft:
            shutil.copytree(adapter, draft, dirs_exist_ok=True)
            (draft / "README.md").write_text(model_card(version.name, read_metadata(adapter), record))
        console.print(f"{version.name} is in {call.folder}", soft_wrap=True)
    if call.mlflow is not None:
        number = push(mirror_of(version, adapter, aliases(version, versions)), call.mlflow)
        console.print(f"{version.name} is version {number} of {project} in {call.mlflow}", soft_wrap=True)


def make_index(call: argparse.Namespace) -> None:
    """Rebuild the index and say what is in it."""
    console.print(f"{call.registry}: {len(rebuild(call.registry))} versions", soft_wrap=True)


def _find(root: Path, name: str) -> Version:
    project, which = _version_name(name)
    with opened(root) as index:
        return named(index.versions(project), project, which)


def _version_name(name: str) -> tuple[str, str]:
    project, which = split_name(name)
    if which is None:
        raise UserError(f"name is {name!r}: name the version as well, such as {project}@v1 or {project}@candidate")
    return project, which


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
