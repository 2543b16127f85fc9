"""The addresses that frameworks were told before these modules moved."""

import importlib

import pytest


@pytest.mark.parametrize("name", ["trl", "verl", "verifiers"])
def test_a_former_address_tells_the_new_one(name):
    for _ in range(2):  # an import that failed once must not leave half a module behind
        with pytest.raises(ImportError) as told:
            importlib.import_module(f"rlvr_cpp.adapters.{name}")
        assert str(told.value) == f"rlvr_cpp.adapters.{name} has moved: it is rlvr_cpp.reward.{name} now"
    importlib.import_module(f"rlvr_cpp.reward.{name}")
