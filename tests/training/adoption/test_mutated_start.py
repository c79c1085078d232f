"""Adapters whose beginning changed the base: by the initial adapter they are told as what they change of the base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from limpet.errors import IntegrityError, UsageError
from limpet.home import Home
from tests.training.adoption.test_adopt import TEXTS, plain_backbone


def mutated(base: Path, folder: Path, start: str | bool, **settings: object) -> torch.Tensor:
    """Train (at random) a classifier that began so; save it before and after, and return its logits."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(7)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    config = LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"], init_lora_weights=start, **settings
    )
    adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(folder / "before")
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    adapted.save_pretrained(folder / "after")
    tokens = AutoTokenizer.from_pretrained(base)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = adapted(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    # as peft's documentation has it, so that the initial adapter can be loaded again
    path = folder / "before" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_lora_weights": True}))
    if settings.get("use_rslora") is None:
        initial = str(folder / "before")
        adapted.save_pretrained(folder / "converted", path_initial_model_for_weight_conversion=initial)
    return logits


@pytest.mark.parametrize(
    ("start", "settings"),
    [("pissa", {}), ("olora", {"rank_pattern": {"query": 2}}), ("pissa", {"use_rslora": True})],
    ids=["pissa", "olora", "rslora"],
)
def test_its_logits_on_the_residual_base_are_those_on_the_base_itself(
    home: Home, tmp_path: Path, start: str, settings: dict[str, object]
) -> None:
    expected = mutated(tmp_path / "base", tmp_path, start, **settings)
    with pytest.raises(UsageError, match=f"init_lora_weights is '{start}', which makes peft change .*--initial"):
        home.adapter.register("place", tmp_path / "after")
    version = home.adapter.register("place", tmp_path / "after", initial=tmp_path / "before").version
    logits = torch.tensor([answer.logits for answer in home.predict("place", TEXTS)])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    if "use_rslora" not in settings:
        ours = load_file(home.adapter.export(version.reference, tmp_path / "out") / "adapter_model.safetensors")
        theirs = load_file(tmp_path / "converted" / "adapter_model.safetensors")
        # what peft's own conversion writes, by the names of its class, and without the head
        assert {name.replace(".bert.", "."): tensor.tolist() for name, tensor in theirs.items()} == {
            name: tensor.tolist() for name, tensor in ours.items()
        }


def test_an_initial_adapter_of_another_shape_or_beginning_is_refused(home: Home, tmp_path: Path) -> None:
    mutated(tmp_path / "base", tmp_path, "pissa")
    other = plain_backbone(tmp_path / "base", tmp_path / "other", rank=2)
    with pytest.raises(IntegrityError, match=r"another r\."):
        home.adapter.register("place", tmp_path / "after", initial=other)
    path = tmp_path / "after" / "adapter_config.json"
    config = json.loads(path.read_text())
    for change, reason in (
        ({"init_lora_weights": "loftq"}, "began as LoftQ"),
        ({"init_lora_weights": "gaussian"}, "changes no weight of the base"),
        ({"use_dora": True}, "more than a low-rank update"),
        ({"peft_type": "IA3"}, "belongs to a LoRA"),
    ):
        path.write_text(json.dumps(config | change))
        with pytest.raises(UsageError, match=reason):
            home.adapter.register("place", tmp_path / "after", initial=tmp_path / "before")
