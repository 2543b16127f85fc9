"""How the registry shows itself: tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from rlvr_cpp.adapters.metadata import AdapterMetadata
from rlvr_cpp.adapters.registry.versions import ACTIVE, Transition, Version
from rlvr_cpp.runs.pages import print_table

console = Console(highlight=False, markup=False)


def print_versions(versions: Sequence[Version]) -> None:
    """One line a version."""
    columns = ("version", "status", "method", "base", "adapter", "since")
    print_table(console, "", columns, map(_cells, versions), justify="left")


def _cells(version: Version) -> tuple[str, ...]:
    status = f"{version.status} (forced)" if version.status == ACTIVE and version.forced else version.status
    since = version.history[-1].when[:10]
    return version.name, status, version.training_method, version.base_model, version.adapter_hash[:12], since


def print_log(versions: Sequence[Version]) -> None:
    """The audit log of a project or of one version, in the order in which things happened."""
    steps = sorted(
        ((version, step) for version in versions for step in version.history), key=lambda pair: pair[1].sequence
    )
    for version, step in steps:
        change = f"{step.before} -> {step.after}" if step.before else f"registered, {step.after}"
        console.print(f"{step.when[:16].replace('T', ' ')}  v{version.number}  {change}  by {step.who}", soft_wrap=True)
        for line in _why(step):
            console.print(Padding(line, (0, 0, 0, 4)))


def _why(step: Transition) -> list[str]:
    lines = [] if step.reason is None else [step.reason]
    if step.overridden:
        lines.append(f"FORCED against: {'; '.join(step.overridden)}")
    evidence = step.evidence or {"measured": {}}
    for measure, facts in evidence["measured"].items():
        lines.append(
            f"{evidence['benchmark']}: {measure} {facts['old']:.3f} -> {facts['new']:.3f}, {facts['difference']:+.3f} "
            f"[{facts['low']:+.3f}, {facts['high']:+.3f}] on {facts['tasks']} tasks"
        )
    return lines


def print_version(version: Version, aliases: Sequence[str], metadata: AdapterMetadata, folder: Path) -> None:
    """All that is known of one version, but for its config."""
    quantization = metadata.quantization or {}
    facts = {
        "status": ", ".join([version.status, *aliases]),
        "method": metadata.training_method,
        "base": metadata.base_model,
        "base hash": f"{metadata.base_hash[:16]} ({metadata.base_dtype})",
        "quantization": ", ".join(f"{name} {value}" for name, value in quantization.items()) or "none",
        "targets": ", ".join(metadata.targets),
        "rank, alpha": f"{metadata.rank}, {metadata.alpha:g}",
        "adapter hash": version.adapter_hash,
        "went on from": ", ".join(parent[:16] for parent in metadata.parents) or "the base",
        "judge": "none" if metadata.contract is None else str(metadata.contract["compiler_version"]),
        "made": metadata.created,
        "folder": str(folder),
    }
    table = Table(title=version.name, title_justify="left", box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    console.print(table)


def print_differences(first: Version, second: Version, rows: Sequence[tuple[str, str, str]]) -> None:
    """Fields in which two versions differ."""
    print_table(console, "", ("", first.name, second.name), rows, justify="left")
