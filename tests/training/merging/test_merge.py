"""Merging: the same answers as with the adapter, the base's own layers and no others, and the base as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError, UsageError
from limpet.home import Home, init
from limpet.registry import versions
from limpet.training import methods
from limpet.training.base.shared_copy import shared_copy
from limpet.training.base.tensor_digests import module_digest
from limpet.training.learning.settings import TrainingSettings
from limpet.training.merging.merge import merged, merged_module
from limpet.training.model.method_compatibility import INPUTS
from limpet.training.model.task_model import TaskModel, active
from tests.migrated import with_database
from tests.tiny import KINDS, tiny_base
from tests.training.methods.table import load_tiny

WEIGHTS = "adapter_model.safetensors"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("lora", {}),
    ("lora", {"rslora": True, "r": 4}),
    ("lora", {"dora": True}),
    ("ia3", {}),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny model of every architecture; tests must not change them."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: load_tiny(tiny_base(folder / kind, kind)) for kind in KINDS}


def random_adapter(model: Any, method: methods.Method, settings: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Save an adapter that changes the model's answers a lot."""
    config = method.resolve(model, settings)
    module = method.attach(model, config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in (p for p in module.parameters() if p.requires_grad):
            parameter.add_(0.03 * torch.randn_like(parameter))
    method.save(module, "a base", folder)
    method.detach(module)
    return {path.name: path for path in folder.iterdir()}


def hidden(module: Any, config: Any) -> torch.Tensor:
    more = {"decoder_input_ids": INPUTS["input_ids"]} if config.is_encoder_decoder else {}
    with torch.inference_mode():
        states: torch.Tensor = module(**INPUTS, **more).last_hidden_state
    return states


@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    # the variants of LoRA are merged by the same lines for every architecture
    [(kind, *case) for kind in KINDS for case in CASES if kind in ("bert", "gpt2", "t5") or len(case[1]) == 0],
    ids=str,
)
def test_a_merged_model_answers_as_with_the_adapter_and_has_no_layer_more_than_the_base(
    models: dict[str, Any], kind: str, name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    model, method = models[kind], methods.get(name)
    before, plain = module_digest(model), hidden(model, model.config)
    files = random_adapter(model, method, settings, tmp_path)
    attached = method.load(model, files)
    with_adapter = hidden(attached, model.config)
    method.detach(attached)
    merged_in = merged_module(model, method, files)
    assert (with_adapter - plain).abs().max() > 1e-4
    assert (hidden(merged_in, model.config) - with_adapter).abs().max() <= 1e-5
    assert {key: type(part) for key, part in merged_in.named_modules()} == {
        key: type(part) for key, part in model.named_modules()
    }
    assert module_digest(model) == before
    assert torch.equal(hidden(model, model.config), plain)


def test_only_the_adapted_weights_are_copied(models: dict[str, Any], tmp_path: Path) -> None:
    model, method = models["bert"], methods.get("lora")
    files = random_adapter(model, method, {"target_modules": "query,value"}, tmp_path)
    theirs = {key: parameter.data_ptr() for key, parameter in model.named_parameters()}
    ours = merged_module(model, method, files).named_parameters()
    copied = {key for key, parameter in ours if parameter.data_ptr() != theirs[key]}
    assert copied == {key for key in theirs if key.rsplit(".", 2)[-2] in ("query", "value")}


def test_a_learned_version_is_merged_with_its_head(home: Home) -> None:
    version = home.train("place", TrainingSettings(epochs=2, learning_rate=1e-2), monitor=False).version
    backbone, files = home.backbone(), versions.files(home.store, version)
    with torch.inference_mode():
        with active(backbone, "lora", files, head=files) as model:
            unmerged = model(**INPUTS)
        with merged(backbone, "lora", files, head=files) as model:
            assert (model(**INPUTS) - unmerged).abs().max() <= 1e-5
    backbone.check_unchanged()


@pytest.mark.slow
def test_a_lora_learned_on_the_sample_base_is_merged(
    sample_wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = init(with_database(tmp_path / "home"), base="sample:minilm", mlflow="off")
    home.task.add("bbc-news", "sample:bbc-news", train_size=160, eval_size=50, max_length=64)
    version = home.train("bbc-news", TrainingSettings(epochs=2), monitor=False).version
    backbone, files = home.backbone(), versions.files(home.store, version)
    batch = backbone.tokenizer(
        ["Shares fell.", "The final was won in extra time."], return_tensors="pt", padding=True
    )
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        with active(backbone, "lora", files, head=files) as model:
            unmerged = model(**inputs)
        plain = TaskModel(backbone.model, model.head, frozenset())(**inputs)
        with merged(backbone, "lora", files, head=files) as model:
            assert (model(**inputs) - unmerged).abs().max() <= 1e-5
    assert (plain - unmerged).abs().max() > 0.05


def test_a_base_that_is_changed_while_something_is_merged_is_found(home: Home) -> None:
    version = home.train("place", TrainingSettings(epochs=1), monitor=False).version
    backbone, files = home.backbone(), versions.files(home.store, version)
    refused = pytest.raises(IntegrityError, match="changed in memory")
    with refused, merged(backbone, "lora", files, head=files), torch.no_grad():
        next(backbone.model.parameters()).add_(1e-3)


def test_what_is_no_change_of_weights_can_not_be_merged(home: Home) -> None:
    refused = pytest.raises(UsageError, match="'bottleneck' learns is not a change of the base's weights")
    with refused as caught, merged(home.backbone(), "bottleneck", {}, head={}):
        pass
    assert caught.value.hint == "limpet methods"


def test_a_merged_weight_that_is_not_finite_is_refused(models: dict[str, Any], tmp_path: Path) -> None:
    model, method = models["bert"], methods.get("lora")
    files = random_adapter(model, method, {}, tmp_path)
    tensors = {name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(files[WEIGHTS]).items()}
    save_file(tensors, files[WEIGHTS])
    with pytest.raises(IntegrityError, match="can't be merged"):
        merged_module(model, method, files)


def test_a_shared_copy_has_its_own_modules_over_the_same_tensors(models: dict[str, Any]) -> None:
    for model in models.values():
        twin = shared_copy(model)
        theirs, ours = dict(model.named_modules()), dict(twin.named_modules())
        assert theirs.keys() == ours.keys()
        assert not {id(part) for part in theirs.values()} & {id(part) for part in ours.values()}
        pairs = zip(model.state_dict().values(), twin.state_dict().values(), strict=True)
        assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)
