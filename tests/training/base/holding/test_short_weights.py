"""Weights of 16 bits are held once, and give in float32 the very bits of weights that are held in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from limpet.training.base.holding.short_weights import hold_as_stored
from limpet.training.base.precision import autocast
from limpet.training.base.pretrained import load_pretrained
from tests import tiny

IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]])
FAMILY = {"t5": "encoder-decoder", "bart": "encoder-decoder", "bert": "encoder", "modernbert": "encoder"}


def stored_in(folder: Path, kind: str, dtype: torch.dtype) -> Path:
    base = tiny.tiny_base(folder / kind, kind)
    path = base / "model.safetensors"
    save_file(
        {k: t.to(dtype) if t.is_floating_point() else t for k, t in load_file(path).items()}, path, {"format": "pt"}
    )
    return base


def load(folder: Path, kind: str, dtype: torch.dtype) -> nn.Module:
    family = FAMILY.get(kind, "decoder")
    return load_pretrained(folder, family, dtype=dtype, attn_implementation="eager").model.eval()


def outputs(model: nn.Module, dtype: str) -> torch.Tensor:
    inputs = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = IDS
    with torch.inference_mode(), autocast("cpu", dtype):
        return next(iter(model(**inputs).values()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "opt", "bert", "modernbert", "t5", "bart"])
def test_products_in_float32_have_the_bits_of_weights_held_in_float32(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    folder = stored_in(tmp_path, kind, dtype)
    held, whole = load(folder, kind, dtype), load(folder, kind, torch.float32)
    assert hold_as_stored(held) == (kind != "t5")
    expected = outputs(whole, "float32")
    assert expected.dtype == torch.float32
    assert torch.equal(outputs(held, "float32"), expected)
    bits = {parameter.dtype for parameter in held.parameters()}
    assert bits == ({torch.float32} if kind == "t5" else {dtype})
