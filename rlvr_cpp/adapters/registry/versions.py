"""What the registry knows of one version, and the folder that is the truth of it.

    <registry>/<project>/v0003/adapter/      the artifact, never changed
                               evidence/     the evaluation records that transitions rest on
                               state.json    what this version is and all that ever happened to it

A status is the end of a history, so the audit log cannot contradict it. A promotion concerns two versions, and two
files cannot be written in one step. So one file decides: of several versions of one base that say `active`, the one
that became so last is active, and for the others `settled` writes down that they are archived. It does so right after
a promotion, and whenever somebody opens a registry in which a killed process left that undone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from rlvr_cpp.adapters.metadata import TrainingMethod, read_metadata
from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import replace_text

SCHEMA_VERSION = 1
STATE_FILE = "state.json"
ADAPTER, EVIDENCE = "adapter", "evidence"
Status = Literal["draft", "active", "archived", "deprecated"]
DRAFT: Final = "draft"
ACTIVE: Final = "active"
ARCHIVED: Final = "archived"
DEPRECATED: Final = "deprecated"
STATUSES = get_args(Status)
PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
FOLDER = re.compile(r"v(\d{4,})")


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One line of the audit log."""

    sequence: int
    """Counts the transitions of a project from 1: the order in which they happened."""
    when: str
    """ISO 8601 in UTC."""
    who: str
    """User and host."""
    before: Status | None
    """The status until then; None for a registration."""
    after: Status
    evidence: Mapping[str, Any] | None = None
    """What a promotion rests on: ids of both evaluation records and the difference; None for other transitions."""
    overridden: tuple[str, ...] = ()
    """What spoke against a forced promotion."""
    reason: str | None = None
    """What the person said, or why it happened by itself."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One adapter of a project. Plain data: `state.json` one to one."""

    project: str
    number: int
    adapter_hash: str
    """Of the weights, by which evaluation records name the adapter."""
    artifact_id: str
    """Of the whole metadata, which has the hash of every file."""
    base_model: str
    base_hash: str
    training_method: TrainingMethod
    history: tuple[Transition, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def status(self) -> Status:
        """What its last transition made it."""
        return self.history[-1].after

    @property
    def name(self) -> str:
        """As a person writes it: `demo@v3`."""
        return f"{self.project}@v{self.number}"

    @property
    def folder(self) -> str:
        """Its place below the registry's."""
        return f"{self.project}/v{self.number:04d}"

    @property
    def activation(self) -> Transition | None:
        """The last time it became active."""
        return next((step for step in reversed(self.history) if step.after == ACTIVE), None)

    @property
    def forced(self) -> bool:
        """It last became active although something spoke against it."""
        return self.activation is not None and bool(self.activation.overridden)

    def then(self, step: Transition) -> Version:
        """The version after one more transition."""
        return replace(self, history=(*self.history, step))

    def to_json(self) -> str:
        """The content of `state.json`."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Version:
        """What `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        fields = json.loads(text)
        if fields["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {fields['schema_version']!r}, and this version reads {SCHEMA_VERSION}")
        history = tuple(Transition(**{**step, "overridden": tuple(step["overridden"])}) for step in fields["history"])
        if not history or any(step.after not in STATUSES for step in history):
            raise ValueError("the history is not one of known statuses")
        return cls(**{**fields, "history": history})


def settled(versions: Iterable[Version]) -> list[Version]:
    """Those versions of one project that still say `active` after another one of their base became so, archived.

    What is written down is the same whoever does it: time and person are those of the promotion.
    """
    versions = list(versions)
    sequence = next_sequence(versions)
    changed = []
    for base in sorted({version.base_hash for version in versions}):
        active = sorted((v for v in versions if v.base_hash == base and v.status == ACTIVE), key=_activated)
        for old in active[:-1]:
            promotion = active[-1].history[-1]
            archival = Transition(
                sequence=sequence,
                when=promotion.when,
                who=promotion.who,
                before=ACTIVE,
                after=ARCHIVED,
                reason=f"{active[-1].name} became active",
            )
            changed.append(old.then(archival))
            sequence += 1
    return changed


def _activated(version: Version) -> int:
    return version.activation.sequence if version.activation else 0


def next_sequence(versions: Iterable[Version]) -> int:
    """The number of a project's next transition."""
    return 1 + max((step.sequence for version in versions for step in version.history), default=0)


def active_of(versions: Iterable[Version], base_hash: str) -> Version | None:
    """The active version of one base; None where there is none."""
    active = [v for v in versions if v.base_hash == base_hash and v.status == ACTIVE]
    return max(active, key=_activated, default=None)


def read_version(folder: Path) -> Version:
    """The version in a folder. Raises UserError where its state cannot be read."""
    path = folder / STATE_FILE
    try:
        version = Version.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): restore it from a backup, or move the folder {folder} out of the "
            "registry"
        ) from error
    if version.folder != f"{folder.parent.name}/{folder.name}":
        raise UserError(f"{path} is the state of {version.name}: move the folder to {version.folder} in its registry")
    return version


def write_version(root: Path, version: Version) -> None:
    """Replace a version's state in one step."""
    replace_text(root / version.folder / STATE_FILE, version.to_json())


def version_folders(root: Path, project: str | None = None) -> list[Path]:
    """The folders of all versions, or of one project's, in order."""
    found = [path for path in root.glob(f"{project or '*'}/v*") if FOLDER.fullmatch(path.name)]
    return sorted(found, key=lambda path: (path.parent.name, int(path.name[1:])))


def read_versions(root: Path, project: str) -> list[Version]:
    """All versions of a project as their folders say, in order."""
    return [read_version(folder) for folder in version_folders(root, check_project(project))]


def checked_adapter(root: Path, version: Version) -> Path:
    """The folder of a version's artifact. Raises UserError where a file in it is not the one that was registered."""
    folder = root / version.folder / ADAPTER
    if read_metadata(folder).artifact_id != version.artifact_id:
        raise UserError(f"{folder} holds another artifact than {version.name} was registered with: restore it")
    return folder


def check_project(project: str) -> str:
    """The name itself. Raises UserError where it cannot be a folder's."""
    if not PROJECT.fullmatch(project):
        raise UserError(f"project is {project!r}: use letters, digits, `.`, `_` and `-`, a letter or digit first")
    return project


def split_name(name: str) -> tuple[str, str | None]:
    """Project and version of `demo@v3`; the version of `demo` is None. Raises UserError for what is no project."""
    project, _, which = name.partition("@")
    return check_project(project), which or None


def named(versions: Sequence[Version], project: str, which: str) -> Version:
    """The version of a project that `which` means: `v3`, `champion` (the active one) or `candidate` (the newest draft).

    Raises UserError where there is none, or several bases have a champion.
    """
    if not versions:
        raise UserError(f"there is no project {project!r} in the registry: register an adapter first")
    found = [version for version in versions if which in (f"v{version.number}", *aliases(version, versions))]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{project} has an active version for each of {len(found)} bases: name one of "
            f"{', '.join(version.name for version in found)}"
        )
    missing = "active version" if which == "champion" else "draft" if which == "candidate" else f"version {which!r}"
    raise UserError(f"{project} has no {missing}: name one of {', '.join(version.name for version in versions)}")


def aliases(version: Version, versions: Sequence[Version]) -> tuple[str, ...]:
    """Names that point to a version now: `champion` to the active one of its base, `candidate` to the newest draft."""
    drafts = [other.number for other in versions if other.status == DRAFT]
    champion = active_of(versions, version.base_hash) == version
    candidate = version.number == max(drafts, default=0)
    return ("champion",) * champion + ("candidate",) * candidate
