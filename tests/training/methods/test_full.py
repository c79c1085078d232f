"""Full fine-tuning: on a copy, saved whole, and loaded as it was."""

from __future__ import annotations

import torch

from limpet.home import Home
from limpet.registry import versions
from limpet.training import methods
from limpet.training.learning.settings import TrainingSettings

FULL = methods.get("full")


def test_the_copy_shares_no_memory_with_the_base(home: Home) -> None:
    model = home.backbone().model
    copied = FULL.attach(model, {})
    addresses = {parameter.data_ptr() for parameter in model.parameters()}
    assert addresses.isdisjoint({parameter.data_ptr() for parameter in copied.parameters()})
    assert all(parameter.requires_grad for parameter in copied.parameters())


def test_all_weights_are_counted_and_come_back(home: Home) -> None:
    version = home.train("place", TrainingSettings(method="full", epochs=1, dtype="float32")).version
    backbone = home.backbone()
    assert version.cost["trainable_share"] > 1.0
    module = FULL.load(backbone.model, versions.files(home.store, version))
    same = [
        torch.equal(ours, theirs)
        for (name, ours), theirs in zip(module.named_parameters(), backbone.model.parameters(), strict=True)
        if "pooler" not in name
    ]
    assert not any(same)
