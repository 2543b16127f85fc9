"""A version's copy in an MLflow model registry, for teams that look there. Ours stays the truth.

A project is a registered model, a version a model version with tags; MLflow gave up stages for aliases and tags, so
the status is a tag and `champion` and `candidate` are aliases. MLflow counts its own versions: ours is in the tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlvr_cpp.adapters.registry.versions import Version
from rlvr_cpp.errors import UserError, first_line


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """What MLflow is told of a version."""

    model: str
    source: str
    description: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]


def mirror_of(version: Version, adapter: Path, aliases: tuple[str, ...]) -> Mirror:
    """The mapping; `adapter` is the artifact's folder."""
    step = version.activation
    tags = {
        "rlvr_cpp.version": version.name,
        "rlvr_cpp.status": version.status,
        "rlvr_cpp.forced": str(version.forced).lower(),
        "rlvr_cpp.adapter_hash": version.adapter_hash,
        "rlvr_cpp.artifact_id": version.artifact_id,
        "rlvr_cpp.base_model": version.base_model,
        "rlvr_cpp.base_hash": version.base_hash,
        "rlvr_cpp.training_method": version.training_method,
    }
    if step is not None and step.evidence is not None:
        tags["rlvr_cpp.evaluation_record"] = step.evidence["new"]
        for measure, facts in step.evidence["measured"].items():
            tags[f"rlvr_cpp.{measure.replace(' ', '_').replace('@', '_at_')}"] = f"{facts['new']:.4f}"
    description = f"{version.name}: a {version.training_method} adapter for {version.base_model}"
    return Mirror(
        model=version.project,
        source=adapter.resolve().as_uri(),
        description=description,
        tags=tags,
        aliases=aliases,
    )


def push(mirror: Mirror, uri: str) -> str:
    """Write a mirror to the registry at `uri`; the number that MLflow gave it. The same artifact is written once.

    Raises UserError where mlflow is not installed or the registry does not take it.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        raise UserError(f"--mlflow needs the extra 'mlflow' ({error}): pip install 'rlvr-cpp[mlflow]'") from error
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if not client.search_registered_models(f"name = '{mirror.model}'"):
            client.create_registered_model(mirror.model)
        known = client.search_model_versions(f"name = '{mirror.model}'")
        artifact = mirror.tags["rlvr_cpp.artifact_id"]
        same = [found for found in known if found.tags.get("rlvr_cpp.artifact_id") == artifact]
        version = (
            same[0]
            if same
            else client.create_model_version(
                mirror.model, mirror.source, tags=dict(mirror.tags), description=mirror.description
            )
        )
        for key, value in mirror.tags.items():
            client.set_model_version_tag(mirror.model, version.version, key, value)
        for alias in mirror.aliases:
            client.set_registered_model_alias(mirror.model, alias, version.version)
    except MlflowException as error:
        reason = first_line(error)
        raise UserError(
            f"the MLflow registry at {uri} did not take {mirror.tags['rlvr_cpp.version']}: {reason}"
        ) from error
    return str(version.version)
