"""Partial fine-tuning: the top layers alone are copied, trained, saved and loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError, UsageError
from limpet.home import Home
from limpet.registry import versions
from limpet.training import methods
from limpet.training.learning.settings import TrainingSettings

PARTIAL = methods.get("partial")


def test_only_the_top_layers_are_saved_and_they_have_moved(home: Home) -> None:
    settings = TrainingSettings("partial", epochs=1, dtype="float32", method_settings={"layers": 1})
    version = home.train("place", settings).version
    model = home.backbone().model
    saved = load_file(versions.files(home.store, version)["model.safetensors"])
    own = dict(model.named_parameters())
    assert set(saved) == {name for name in own if name.startswith("encoder.layer.1.")}
    assert all(not torch.equal(saved[name], own[name]) for name in saved)
    assert version.cost["trainable_parameters"] == sum(t.numel() for t in saved.values()) + 32 * 3 + 3


def test_what_is_not_trained_is_shared_with_the_base(home: Home) -> None:
    model = home.backbone().model
    module = PARTIAL.attach(model, PARTIAL.resolve(model, {"layers": "1"}))
    base = {parameter.data_ptr() for parameter in model.parameters()}
    own = {name for name, parameter in module.named_parameters() if parameter.data_ptr() not in base}
    assert own == {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert all(name.startswith("model.encoder.layer.1.") for name in own)


def test_no_dropout_acts_below_what_is_trained(home: Home) -> None:
    model = home.backbone().model
    module = PARTIAL.attach(model, PARTIAL.resolve(model, {"layers": 1})).train()
    training = {name for name, one in module.named_modules() if one.training and name}
    assert training
    assert all(name.startswith("model.encoder.layer.1") for name in training)
    assert not any(one.training for one in module.eval().modules())


def test_more_layers_than_the_base_has_are_refused(home: Home) -> None:
    for layers in ("3", "0"):
        with pytest.raises(UsageError, match="has 2 layers"):
            PARTIAL.resolve(home.backbone().model, {"layers": layers})


def test_files_of_other_layers_or_shapes_are_refused(home: Home, tmp_path: Path) -> None:
    version = home.train("place", TrainingSettings("partial", epochs=1, dtype="float32")).version
    files = versions.files(home.store, version)
    tensors = load_file(files["model.safetensors"])
    damaged = tmp_path / "model.safetensors"
    name = sorted(tensors)[0]
    for content in (
        {key: tensor for key, tensor in tensors.items() if key != name},
        tensors | {name: torch.zeros(3)},
        tensors | {"embeddings.word_embeddings.weight": torch.zeros(3)},
        {},
    ):
        save_file(content, damaged)
        with pytest.raises(IntegrityError):
            PARTIAL.load(home.backbone().model, {"model.safetensors": damaged})
    shutil.copyfile(files["model.safetensors"], damaged)
    PARTIAL.load(home.backbone().model, {"model.safetensors": damaged})
    with pytest.raises(IntegrityError, match=r"no model\.safetensors"):
        PARTIAL.load(home.backbone().model, {})
