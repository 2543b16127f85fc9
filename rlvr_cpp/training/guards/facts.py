"""What decides a reward: noted when a run begins and compared when it goes on, for then it belongs to the run.

A swapped compiler, an edited task or another chat template makes another reward of the same completion, and nothing in
the metrics tells. Settings are not among the facts: the record has the whole config.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Sequence
from typing import Any

from rlvr_cpp.policy.chat import CHAT_REQUEST
from rlvr_cpp.policy.policy import Policy
from rlvr_cpp.reward.own import own_reward_facts
from rlvr_cpp.tasks.reading.contract import answer_contract
from rlvr_cpp.tasks.sources import Source
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.config import TrainingJob
from rlvr_cpp.verifier.coverage import find_gcov
from rlvr_cpp.verifier.toolchain.store import content_key
from rlvr_cpp.verifier.toolchain.tidy import find_tidy
from rlvr_cpp.verifier.verifier import Verifier


def reward_facts(
    job: TrainingJob,
    policy: Policy,
    verifier: Verifier,
    sources: Sequence[Source],
    training: Sequence[Task],
    held_out: Sequence[Task],
) -> dict[str, Any]:
    """All of `FACTS` but for those of weights, as JSON has them."""
    return {
        "tasks": {
            source.name: content_key([[task.to_json() for task in source.among(part)] for part in (training, held_out)])
            for source in sources
        },
        "contract": answer_contract(verifier),
        "compiler": verifier.toolchain.compiler,
        "controls": sorted(verifier.workshop.controls.names),
        "tools": _tools(job, verifier),
        "reward": own_reward_facts(job.reward.kind),
        "prompt": prompt_facts(policy),
    }


def prompt_facts(policy: Policy) -> dict[str, Any]:
    """How a task becomes tokens, and tokens a text."""
    tokenizer = policy.tokenizer
    facts: dict[str, Any] = {"chat": policy.chat, "tokenizer": _hash_of(_tokenizer_state(tokenizer))}
    if policy.chat:
        facts |= {"template": _hash_of(tokenizer.chat_template), "request": _hash_of(CHAT_REQUEST)}
        facts |= {"asked": dataclasses.asdict(policy.asked)}
    facts["thoughts"] = {"markers": [list(pair) for pair in policy.thoughts.markers], "open": policy.thoughts.are_open}
    return facts


def _tokenizer_state(tokenizer: Any) -> Any:
    if not tokenizer.is_fast:
        return sorted(tokenizer.get_vocab().items())
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: part for name, part in state.items() if name not in ("padding", "truncation")}  # of the last call


def _tools(job: TrainingJob, verifier: Verifier) -> dict[str, str]:
    """The version of each tool that this job reads programs with."""
    found = {}
    if job.reward.kind == "shaped" and job.reward.tidy_fraction and (tidy := find_tidy()):
        found["clang-tidy"] = _version([tidy])
    if job.stepcoder.fgo in ("coverage", "both") and (gcov := find_gcov(verifier.workshop)):
        found["gcov"] = _version(gcov)
    return found


def _version(tool: Sequence[str]) -> str:
    lines = subprocess.run([*tool, "--version"], capture_output=True, text=True).stdout.splitlines()
    return next((line.strip() for line in lines if any(letter.isdigit() for letter in line)), "unknown")


def _hash_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
