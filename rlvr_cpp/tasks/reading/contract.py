"""Under which rules an answer got its verdict: how a program was found in it, and how that was judged."""

from __future__ import annotations

from typing import Any

from rlvr_cpp.verifier.contract import verifier_contract
from rlvr_cpp.verifier.verifier import Verifier

READING_VERSION = 2
"""Raised when the same completion may be read as another program than before: records and resumed runs compare it."""


def answer_contract(verifier: Verifier) -> dict[str, Any]:
    """The verifier's contract and the version of the rules by which answers are read, as plain JSON."""
    return {**verifier_contract(verifier), "reading_version": READING_VERSION}
