"""Prefix, prompt and p-tuning, and IA3: where they begin, what is saved, and what plain peft makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from limpet.errors import UsageError
from limpet.home import Home, init
from limpet.training import methods
from limpet.training.base.backbone import positions
from limpet.training.base.tensor_digests import module_digest
from limpet.training.learning.settings import TrainingSettings
from tests.migrated import with_database
from tests.tiny import tiny_base, tiny_csv
from tests.training.methods.table import load_tiny
from tests.warm import Warm

PROMPT, PREFIX, P_TUNING = methods.get("prompt"), methods.get("prefix"), methods.get("p-tuning")
SETTINGS: dict[str, tuple[str, dict[str, object]]] = {
    "prefix": ("prefix", {}),
    "prefix with projection": ("prefix", {"projection": True, "virtual_tokens": 3}),
    "prompt": ("prompt", {"init": "vocabulary"}),
    "p-tuning": ("p-tuning", {}),
    "p-tuning by lstm": ("p-tuning", {"encoder": "lstm", "virtual_tokens": 3}),
    "ia3": ("ia3", {}),
}
TEXT = "old reef of salt and wave"
PLAIN = """
import json, sys
sys.modules["limpet"] = None
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
base, text, *folders = sys.argv[1:]
answers = []
for folder in folders:
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder).eval()
    inputs = AutoTokenizer.from_pretrained(base)(text, return_tensors="pt")
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    head = load_file(folder + "/head.safetensors")
    with torch.no_grad():
        # virtual tokens stand in front, and the head reads the text
        hidden = model(**inputs).last_hidden_state[:, -inputs["input_ids"].shape[1]:]
        answers.append((hidden.mean(1) @ head["weight"].T + head["bias"])[0].tolist())
