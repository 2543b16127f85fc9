"""What can happen to a version: it is registered, promoted, archived.

Each change becomes true by one step: a rename makes a version, the replacement of one file gives it another status.
Everything before that step is invisible to others, everything after it (the other version's status, the index) follows
from the folders and is made up for by whoever opens the registry next. So a process may be killed anywhere. What takes
time, copying, hashing and statistics, happens before the lock is taken, and what it rests on is looked at again after.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rlvr_cpp.adapters.metadata import HASHED, METADATA_FILE, AdapterMetadata, read_metadata
from rlvr_cpp.adapters.registry.gate import DEFAULT_RULE, Decision, Rule, decide
from rlvr_cpp.adapters.registry.index import opened
from rlvr_cpp.adapters.registry.versions import (
    ACTIVE,
    ADAPTER,
    ARCHIVED,
    DEPRECATED,
    DRAFT,
    EVIDENCE,
    STATE_FILE,
    Status,
    Transition,
    Version,
    active_of,
    check_project,
    checked_adapter,
    named,
    next_sequence,
    write_version,
)
from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.evidence import EvaluationRecord
from rlvr_cpp.runs.files import publish
from rlvr_cpp.runs.record import utc_now

DRAFTS = ".draft-"
ABANDONED = 24 * 3600.0  # seconds after which a draft's process is taken to be gone


def register(root: Path, artifact: Path, project: str) -> Version:
    """Copy an adapter artifact into the registry as the next version of a project, a draft.

    Raises UserError where the folder is no whole artifact or the project has these weights already.
    """
    metadata = read_metadata(artifact)
    place = root / check_project(project)
    place.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=DRAFTS, dir=place))
    try:
        draft.chmod(0o755)
        _copy(artifact, draft / ADAPTER, metadata)
        (draft / EVIDENCE).mkdir()
        with opened(root) as index:
            version = _next_version(index.versions(project), project, metadata)
            (draft / STATE_FILE).write_text(version.to_json())
            publish(draft, root / version.folder)
            index.refresh()
            _remove_abandoned(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return version


def promote(
    root: Path,
    project: str,
    which: str,
    new: EvaluationRecord | None,
    old: EvaluationRecord | None = None,
    *,
    rule: Rule = DEFAULT_RULE,
    force: bool = False,
    reason: str | None = None,
) -> Version:
    """Make a version the active one of its base; the one that was active is archived.

    `new` is the version's evaluation record. `old` is that of the active version, by default the one it was promoted
    with, or the base model's where none is active. Raises UserError where the rule does not hold and it is not forced,
    where force has no reason, or where another promotion was faster.
    """
    if force and not reason:
        raise UserError("reason is missing: a forced promotion says why (--force --reason TEXT)")
    with opened(root) as index:
        versions = index.versions(project)
    version = named(versions, project, which)
    incumbent = active_of(versions, version.base_hash)
    if version.status not in (DRAFT, ARCHIVED):
        raise UserError(f"{version.name} is {version.status}: only a draft or an archived version can be promoted")
    checked_adapter(root, version)
    decision = _decide(root, version, incumbent, new, old, rule)
    if decision.problems and not force:
        raise UserError(f"{version.name} stays {version.status}: {'; '.join(decision.problems)}")
    with opened(root) as index:
        now = index.versions(project)
        _refuse_overtaken(version, incumbent, now)
        for record in (new, old):
            if record is not None:
                record.save(root / version.folder / EVIDENCE / f"{record.record_id}.json")
        step = _transition(now, version.status, ACTIVE, reason)
        promoted = version.then(replace(step, evidence=decision.evidence or None, overridden=decision.problems))
        write_version(root, promoted)
        index.refresh()
    return promoted


def archive(root: Path, project: str, which: str, *, deprecate: bool = False, reason: str | None = None) -> Version:
    """Take a draft or the active version out of use, or `deprecate` an archived one for good.

    Raises UserError where the version's status does not lead there.
    """
    allowed = (ARCHIVED,) if deprecate else (DRAFT, ACTIVE)
    after: Status = DEPRECATED if deprecate else ARCHIVED
    with opened(root) as index:
        versions = index.versions(project)
        version = named(versions, project, which)
        if version.status not in allowed:
            raise UserError(f"{version.name} is {version.status}: only {' or '.join(allowed)} can become {after}")
        changed = version.then(_transition(versions, version.status, after, reason))
        write_version(root, changed)
        index.refresh()
    return changed


def stored_record(root: Path, version: Version) -> EvaluationRecord | None:
    """The evaluation record that a version last became active on.

    None where it never did, or was forced without one or with another adapter's.
    """
    step = version.activation
    if step is None or step.evidence is None:
        return None
    record = EvaluationRecord.load(root / version.folder / EVIDENCE / f"{step.evidence['new']}.json")
    return record if record.adapter_hash == version.adapter_hash else None


def _next_version(versions: Sequence[Version], project: str, metadata: AdapterMetadata) -> Version:
    twin = next((version for version in versions if version.adapter_hash == metadata.adapter_hash), None)
    if twin is not None:
        raise UserError(f"these weights are {twin.name} already: register another adapter, or promote {twin.name}")
    return Version(
        project=project,
        number=1 + max((version.number for version in versions), default=0),
        adapter_hash=metadata.adapter_hash,
        artifact_id=metadata.artifact_id,
        base_model=metadata.base_model,
        base_hash=metadata.base_hash,
        training_method=metadata.training_method,
        history=(_transition(versions, None, DRAFT),),
    )


def _transition(
    versions: Sequence[Version], before: Status | None, after: Status, reason: str | None = None
) -> Transition:
    """The next one of a project, made now by whoever runs this."""
    return Transition(
        sequence=next_sequence(versions), when=utc_now(), who=_who(), before=before, after=after, reason=reason
    )


def _copy(artifact: Path, place: Path, metadata: AdapterMetadata) -> None:
    """The artifact's own files and no others. Raises UserError where one changed meanwhile."""
    place.mkdir()
    for name in (METADATA_FILE, *HASHED):
        shutil.copyfile(artifact / name, place / name)
    if read_metadata(place) != metadata:
        raise UserError(f"{artifact} changed while it was copied: register it again")


def _remove_abandoned(place: Path) -> None:
    for draft in place.glob(f"{DRAFTS}*"):
        with suppress(FileNotFoundError):  # others come and go
            if time.time() - draft.stat().st_mtime > ABANDONED:
                shutil.rmtree(draft, ignore_errors=True)


def _decide(
    root: Path,
    version: Version,
    incumbent: Version | None,
    new: EvaluationRecord | None,
    old: EvaluationRecord | None,
    rule: Rule,
) -> Decision:
    if old is None and incumbent is not None:
        old = stored_record(root, incumbent)
    if new is not None and old is not None:
        return decide(version, incumbent, new, old, rule)
    missing = f"there is no evaluation record of {version.name} (--evidence)"
    if new is not None:
        missing = (
            f"there is no evaluation record of {'the base model' if incumbent is None else incumbent.name} (--against)"
        )
    return Decision((missing,), {})


def _refuse_overtaken(version: Version, incumbent: Version | None, now: Sequence[Version]) -> None:
    """Raise UserError where the decision rests on what is not so any more."""
    active = active_of(now, version.base_hash)
    if active != incumbent and active is not None:
        step = active.history[-1]
        raise UserError(
            f"{version.name} stays {version.status}: meanwhile {active.name} became active (by {step.who}, "
            f"{step.when}), compare with that one and promote again"
        )
    if active != incumbent or version not in now:
        raise UserError(f"{version.name} or the active version was changed meanwhile: look at it and promote again")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
