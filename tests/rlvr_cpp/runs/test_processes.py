"""How processes share work, and what their launcher told them."""

import pytest

from rlvr_cpp.runs.processes import sharding, share_of


@pytest.mark.parametrize(("items", "count"), [(7, 2), (8, 2), (1, 3), (5, 8), (0, 2), (9, 4)])
def test_every_item_is_somebodys_and_all_have_as_many(monkeypatch, items, count):
    monkeypatch.setenv("WORLD_SIZE", str(count))
    shares = []
    for rank in range(count):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(share_of(range(items)))
    assert {item for share in shares for item in share} == set(range(items))
    assert {len(share) for share in shares} == {-(-items // count)}
    assert all(len(set(share)) == len(share) for share in shares)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({}, None),
        ({"ACCELERATE_USE_FSDP": "false"}, None),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
    ],
)
def test_what_is_shared_out_is_what_the_launcher_says(monkeypatch, told, kind):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert sharding() == kind
