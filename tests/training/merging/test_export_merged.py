"""A version exported merged is a model that plain transformers loads, with the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

from limpet.errors import ConflictError, IntegrityError, UsageError
from limpet.home import Home
from limpet.training.learning.settings import TrainingSettings

TEXTS = ["the wave and the old reef", "wind star far moon", "iron"]


def plain_logits(folder: Path) -> torch.Tensor:
    """What the exported folder answers, without limpet: the mean over the text, then one linear layer."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", padding=True)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    head = load_file(folder / "head.safetensors")
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1)
    return linear((hidden * weights).sum(dim=1) / weights.sum(dim=1), head["weight"], head["bias"])


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_plain_transformers_gives_the_logits_of_the_version(home: Home, method: str, tmp_path: Path) -> None:
    settings = TrainingSettings(method=method, epochs=2, learning_rate=3e-2)
    home.train("place", settings, monitor=False)
    before = {path: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    folder = home.adapter.export("place@1", tmp_path / "merged", merged=True)
    ours = torch.tensor([answer.logits for answer in home.predict("place@1", TEXTS)])
    assert (plain_logits(folder) - ours).abs().max() <= 1e-5
    assert json.loads((folder / "head.json").read_text())["pooling"] == "mean"
    assert json.loads((folder / "labels.json").read_text()) == ["rock", "sea", "sky"]
    assert not {"adapter_config.json", "adapter_model.safetensors"} & {path.name for path in folder.iterdir()}
    assert {path: path.read_bytes() for path in (tmp_path / "base").iterdir()} == before
    home.backbone().check_unchanged()


def test_what_can_not_be_merged_is_refused_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    home.train("place", TrainingSettings(method="bottleneck", epochs=1), monitor=False)
    with pytest.raises(UsageError, match="can't be merged"):
        home.adapter.export("place@1", tmp_path / "merged", merged=True)
    with pytest.raises(UsageError, match="never a bundle"):
        home.adapter.export("place@1", tmp_path / "merged.limpet", merged=True)
    assert not list(tmp_path.glob("*merged*"))


def test_a_folder_with_something_in_it_is_left_as_it_is(home: Home, tmp_path: Path) -> None:
    home.train("place", TrainingSettings(epochs=1), monitor=False)
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "notes.txt").write_text("mine")
    with pytest.raises(ConflictError, match="not an empty folder"):
        home.adapter.export("place@1", tmp_path / "merged", merged=True)
    assert [path.name for path in (tmp_path / "merged").iterdir()] == ["notes.txt"]


def test_a_corrupt_version_leaves_no_folder(home: Home, tmp_path: Path) -> None:
    version = home.train("place", TrainingSettings(epochs=1), monitor=False).version
    (file,) = (one for one in version.files if one.name == "adapter_model.safetensors")
    path = home.store.blobs.path(file.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError):
        home.adapter.export("place@1", tmp_path / "merged", merged=True)
    assert not list(tmp_path.glob("*merged*"))
