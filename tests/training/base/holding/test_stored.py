"""Checkpoints that are stored quantised: held as their files are, or written out, and learned on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpet.errors import UnavailableError, UsageError
from limpet.home import Home, init
from limpet.training import methods
from limpet.training.base import locate
from limpet.training.base.holding.quantised import QuantisedLinear
from limpet.training.base.pretrained import load_pretrained
from tests import tiny
from tests.training.learning.test_learn import QUICK

Tensors = dict[str, torch.Tensor]
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
MASK = torch.ones_like(IDS)


def rewrite(folder: Path, quantisation: dict[str, object], change: Callable[[str, torch.Tensor], Tensors]) -> Path:
    """Store the weights of linear layers in another way."""
    path, config = folder / "model.safetensors", folder / "config.json"
    tensors: Tensors = {}
    for name, tensor in load_file(path).items():
        tensors |= change(name, tensor) if "proj.weight" in name else {name: tensor.to(torch.bfloat16)}
    save_file(tensors, path, {"format": "pt"})
    settings = json.loads(config.read_text()) | {"dtype": "bfloat16", "quantization_config": quantisation}
    config.write_text(json.dumps(settings))
    return folder


def in_fp8(name: str, weight: torch.Tensor) -> Tensors:
    """In blocks of 16 numbers by 16 with a scale of their own."""
    rows, columns = (size // 16 for size in weight.shape)
    blocks = weight.view(rows, 16, columns, 16)
    scales = blocks.abs().amax((1, 3)) / 448
    short = (blocks / scales[:, None, :, None]).view_as(weight).to(torch.float8_e4m3fn)
    return {name: short, f"{name}_scale_inv": scales}


def without_scales(name: str, weight: torch.Tensor) -> Tensors:
    return {name: weight.to(torch.float8_e4m3fn)}


def with_wrong_scales(name: str, weight: torch.Tensor) -> Tensors:
    return {key: tensor * float("nan") if "scale" in key else tensor for key, tensor in in_fp8(name, weight).items()}


FP8: dict[str, object] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}


@pytest.fixture(scope="module")
def in_bytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tiny.enliven(tiny.tiny_base(tmp_path_factory.mktemp("fp8") / "base", "llama"))
    return rewrite(base, FP8, in_fp8)


def test_weights_of_8_bit_floats_are_written_out(in_bytes: Path, tmp_path: Path) -> None:
    home = init(tmp_path / "home", base=str(in_bytes), mlflow="off")
    record, model = home.base.show(), home.backbone().model
    assert record.location["stored"] == "fp8"
    tensors = load_file(in_bytes / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    scales = tensors[f"{name}_scale_inv"].repeat_interleave(16, 0).repeat_interleave(16, 1)
    meant = tensors[name].float() * scales
    held = model.get_parameter("layers.0.mlp.up_proj.weight")
    assert held.dtype == torch.bfloat16
    assert torch.allclose(held.float(), meant, rtol=2**-8, atol=0)
    scale_numbers = sum(tensor.numel() for key, tensor in tensors.items() if "scale" in key)
    assert record.parameters == sum(tensor.numel() for tensor in tensors.values()) - scale_numbers
    assert not hasattr(model.config, "quantization_config")
    assert home.base.verify() == record
    assert not methods.obstacle(methods.get("full"), record)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_scales, r"14 of the weights .* stored quantised \(fp8\) without the scales"),
        (with_wrong_scales, "can't be used here: its answers are no numbers"),
    ],
)
def test_weights_that_their_scales_do_not_make_numbers_of_are_refused(
    change: Callable[[str, torch.Tensor], Tensors], said: str, tmp_path: Path
) -> None:
    base = rewrite(tiny.tiny_base(tmp_path / "base", "llama"), FP8, change)
    with pytest.raises(UsageError, match=said):
        locate.describe(locate.resolve(str(base)))


def test_weights_that_are_stored_quantised_are_held_in_no_other_way(in_bytes: Path) -> None:
    with pytest.raises(UsageError, match=r"stored quantised \(fp8\) and held as they are, not in nf4"):
        locate.resolve(f"{in_bytes}#nf4")


def saved(folder: Path, kind: str, **settings: object) -> Path:
    """Quantise a tiny base by transformers' own means and save it, as people do."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    # its own products on processors need blocks of 64 numbers that are full
    base = tiny.enliven(tiny.tiny_base(folder / "whole", kind, hidden=64))
    auto = AutoModel if kind == "bert" else AutoModelForCausalLM
    dtype = torch.float16 if "load_in_8bit" in settings else torch.bfloat16
    model = auto.from_pretrained(base, quantization_config=BitsAndBytesConfig(**settings), dtype=dtype)
    model.save_pretrained(folder / "stored")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "stored")
    return folder / "stored"


