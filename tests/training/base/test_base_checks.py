"""Bases that are not whole, not numbers or not alone: refused with the reason, before a home is made on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError, LimpetError, UnavailableError, UsageError
from limpet.home import init
from limpet.registry.records import bases as kept
from limpet.registry.store import Store
from limpet.registry.values import BaseRecord
from limpet.training.base.backbone import load_backbone
from limpet.training.base.locate import describe, resolve
from limpet.training.base.tensor_digests import module_digest
from tests.migrated import with_database
from tests.tiny import WORDS
from tests.training.adoption.test_adopt import plain_backbone, plain_classifier

Tensors = dict[str, torch.Tensor]
WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"


class Notes:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path, base_folder: Path) -> Path:
    return shutil.copytree(base_folder, tmp_path / "model")


def edit(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def configure(folder: Path, file: str = "config.json", **changes: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def refused(folder: Path, kind: type[LimpetError]) -> LimpetError:
    with pytest.raises(LimpetError) as caught:
        describe(resolve(str(folder)))
    assert type(caught.value) is kind, caught.value
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module"])
def test_weights_that_are_named_under_a_wrapper_are_refused_with_the_way_to_unwrap(model: Path, wrapper: str) -> None:
    edit(model, lambda tensors: {f"{wrapper}.{name}": tensor for name, tensor in tensors.items()})
    error = refused(model, UsageError)
    assert "39 of 39 weights" in error.message
    assert f"under the wrapper {wrapper!r}, such as {wrapper}.embeddings.LayerNorm.bias" in error.message
    assert "save_pretrained(NEW)" in error.hint


def test_weights_that_the_files_lack_are_counted_and_the_first_named(model: Path) -> None:
    edit(model, lambda tensors: {name: t for name, t in tensors.items() if "layer.1" not in name})
    message = refused(model, UsageError).message
    assert "16 of 39 weights" in message
    assert "encoder.layer.1.attention.output.LayerNorm.bias" in message
    assert "and 13 more" in message


def test_a_refused_base_leaves_no_home(model: Path, tmp_path: Path) -> None:
    edit(model, lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()})
    with pytest.raises(UsageError):
        init(tmp_path / "home", base=str(model), mlflow="off")
    assert not (tmp_path / "home").exists()


def test_a_base_whose_files_lost_weights_after_it_was_kept_is_refused_at_load(store: Store, model: Path) -> None:
    good = describe(resolve(str(model)))
    edit(model, lambda tensors: {name: t for name, t in tensors.items() if "layer.1" not in name})
    # a home of an earlier release, which kept such a base
    from limpet.registry.base_fingerprint import fingerprint_folder
    from limpet.registry.cache import cache_folder

    found = fingerprint_folder(model, cache_folder() / "fingerprints")
    record = kept.add(store, BaseRecord(**{**vars(good), "digest": found.digest, "weights_digest": found.weights}))
    with pytest.raises(UsageError, match="16 of 39 weights"):
        load_backbone(store, record)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(model: Path, value: float) -> None:
    def spoil(tensors: Tensors) -> Tensors:
        tensors[WORD_EMBEDDINGS][3, 1] = value
        return tensors

    edit(model, spoil)
    error = refused(model, IntegrityError)
    assert f"1 hold NaN or infinity ({WORD_EMBEDDINGS})" in error.message
    # the second time it is remembered, not read
    refused(model, IntegrityError)


def test_what_the_model_has_no_use_for_may_be_anything(model: Path) -> None:
    edit(model, lambda tensors: tensors | {"cls.predictions.bias": torch.tensor([float("inf")])})
    assert describe(resolve(str(model))).architecture == "bert"


def test_weights_of_another_shape_than_the_configuration_says_are_refused(model: Path) -> None:
    configure(model, vocab_size=len(WORDS) + 1)
    assert f"{WORD_EMBEDDINGS} is (33, 32), not (34, 32)" in refused(model, UsageError).message


def test_a_tokenizer_with_more_words_than_the_model_is_refused(model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["barnacle", "whelk"])
    tokenizer.save_pretrained(model)
    assert "2, the first 'barnacle' with id 33; the model has 33" in refused(model, UsageError).message


def test_a_tokenizer_without_pad_and_end_token_is_refused(model: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer.from_file(str(model / "tokenizer.json"))
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]").save_pretrained(model)
    assert "no pad token and no end token" in refused(model, UsageError).message


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        ("gptq", "needs optimum and gptqmodel, and optimum and gptqmodel are not installed"),
        ("awq", "needs gptqmodel, and gptqmodel is not installed"),
        ("aqlm", "needs aqlm, and aqlm is not installed"),
    ],
)
def test_weights_that_a_library_reads_which_is_not_here_are_refused_with_its_name(
    model: Path, method: str, needed: str
) -> None:
    configure(model, quantization_config={"quant_method": method, "bits": 4})
    error = refused(model, UnavailableError)
    assert f"stored quantised ({method}), which {needed}" in error.message
    assert error.hint.startswith("pip install ") and ".gguf" in error.hint


@pytest.mark.parametrize("settings", [{"quant_method": "mine"}, {"bits": 4}])
def test_weights_that_no_known_library_reads_are_refused(model: Path, settings: dict[str, object]) -> None:
    configure(model, quantization_config=settings)
    assert "knows no library that reads them" in refused(model, UsageError).message


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_found_where_the_configuration_does_not_tell(model: Path, dtype: torch.dtype) -> None:
    edit(model, lambda tensors: tensors | {"encoder.layer.0.output.dense.weight": torch.ones(32, 64).to(dtype)})
    assert "1 of the weights" in refused(model, UsageError).message


# a pooler


def without_pooler(folder: Path) -> Path:
    edit(folder, lambda tensors: {name: t for name, t in tensors.items() if "pooler" not in name})
    return folder


def test_a_missing_pooler_is_named_and_drawn_nowhere(store: Store, model: Path) -> None:
    notes: Any = Notes()
    record = kept.add(store, describe(resolve(str(without_pooler(model))), notes))
    assert notes.notes == [
        f"the files of {model} have no pooler.dense.bias, pooler.dense.weight: what reads these is refused, "
        "all else works"
    ]
    backbone = load_backbone(store, record)
    assert not backbone.pooled
    assert not backbone.model.pooler.dense.weight.any()


def test_only_what_reads_a_missing_pooler_is_refused(model: Path, tmp_path: Path) -> None:
    from tests.tiny import tiny_csv

    home = init(with_database(tmp_path / "home"), base=str(without_pooler(model)), mlflow="off")
    home.task.add("place", f"csv:{tiny_csv(tmp_path / 'place.csv')}", max_length=16)
    plain_classifier(model, tmp_path / "classifier")
    with pytest.raises(IntegrityError, match="reads the base's pooler, which its files do not have"):
        home.adapter.register("place", tmp_path / "classifier")
    assert home.adapter.register("place", plain_backbone(model, tmp_path / "backbone")).created


# what lies beside the model


def with_code(folder: Path, proof: Path) -> None:
    (folder / "mine.py").write_text(
        f"open({str(proof)!r}, 'w')\nfrom transformers import *\nConfig = BertConfig\nModel = BertModel\n"
    )
    (folder / "tokenizers_own.py").write_text(f"open({str(proof)!r}, 'w')\n")
    configure(folder, auto_map={"AutoConfig": "mine.Config", "AutoModel": "mine.Model"})
    auto_map = {"AutoTokenizer": [None, "tokenizers_own.Words"]}
    configure(folder, "tokenizer_config.json", auto_map=auto_map)


def test_code_of_a_base_is_neither_run_nor_offered(
    store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("the terminal was asked")

    monkeypatch.setattr("builtins.input", asked)
    with_code(model, tmp_path / "it-ran")
    load_backbone(store, kept.add(store, describe(resolve(str(model)))))
    assert not (tmp_path / "it-ran").exists()


def test_an_adapter_beside_the_model_is_not_loaded_into_the_base(store: Store, model: Path, tmp_path: Path) -> None:
    plain = load_backbone(store, kept.add(store, describe(resolve(str(model)))))
    beside = shutil.copytree(model, tmp_path / "beside")
    plain_backbone(model, beside)
    assert (beside / "adapter_config.json").exists()
    record = describe(resolve(str(beside)))
    assert record.digest == plain.record.digest
    loaded = load_backbone(store, kept.add(store, record))
    assert module_digest(loaded.model) == module_digest(plain.model)
    assert type(loaded.model) is type(plain.model)


def test_a_base_knows_where_its_tokenizer_came_from(store: Store, model: Path) -> None:
    backbone = load_backbone(store, kept.add(store, describe(resolve(str(model)))))
    assert Path(backbone.model.name_or_path) == model
    assert Path(backbone.tokenizer.name_or_path) == model
