"""An adapter artifact on the Hugging Face hub: its three files and a model card, and nothing else.

The files are named one by one, so that neither a pickle nor what else may lie in the folder is sent.
"""

from __future__ import annotations

from pathlib import Path

from rlvr_cpp.adapters.metadata import HASHED, METADATA_FILE, read_metadata
from rlvr_cpp.adapters.registry.card import model_card
from rlvr_cpp.errors import UserError, first_line
from rlvr_cpp.runs.evidence import EvaluationRecord

PATIENCE = 3.0
"""Seconds to find out whether the hub can be reached at all."""


def push_artifact(folder: Path, repo: str, *, evidence: Path | None = None, private: bool = False) -> str:
    """Make `repo` on the hub, where it is missing, and commit the artifact to it; gives the commit's address.

    `evidence` is the `evaluation.json` whose numbers the card shows. Raises UserError where the folder holds no whole
    artifact, the evidence is of another adapter, or the hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_session

    metadata = read_metadata(folder)
    record = None if evidence is None else EvaluationRecord.load(evidence)
    if record is not None and record.adapter_hash != metadata.adapter_hash:
        raise UserError(f"{evidence} was measured with another adapter than the one in {folder}: give its own")
    card = model_card(repo.rpartition("/")[2], metadata, record).encode()
    files = [CommitOperationAdd(name, str(folder / name)) for name in (*HASHED, METADATA_FILE)]
    api = HfApi()
    try:
        get_session().head(api.endpoint, timeout=PATIENCE)
        place = api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(
            place.repo_id,
            [*files, CommitOperationAdd("README.md", card)],
            commit_message=f"Adapter {metadata.adapter_hash[:12]}",
        )
    except Exception as error:  # of the client's many kinds, and of the network's
        raise UserError(
            f"{folder} cannot be pushed to {repo!r} ({first_line(error)}): log in with `hf auth login`, see whether "
            "this machine reaches the hub, and push it again"
        ) from error
    return str(commit.commit_url)
