"""Bottleneck adapters give what the independent package `adapters` gives with the same weights.

What it gave was recorded by `record_adapters.py`, in an environment with an older transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from limpet.training import methods

BOTTLENECK = methods.get("bottleneck")
FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.safetensors"))
# Houlsby's were equal to the last bit where this was written; Pfeiffer's sums are taken in another order
TOLERANCE = 2e-6


def read(kind: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    path = next(path for path in FIXTURES if path.stem == kind)
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def cases() -> list[tuple[str, str]]:
    """Architectures and placements that limpet and the package have in common."""
    both = [(path.stem, placement) for path in FIXTURES for placement in ("houlsby", "pfeiffer")]
    return [(kind, placement) for kind, placement in both if part(read(kind)[1], placement)]


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): t for key, t in tensors.items() if key.startswith(f"{name}/")}


def answer(model: Any, tensors: dict[str, Tensor]) -> Tensor:
    """The last hidden states of the texts' tokens, without those of padding."""
    ids, mask = tensors["input_ids"], tensors["attention_mask"]
    decoder = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        hidden: Tensor = model(input_ids=ids, attention_mask=mask, **decoder).last_hidden_state
    return hidden[mask.bool()]


@pytest.mark.parametrize(("kind", "placement"), cases())
def test_the_package_adapters_computes_the_same(tmp_path: Path, kind: str, placement: str) -> None:
    import transformers

    metadata, tensors = read(kind)
    adapter = part(tensors, placement)
    config = transformers.AutoConfig.for_model(kind, **json.loads(metadata["sizes"]))
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    model.load_state_dict(part(tensors, "base"))
    mask = tensors["attention_mask"].bool()
    # whatever an older transformers does differently would show here
    torch.testing.assert_close(answer(model, tensors), tensors["hidden/none"][mask], rtol=0, atol=TOLERANCE)
    settings = BOTTLENECK.resolve(model, {"placement": placement, "size": 2})
    fresh = BOTTLENECK.attach(model, settings)
    BOTTLENECK.save(fresh, kind, tmp_path)
    BOTTLENECK.detach(fresh)
    save_file(adapter, tmp_path / "adapter_model.safetensors")
    loaded = BOTTLENECK.load(model, {path.name: path for path in tmp_path.iterdir()})
    theirs = tensors[f"hidden/{placement}"][mask]
    torch.testing.assert_close(answer(loaded, tensors), theirs, rtol=0, atol=TOLERANCE)
    assert not torch.allclose(theirs, tensors["hidden/none"][mask], atol=0.1), "these adapters do nothing"


def test_both_placements_were_recorded_widely() -> None:
    placements = [placement for _, placement in cases()]
    assert (placements.count("houlsby"), placements.count("pfeiffer")) == (9, 7)
