"""A twin samples what the original would have sampled at the last sync, and nothing else touches it."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from rlvr_cpp.policy.policy import load_policy
from rlvr_cpp.policy.sampling import sample
from rlvr_cpp.training.ahead.twin import Twin
from rlvr_cpp.training.logps import fuse_head
from tests.rlvr_cpp.training.decided import CPU, NF4


@pytest.fixture(scope="module", params=["adapter", "every weight", "adapter over nf4", "adapter on a hybrid"])
def original(request):
    if request.param == "adapter over nf4":
        pytest.importorskip("bitsandbytes")
    name = "tiny-hybrid" if request.param == "adapter on a hybrid" else "tiny-cpp"
    model = load_policy(name, NF4 if request.param == "adapter over nf4" else CPU).model
    if request.param != "every weight":
        settings = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
        model = get_peft_model(model, LoraConfig(**settings, init_lora_weights=False))
    fuse_head(model, 1.0)  # puts a forward of its own on the model, as trl does
    return model


def drawn(model, on_finished=lambda *_: None):
    with torch.no_grad():
        ends = {"eos_ids": [1], "pad_id": 0, "temperature": 1.0, "seeds": [1, 2], "on_finished": on_finished}
        return sample(model, [[5, 6, 7], [8, 9]], max_new_tokens=12, **ends)


def shift(model, by):
    with torch.no_grad():
        for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            parameter += by * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))


def test_a_twin_samples_with_the_weights_of_its_last_sync(original):
    original.eval()
    twin = Twin(original)
    before = drawn(original)
    assert drawn(twin.model) == before
    shift(original, 0.3)
    after = drawn(original)
    assert after != before
    assert drawn(twin.model) == before
    twin.sync()
    assert drawn(twin.model) == after


def test_sampling_from_a_twin_leaves_the_original_alone_all_the_while(original):
    def held():  # a state dict has the scales of quantised weights packed anew, in other memory
        return [*original.parameters(), *original.buffers()]

    before = [(value.data_ptr(), value.clone()) for value in held()]
    meanwhile = []

    def look(*_):
        meanwhile.append(
            all(v.data_ptr() == p and torch.equal(v, own) for v, (p, own) in zip(held(), before, strict=True))
        )

    drawn(Twin(original).model, look)
    assert meanwhile == [True, True]


def test_what_is_frozen_is_there_once(original):
    pairs = zip(Twin(original).model.parameters(), original.parameters(), strict=True)
    assert all((mine.data_ptr() == its.data_ptr()) is not its.requires_grad for mine, its in pairs)
