"""The computed size of a file of tensors is the size of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from limpet.training import methods
from limpet.training.base.checkpoint_size import full_checkpoint_size, safetensors_size
from tests.tiny import KINDS, tiny_base
from tests.training.methods.table import load_tiny


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_checkpoint_has_the_size_that_was_computed_from_the_base(kind: str, tmp_path: Path) -> None:
    model = load_tiny(tiny_base(tmp_path / "base", kind))
    full = methods.get("full")
    full.save(full.attach(model, {}), "a base", tmp_path)
    assert full_checkpoint_size(model) == (tmp_path / "model.safetensors").stat().st_size


def test_tensors_of_every_kind_and_name_count(tmp_path: Path) -> None:
    kinds = (torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
    tensors: dict[str, Tensor] = {
        f"tensor {index}": torch.ones(3, index + 1, dtype=kind) for index, kind in enumerate(kinds)
    }
    tensors |= {'é"': torch.ones(()), "nothing": torch.ones(0, 4)}
    save_file(tensors, tmp_path / "all.safetensors", metadata={"format": "pt"})
    assert safetensors_size(tensors) == (tmp_path / "all.safetensors").stat().st_size
