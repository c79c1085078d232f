"""Folders that peft did not save so: each wrong field and tensor is named, and all of them at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError, LimpetError, UsageError
from limpet.home import Home
from tests.tiny import tiny_base
from tests.training.adoption.test_adopt import plain_backbone, plain_classifier

QUERY = "base_model.model.encoder.layer.0.attention.self.query.lora_A.weight"


@pytest.fixture
def folder(home: Home, tmp_path: Path) -> Path:
    return plain_backbone(tmp_path / "base", tmp_path / "elsewhere")


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def refused(home: Home, folder: Path, kind: type[LimpetError]) -> str:
    with pytest.raises(LimpetError) as error:
        home.adapter.register("place", folder)
    assert type(error.value) is kind, error.value
    assert home.adapter.list().items == ()
    home.backbone().check_unchanged()
    return error.value.message


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("r", "four", "r is 'four', and must be a whole number"),
        ("r", True, "r is True, and must be a whole number"),
        ("r", 0, "r is 0, and must be 1 or more"),
        ("lora_alpha", None, "lora_alpha is None, and must be a number"),
        ("lora_alpha", -1, "lora_alpha is -1, and must be 0 or more"),
        ("lora_dropout", "0.1", "lora_dropout is '0.1', and must be a number"),
        ("use_dora", 1, "use_dora is 1, and must be true or false"),
        ("bias", "all", "bias makes peft change the base's own biases"),
        ("target_modules", 7, "target_modules is 7, and must be a text or a list of a text or null"),
        ("target_modules", ["nowhere"], "target_modules is ['nowhere'], which matches no module of this base"),
        ("target_modules", "encoder.nowhere", "target_modules is 'encoder.nowhere', which matches no module"),
        ("target_modules", "(a+", "holds '(a+', which is no pattern"),
        ("layers_pattern", "(a+)+$", "holds '(a+)+$', which could take for ever to match"),
        ("rank_pattern", {"nowhere": 4}, "rank_pattern names 'nowhere'"),
        ("rank_pattern", {"query": "4"}, "rank_pattern gives 'query' '4', which is no rank"),
        ("alpha_pattern", {"query": []}, "alpha_pattern gives 'query' [], which is no number"),
        ("layers_to_transform", {"0": 1}, "layers_to_transform is {'0': 1}"),
        ("init_lora_weights", "pissa", "init_lora_weights is 'pissa', which makes peft change the base's weights"),
        ("layer_replication", [[0, 1]], "layer_replication makes peft change the base itself"),
        ("megatron_config", {"a": 1}, "megatron_config makes peft import a module"),
        ("use_qalora", True, "use_qalora makes peft build more than a low-rank update"),
        ("ensure_weight_tying", True, "makes peft change the base's language-model head"),
    ],
    ids=str,
)
def test_a_field_of_the_configuration_is_named(home: Home, folder: Path, field: str, value: Any, said: str) -> None:
    configure(folder, **{field: value})
    assert said in refused(home, folder, UsageError)


def test_all_that_is_wrong_is_said_at_once(home: Home, folder: Path) -> None:
    configure(folder, colour="red", lora_dropout="none", peft_version="99.0")

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[QUERY][0, 0] = float("nan")
        tensors["base_model.model.extra.lora_A.weight"] = torch.zeros(2, 2)
        del tensors[QUERY.replace("lora_A", "lora_B")]

    edit(folder, change)
    message = refused(home, folder, IntegrityError)
    short = QUERY.removeprefix("base_model.model.")
    for said in (
        "colour is 'red', and no field that peft",
        "lora_dropout is 'none'",
        f"1 tensor is not finite (NaN or infinity): {short}",
        f"1 tensor is missing: {short.replace('lora_A', 'lora_B')}",
        "1 tensor is unexpected: extra.lora_A.weight",
    ):
        assert f"\n  {said}" in message


def test_another_rank_is_told_from_another_shape(home: Home, folder: Path, tmp_path: Path) -> None:
    configure(folder, r=8)
    message = refused(home, folder, IntegrityError)
    assert "8 tensors are of another rank than the configuration says" in message
    assert "attention.self.query.lora_A.weight has 4, not 8" in message
    assert message.endswith(" and 3 more")
    wider = plain_backbone(tiny_base(tmp_path / "wider", hidden=64), tmp_path / "wide-adapter")
    message = refused(home, wider, IntegrityError)
    assert "8 tensors are of another shape than this base needs" in message
    assert "attention.self.query.lora_A.weight is (4, 64), not (4, 32)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(home: Home, folder: Path, value: float) -> None:
    edit(folder, lambda tensors: tensors[QUERY].fill_(value))
    assert "not finite" in refused(home, folder, IntegrityError)


def test_whole_numbers_are_no_weights(home: Home, folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(torch.int64)}))
    assert "1 tensor is not of floating-point numbers" in refused(home, folder, IntegrityError)


def test_a_rank_that_would_fill_the_memory_is_refused_without_asking_for_it(home: Home, folder: Path) -> None:
    configure(folder, r=10**12)
    assert "has 4, not 1000000000000" in refused(home, folder, IntegrityError)


def test_a_head_of_another_width_is_refused(home: Home, tmp_path: Path) -> None:
    wider = tiny_base(tmp_path / "wider", hidden=64)
    plain_classifier(wider, tmp_path / "elsewhere", labels=2)
    message = refused(home, tmp_path / "elsewhere", IntegrityError)
    assert "the head has 2 labels, but task 'place' has 3" in message
    assert "the head reads 64 features, and the base gives 32" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("head.json", b"{"),
        ("head.json", b'{"type": "classification", "pooling": "mean", "hidden_size": 1000000000000, "labels": 3}'),
        ("head.json", b'{"hidden_size": "wide"}'),
        ("labels.json", b"not JSON"),
        ("labels.json", b'["rock", "sky", "sea"]'),
        ("labels.json", b'{"sea": 0}'),
    ],
)
def test_a_head_that_was_edited_is_refused(
    home: Home, folder: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    home.adapter.register("place", folder)
    exported = home.adapter.export("place@1", tmp_path / "out")
    (exported / name).write_bytes(content)
    with pytest.raises(IntegrityError, match="does not fit"):
        home.adapter.register("place", exported)
    assert len(home.adapter.list().items) == 1


def test_ranks_of_single_modules_and_a_pattern_of_targets_are_understood(home: Home, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    config = LoraConfig(
        r=4,
        target_modules=r".*attention\.self\.(query|key)",
        rank_pattern={"query": 2},
        alpha_pattern={"layer.1.attention.self.key": 3},
        use_dora=True,
        init_lora_weights="gaussian",
    )
    get_peft_model(AutoModel.from_pretrained(tmp_path / "base"), config).save_pretrained(tmp_path / "elsewhere")
    assert home.adapter.register("place", tmp_path / "elsewhere").created