print(json.dumps(answers))
"""


def test_plain_peft_without_limpet_gives_the_same_logits(home: Home, tmp_path: Path, warm: Warm) -> None:
    folders, ours = [], []
    for name, (method, settings) in SETTINGS.items():
        training = TrainingSettings(method, epochs=1, batch_size=8, dtype="float32", method_settings=settings)
        version = home.train("place", training).version
        folders.append(str(home.adapter.export(version.reference, tmp_path / name)))
        ours.append(home.predict(version.reference, [TEXT])[0].logits)
    theirs = json.loads(warm.python("-c", PLAIN, tmp_path / "base", TEXT, *folders))
    for name, mine, plain in zip(SETTINGS, ours, theirs, strict=True):
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(plain), rtol=0, atol=1e-5, msg=name)


def test_what_computes_a_prompt_is_trained_and_left_away(home: Home, tmp_path: Path) -> None:
    model = home.backbone().model
    for name in ("prefix with projection", "p-tuning", "p-tuning by lstm"):
        method = methods.get(SETTINGS[name][0])
        config = method.resolve(model, SETTINGS[name][1])
        module = method.attach(model, config)
        trained = {key for key, parameter in module.named_parameters() if parameter.requires_grad}
        assert len(trained) > 1, "nothing but the prompt itself is trained"
        folder = tmp_path / name
        folder.mkdir()
        method.save(module, "a base", folder)
        method.detach(module)
        (saved,) = load_file(folder / "adapter_model.safetensors").items()
        wide = 2 * 2 * 32 if method is PREFIX else 32
        assert (saved[0], tuple(saved[1].shape)) == ("prompt_embeddings", (config["virtual_tokens"], wide))
        again = method.load(model, {path.name: path for path in folder.iterdir()})
        (parameter,) = [p for p in again.parameters() if p.requires_grad]
        assert torch.equal(parameter, saved[1])
        method.detach(again)


def beginning(model: Any, settings: dict[str, object]) -> torch.Tensor:
    torch.manual_seed(0)
    module = PROMPT.attach(model, PROMPT.resolve(model, settings))
    (values,) = [p.detach().clone() for p in module.parameters() if p.requires_grad]
    PROMPT.detach(module)
    return values


def test_a_prompt_begins_at_random_at_words_or_at_a_text(home: Home) -> None:
    model = home.backbone().model
    words = model.get_input_embeddings().weight
    drawn = beginning(model, {"virtual_tokens": 30})
    assert drawn.abs().max() <= 0.5
    assert drawn.std() == pytest.approx(1 / 12**0.5, rel=0.1)
    for row in beginning(model, {"init": "vocabulary"}):
        assert any(torch.equal(row, word) for word in words)
    tokens = home.backbone().tokenizer("salt and wave", add_special_tokens=False)["input_ids"]
    from_text = beginning(model, {"init": "text", "text": "salt and wave", "virtual_tokens": 5})
    assert torch.equal(from_text, words[[*tokens, *tokens][:5]])


def test_a_virtual_token_is_as_wide_as_a_word_not_as_the_hidden_states(tmp_path: Path) -> None:
    model = load_tiny(tiny_base(tmp_path / "electra", "electra"))
    assert model.config.hidden_size == 32
    assert beginning(model, {}).shape == (20, 16)


def test_virtual_tokens_leave_room_for_themselves(home: Home, tmp_path: Path) -> None:
    home.task.add("long", f"csv:{tmp_path / 'place.csv'}", max_length=64)
    for method, left in ("prompt", 40), ("prefix", 40), ("p-tuning", 40), ("bottleneck", 64):
        version = home.train("long", TrainingSettings(method, epochs=1, dtype="float32")).version
        assert version.config["max_length"] == left
        home.predict(version.reference, ["salt " * 200])
    with pytest.raises(UsageError, match="takes 63 of the 64 positions"):
        home.train("long", TrainingSettings("prompt", method_settings={"virtual_tokens": 63}))


def test_roberta_counts_its_positions_from_behind_the_padding(tmp_path: Path) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "roberta", "roberta")), mlflow="off")
    assert positions(home.backbone().model) == 63
    home.task.add("place", f"csv:{tiny_csv(tmp_path / 'place.csv')}", max_length=64)
    version = home.train("place", TrainingSettings("prefix", epochs=1, dtype="float32")).version
    home.predict(version.reference, ["salt " * 200])


def test_a_text_prompt_of_plain_peft_is_taken_in_without_its_tokenizer(home: Home, tmp_path: Path) -> None:
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModel

    base, folder = tmp_path / "base", tmp_path / "elsewhere"
    config = PromptTuningConfig(
        task_type="FEATURE_EXTRACTION",
        num_virtual_tokens=4,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text="salt and wave",
        tokenizer_name_or_path=str(base),
    )
    get_peft_model(AutoModel.from_pretrained(base), config).save_pretrained(folder)
    path = folder / "adapter_config.json"
    text = path.read_text(encoding="utf-8").replace(json.dumps(str(base)), '"nobody/has-this"')
    path.write_text(text, encoding="utf-8")
    version = home.adapter.register("place", folder).version
    assert (version.method, version.config["method"]) == ("prompt", {"virtual_tokens": 4})
    exported = home.adapter.export(version.reference, tmp_path / "out")
    (ours,) = load_file(exported / "adapter_model.safetensors").values()
    (theirs,) = load_file(folder / "adapter_model.safetensors").values()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "method", ["bottleneck", "prefix", "p-tuning", "ia3", "peft:loha", "peft:vera", "peft:psoft"]
)
def test_an_exported_version_is_taken_back_as_the_same_adapter(home: Home, tmp_path: Path, method: str) -> None:
    home.train("place", TrainingSettings(method, epochs=1, dtype="float32"))
    exported = home.adapter.export("place@1", tmp_path / "out")
    before = home.predict("place@1", [TEXT])
    version = home.adapter.register("place", exported).version
    assert version.method == method
    assert version.cost["trainable_parameters"] > 0
    assert home.predict("place@2", [TEXT]) == before


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("prompt", {"virtual_tokens": "0"}, "'virtual_tokens' of method 'prompt' must be at least 1, not 0"),
        ("prompt", {"init": "words"}, "random, vocabulary, text"),
        ("prompt", {"init": "text"}, "belong together"),
        ("prompt", {"text": "salt"}, "belong together"),
        ("prefix", {"virtual_token": "3"}, "Did you mean virtual_tokens"),
        ("prefix", {"projection": "perhaps"}, "must be bool"),
        (
            "prefix",
            {"projection": "true", "projection_size": "0"},
            "'projection_size' .* at least 1, not 0",
        ),
        ("prefix", {"projection_size": "8"}, "projection=true alone"),
        ("p-tuning", {"encoder": "gru"}, "must be one of mlp, lstm, not 'gru'"),
        ("p-tuning", {"encoder_layers": "3"}, "lstm encoder alone"),
        (
            "p-tuning",
            {"encoder": "lstm", "encoder_layers": "0"},
            "'encoder_layers' .* at least 1",
        ),
        ("p-tuning", {"encoder": "lstm", "encoder_dropout": "1"}, r"must be in \[0, 1\), not 1.0"),
        ("p-tuning", {"encoder_size": "-1"}, "'encoder_size' of method 'p-tuning' must be at least 1, not -1"),
        ("ia3", {"r": "3"}, "has no setting 'r'"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(home: Home, method: str, settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        methods.get(method).resolve(home.backbone().model, settings)


def test_attaching_and_detaching_again_and_again_leaves_the_base_as_it_was(home: Home) -> None:
    model = home.backbone().model
    before, attributes = module_digest(model), set(vars(model))
    for method in (PREFIX, PROMPT, P_TUNING, PREFIX):
        method.detach(method.attach(model, method.resolve(model, {})))
    assert module_digest(model) == before
    assert set(vars(model)) == attributes