STORED = {
    "nf4": ("llama", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}),
    "fp4": ("llama", {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}),
    "int8": ("llama", {"load_in_8bit": True}),
    "nf4 of an encoder": ("bert", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
    "nf4 of a GPT-2": ("gpt2", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
}


@pytest.fixture(scope="module", params=STORED)
def home(request: pytest.FixtureRequest, library: None, tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("stored")
    kind, settings = STORED[request.param]
    home = init(folder / "home", base=str(saved(folder, kind, **settings)), mlflow="off")
    home.task.add("place", f"csv:{tiny.tiny_csv(folder / 'place.csv', rows=45)}", max_length=16)
    return home


@pytest.mark.slow
def test_a_base_that_bitsandbytes_stored_is_held_in_the_bits_of_its_files(home: Home) -> None:
    record, model = home.base.show(), home.backbone().model
    kinds = Counter(layer.weight.dtype for layer in model.modules() if isinstance(layer, QuantisedLinear))
    expected = torch.int8 if record.location["stored"] == "int8" else torch.uint8
    assert set(kinds) == {expected} and kinds.total() >= 8
    whole = locate.describe(locate.resolve(str(Path(record.location["path"]).with_name("whole"))))
    assert record.parameters == whole.parameters
    assert record.digest != whole.digest and record.weights_digest != whole.weights_digest
    # the files alone decide what it is
    assert "recipe" not in record.location
    assert home.base.verify() == record


@pytest.mark.slow
def test_it_answers_as_transformers_own_loading_does(home: Home) -> None:
    record, model = home.base.show(), home.backbone().model
    own = load_pretrained(Path(record.location["path"]), record.family, dtype="auto").model.eval()
    with torch.inference_mode():
        expected = getattr(own, own.base_model_prefix, own)(input_ids=IDS, attention_mask=MASK).last_hidden_state
        answers = model(input_ids=IDS, attention_mask=MASK).last_hidden_state
    difference = (answers.float() - expected.float()).norm() / expected.float().norm()
    # it computes in 16 bits throughout, and its products in int8 round their inputs too
    assert float(difference) < 0.03


@pytest.mark.slow
def test_it_is_learned_on_and_the_same_afterwards(home: Home) -> None:
    version = home.train("place", replace(QUICK, epochs=1), monitor=False).version
    assert version.base_digest == home.base.show().digest
    home.backbone().check_unchanged()
    with pytest.raises(UsageError, match="which are quantised"):
        home.train("place", replace(QUICK, method="full"), monitor=False)


@pytest.mark.slow
def test_without_the_library_it_is_refused_with_the_extra(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from limpet.training.base.holding import stored

    monkeypatch.setattr(stored, "_is_installed", lambda package: False)
    with pytest.raises(UnavailableError, match="needs bitsandbytes, and bitsandbytes is not installed") as caught:
        locate.describe(locate.resolve(home.base.show().name))
    assert caught.value.hint.startswith("pip install 'limpet[quantised]'; or name the model")
