"""The base's own language-model head: the whole model's logits, and a base that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError, UsageError
from limpet.home import init
from limpet.training.base.lm_head import LanguageHead, inner_model, split_head
from limpet.training.base.pretrained import load_pretrained
from limpet.training.base.tensor_digests import module_digest
from tests.migrated import with_database
from tests.tiny import tiny_base

DECODERS = ("gpt2", "llama", "qwen2", "opt")
PAIRS = ("t5", "bart")
OPTIONS: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager", "local_files_only": True}
IDS = torch.tensor([[7, 8, 15, 3, 11]])


def whole_model(folder: Path, kind: str) -> Any:
    auto = transformers.AutoModelForSeq2SeqLM if kind in PAIRS else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, **OPTIONS).eval()


def without_head(folder: Path) -> Path:
    """Take the head out of a saved Llama, whose embeddings are not shared with it."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["lm_head.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("kind", (*DECODERS, *PAIRS))
def test_the_head_gives_the_logits_of_the_whole_model_and_leaves_the_base_alone(tmp_path: Path, kind: str) -> None:
    folder = tiny_base(tmp_path / kind, kind)
    model, head = split_head(load_pretrained(folder, "encoder-decoder" if kind in PAIRS else "decoder", **OPTIONS))
    assert head is not None
    plain = transformers.AutoModel.from_pretrained(folder, **OPTIONS)
    assert module_digest(model) == module_digest(plain)
    assert type(model) is type(plain)
    inputs = {"input_ids": IDS} | ({"decoder_input_ids": IDS} if kind in PAIRS else {})
    with torch.inference_mode():
        expected = whole_model(folder, kind)(**inputs).logits
        ours = head(model(**inputs).last_hidden_state, inner_model(model).get_input_embeddings().weight)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_a_base_without_a_head_says_so_instead_of_drawing_one(tmp_path: Path) -> None:
    home = init(with_database(tmp_path / "home"), base=str(without_head(tiny_base(tmp_path / "llama", "llama"))))
    backbone = home.backbone()
    assert backbone.lm_head is None
    with pytest.raises(UsageError, match="without a language-model head"):
        backbone.language_head()


def test_an_encoder_has_no_head(tmp_path: Path) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "bert")))
    with pytest.raises(UsageError, match="is an encoder"):
        home.backbone().language_head()


def test_a_changed_head_is_a_changed_base(tmp_path: Path) -> None:
    backbone = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "llama", "llama"))).backbone()
    head = backbone.language_head()
    assert head.weight is not None
    backbone.check_unchanged()
    head.weight[0, 0] += 1e-3
    with pytest.raises(IntegrityError, match="changed in memory"):
        backbone.check_unchanged()


def test_a_head_that_is_more_than_a_linear_layer_is_not_taken_for_one(tmp_path: Path) -> None:
    config = transformers.Gemma2Config(
        vocab_size=41, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.01,
    )  # fmt: skip
    transformers.Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    assert split_head(load_pretrained(tmp_path, "decoder", **OPTIONS))[1] is None
    config.final_logit_softcapping = None
    transformers.Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    assert isinstance(split_head(load_pretrained(tmp_path, "decoder", **OPTIONS))[1], LanguageHead)
