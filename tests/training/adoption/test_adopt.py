"""Adapters made by plain peft code elsewhere: taken in with their own logits, or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.home import Home
from limpet.training.learning.settings import TrainingSettings
from tests.tiny import change_one_weight, tiny_base
from tests.training.typed_data import write_rows

TEXTS = ["old reef of salt and wave", "a cliff", "near the moon the wind and the storm of a cloud"]


def plain_classifier(base: Path, folder: Path, labels: int = 3) -> torch.Tensor:
    """Make a random sequence-classification adapter with plain peft, save it, and return its logits for TEXTS."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels)
    config = LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"], init_lora_weights=False
    )
    adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(folder)
    tokens = AutoTokenizer.from_pretrained(base)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return adapted(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits


def plain_backbone(base: Path, folder: Path, targets: list[str] | None = None, rank: int = 4) -> Path:
    """Make a random adapter of the backbone alone, as plain peft saves it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    torch.manual_seed(4)
    config = LoraConfig(r=rank, target_modules=targets or ["query", "value"], init_lora_weights=False)
    get_peft_model(AutoModel.from_pretrained(base), config).save_pretrained(folder)
    return folder


def test_a_classifier_of_plain_peft_keeps_its_logits(home: Home, tmp_path: Path) -> None:
    expected = plain_classifier(tmp_path / "base", tmp_path / "elsewhere")
    version = home.adapter.register("place", tmp_path / "elsewhere").version
    logits = torch.tensor([answer.logits for answer in home.predict("place", TEXTS)])
    assert version.method == "lora"
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["multi-label", "regression", "token-classification"])
@pytest.mark.parametrize("headed", [True, False])
def test_adapters_for_other_types_of_task_keep_their_head_or_get_one(
    home: Home, tmp_path: Path, kind: str, headed: bool
) -> None:
    home.task.add("typed", write_rows(tmp_path / "typed.jsonl", kind), type=kind, max_length=16)
    labels = home.task.show("typed").labels
    expected = typed_outputs(tmp_path / "base", tmp_path / "elsewhere", kind, len(labels) or 1)
    folder = tmp_path / "elsewhere" if headed else plain_backbone(tmp_path / "base", tmp_path / "backbone")
    home.adapter.register("typed", folder)
    if not headed:
        return
    (answer,) = home.predict("typed", [TEXTS[0]])
    if kind == "regression":
        assert answer.value == pytest.approx(float(expected[0, 0]), abs=1e-5)
    elif kind == "multi-label":
        torch.testing.assert_close(torch.tensor(answer.probabilities), expected[0].sigmoid(), rtol=0, atol=1e-5)
    else:
        # words are tokens, between the one that begins a text and the one that ends it
        assert answer.tags == tuple(labels[place] for place in expected[0, 1:-1].argmax(dim=1))


def typed_outputs(base: Path, folder: Path, kind: str, outputs: int) -> torch.Tensor:
    """Make a random adapter with the head of a type of task, save it, and return its outputs for the first text."""
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    of_tokens = kind == "token-classification"
    name, task_type = ("TokenClassification", "TOKEN_CLS") if of_tokens else ("SequenceClassification", "SEQ_CLS")
    model = getattr(transformers, f"AutoModelFor{name}").from_pretrained(base, num_labels=outputs)
    config = LoraConfig(task_type=task_type, r=4, target_modules=["query"], init_lora_weights=False)
    adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(base)(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        return adapted(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits


def test_an_adapter_without_a_head_gets_one_and_keeps_its_tensors(home: Home, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = plain_backbone(tmp_path / "base", tmp_path / "elsewhere")
    version = home.adapter.register("place", folder).version
    exported = home.adapter.export("place@1", tmp_path / "out")
    ours = load_file(exported / "adapter_model.safetensors")
    theirs = load_file(folder / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert version.metrics["score"] >= 0.2


def test_the_head_that_is_fitted_makes_a_good_adapter_useful(home: Home, tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=8, batch_size=8, learning_rate=5e-3, dtype="float32")
    trained = home.train("place", settings).version
    exported = home.adapter.export("place@1", tmp_path / "out")
    for name in ("head.json", "head.safetensors"):
        (exported / name).unlink()
    version = home.adapter.register("place", exported).version
    assert version.number == 2
    assert version.metrics["score"] > trained.metrics["score"] - 0.2


def test_an_exported_version_is_taken_back_as_the_same_adapter(home: Home, tmp_path: Path) -> None:
    home.train("place", TrainingSettings(epochs=2, dtype="float32"))
    exported = home.adapter.export("place@1", tmp_path / "out")
    before = home.predict("place@1", TEXTS)
    home.adapter.register("place", exported)
    assert home.predict("place@2", TEXTS) == before


def test_registering_the_same_folder_twice_makes_one_version(home: Home, tmp_path: Path) -> None:
    folder = plain_backbone(tmp_path / "base", tmp_path / "elsewhere")
    assert home.adapter.register("place", folder).created
    again = home.adapter.register("place", folder)
    assert (again.created, again.version.reference) == (False, "place@1")


def test_a_head_with_another_number_of_labels_is_refused(home: Home, tmp_path: Path) -> None:
    plain_classifier(tmp_path / "base", tmp_path / "elsewhere", labels=5)
    with pytest.raises(IntegrityError, match="5 labels"):
        home.adapter.register("place", tmp_path / "elsewhere")


def test_an_adapter_of_a_wider_base_is_refused(home: Home, tmp_path: Path) -> None:
    wider = tiny_base(tmp_path / "wider", hidden=64)
    folder = plain_backbone(wider, tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="of another shape"):
        home.adapter.register("place", folder)


def test_an_adapter_whose_configuration_was_edited_is_refused(home: Home, tmp_path: Path) -> None:
    folder = plain_backbone(tmp_path / "base", tmp_path / "elsewhere")
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for change, error in ({"r": 8}, IntegrityError), ({"target_modules": ["nowhere"]}, UsageError):
        path.write_text(json.dumps(config | change), encoding="utf-8")
        with pytest.raises(error):
            home.adapter.register("place", folder)
    said = {"MAGIC": "'MAGIC' can't be", "XLORA": "trained before", "IA3": "8 tensors are unexpected"}
    for kind, reason in said.items():
        path.write_text(json.dumps(config | {"peft_type": kind}), encoding="utf-8")
        with pytest.raises((UsageError, IntegrityError), match=reason):
            home.adapter.register("place", folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(home: Home, tmp_path: Path, name: str) -> None:
    folder = plain_backbone(tmp_path / "base", tmp_path / "elsewhere")
    (folder / name).unlink()
    with pytest.raises(NotFoundError, match=name):
        home.adapter.register("place", folder)


def test_a_truncated_adapter_is_refused(home: Home, tmp_path: Path) -> None:
    folder = plain_backbone(tmp_path / "base", tmp_path / "elsewhere")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(IntegrityError):
        home.adapter.register("place", folder)


def test_the_base_with_one_weight_changed_takes_no_adapter(home: Home, tmp_path: Path) -> None:
    folder = plain_backbone(tmp_path / "base", tmp_path / "elsewhere")
    change_one_weight(tmp_path / "base")
    with pytest.raises(IntegrityError) as refused:
        home.adapter.register("place", folder)
    assert refused.value.exit_code == 5


def test_the_base_is_the_same_after_a_refusal(home: Home, tmp_path: Path) -> None:
    plain_classifier(tmp_path / "base", tmp_path / "elsewhere", labels=5)
    with pytest.raises(IntegrityError):
        home.adapter.register("place", tmp_path / "elsewhere")
    home.backbone().check_unchanged()
    assert home.train("place", TrainingSettings(epochs=1, dtype="float32")).created
