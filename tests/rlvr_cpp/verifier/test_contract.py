"""What must be equal before two numbers may be compared."""

import json

import pytest

from rlvr_cpp import Verifier
from rlvr_cpp.runs.files import contract_hash, differing_fields
from rlvr_cpp.verifier.contract import strongest_level, verifier_contract
from rlvr_sandbox.controls import LEVELS


def contract(**settings):
    with Verifier(workers=1, **settings) as verifier:
        return verifier_contract(verifier)


def test_a_contract_is_plain_json_and_does_not_depend_on_speed():
    first = contract()
    assert json.loads(json.dumps(first)) == first
    with Verifier(workers=3) as verifier:
        assert verifier_contract(verifier) == first
    assert first["compiler"] == "g++"
    assert "-std=c++17" in first["flags"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"timeout": 3.0}, "timeout"),
        ({"compile_timeout": 7.0}, "compile_timeout"),
        ({"extra_flags": ["-O2"]}, "flags"),
        ({"extra_flags": ["-lm"]}, "flags"),
        ({"memory": 1 << 28}, "memory"),
    ],
)
def test_whatever_may_change_a_verdict_changes_the_hash(settings, field):
    first, second = contract(), contract(**settings)
    assert contract_hash(first) != contract_hash(second)
    (told,) = differing_fields(first, second)
    assert told.startswith(f"{field}: ")


def test_the_hash_does_not_depend_on_the_order():
    fields = contract()
    assert contract_hash(dict(reversed(fields.items()))) == contract_hash(fields)


def test_isolation_is_the_strongest_level_that_was_active():
    assert strongest_level(LEVELS["full"]) == "full"
    assert strongest_level(tuple(name for name in LEVELS["full"] if name != "memory")) == "contained"
    assert strongest_level(("limits",)) == "any"
