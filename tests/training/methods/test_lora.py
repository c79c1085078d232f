"""LoRA through peft: the right layers, the base as before, and files that plain peft reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from limpet.errors import UsageError
from limpet.home import Home
from limpet.training import methods
from limpet.training.base.tensor_digests import module_digest
from limpet.training.learning.settings import TrainingSettings
from tests.warm import Warm

QUICK = TrainingSettings(epochs=1, batch_size=8, dtype="float32")
LORA = methods.get("lora")


def test_all_linear_layers_of_the_blocks_are_adapted_and_the_pooler_never(home: Home) -> None:
    model = home.backbone().model
    config = LORA.resolve(model, {})
    module = LORA.attach(model, config)
    adapted = {name.split(".lora_A")[0] for name, _ in module.named_parameters() if ".lora_A" in name}
    LORA.detach(module)
    linear = {
        f"base_model.model.{name}" for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)
    }
    assert linear - adapted == {"base_model.model.pooler.dense"}


def test_attaching_and_detaching_again_and_again_leaves_the_base_as_it_was(home: Home) -> None:
    model = home.backbone().model
    before = module_digest(model)
    for _ in range(3):
        LORA.detach(LORA.attach(model, LORA.resolve(model, {"dora": True, "target_modules": "query"})))
    assert module_digest(model) == before
    assert not hasattr(model, "peft_config")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 8}, "rank"),
        ({"r": 0}, "at least 1"),
        ({"r": "eight"}, "must be int"),
        ({"r": 2.5}, "must be int"),
        ({"dropout": 1.0}, "dropout"),
        ({"alpha": 0}, "'alpha' of method 'lora' must be at least 1, not 0"),
        ({"alpha": "-4"}, "'alpha' of method 'lora' must be at least 1, not -4"),
        ({"dora": "perhaps"}, "must be bool"),
        ({"target_modules": "queries"}, "queries"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(home: Home, settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        LORA.resolve(home.backbone().model, settings)


def test_settings_as_typed_are_the_same_as_settings_as_meant(home: Home) -> None:
    model = home.backbone().model
    typed = LORA.resolve(model, {"r": "4", "rslora": "true", "alpha": "8"})
    assert typed == LORA.resolve(model, {"r": 4, "rslora": True, "alpha": 8})


def test_the_saved_configuration_is_the_same_text_in_every_process(home: Home, tmp_path: Path) -> None:
    home.train("place", QUICK)
    folder = home.adapter.export("place@1", tmp_path / "out")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["exclude_modules"] == ["pooler.dense"]
    assert config["task_type"] == "FEATURE_EXTRACTION"


PLAIN = """
import json, sys
sys.modules["limpet"] = None
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
base, folder, text = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder).eval()
inputs = AutoTokenizer.from_pretrained(base)(text, return_tensors="pt")
inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
head = load_file(folder + "/head.safetensors")
with torch.no_grad():
    hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    print(json.dumps((pooled @ head["weight"].T + head["bias"])[0].tolist()))
"""


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="lora"),
        pytest.param({"rslora": True}, id="rslora", marks=pytest.mark.slow),
        pytest.param({"dora": True}, id="dora", marks=pytest.mark.slow),
    ],
)
def test_plain_peft_without_limpet_gives_the_same_logits(
    home: Home, tmp_path: Path, warm: Warm, settings: dict[str, object]
) -> None:
    home.train("place", TrainingSettings(epochs=2, batch_size=8, dtype="float32", method_settings=settings))
    folder = home.adapter.export("place@1", tmp_path / "out")
    text = "old reef of salt and wave"
    printed = warm.python("-c", PLAIN, tmp_path / "base", folder, text)
    ours = torch.tensor(home.predict("place", [text])[0].logits)
    torch.testing.assert_close(ours, torch.tensor(json.loads(printed)), rtol=0, atol=1e-5)
