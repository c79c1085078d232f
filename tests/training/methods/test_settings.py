"""Settings: one dataclass for each method, from which reading, messages and tables come."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from transformers import AutoModel

from limpet.errors import UsageError
from limpet.training import methods
from limpet.training.methods._settings import about, explain_fields, read_settings
from tests.tiny import tiny_base

OWN = tuple(name for name in methods.names() if ":" not in name)


@dataclass(frozen=True)
class Knobs:
    count: int = field(default=2, metadata=about("how many", least=1))
    share: float = field(default=0.5, metadata=about("a share", least=0, below=1))
    width: int | None = field(default=None, metadata=about("null is the base's", least=1))
    kind: Literal["a", "b"] = field(default="a", metadata=about("which"))
    on: bool = field(default=False, metadata=about("whether"))
    text: str = field(default="", metadata=about("what is said"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ({"count": "8"}, {"count": 8}),
        ({"count": "8.0"}, {"count": 8}),
        ({"count": 8.0}, {"count": 8}),
        ({"count": "1e3"}, {"count": 1000}),
        ({"count": str(2**60 + 1)}, {"count": 2**60 + 1}),
        ({"share": "0"}, {"share": 0.0}),
        ({"width": "none"}, {"width": None}),
        ({"width": "3"}, {"width": 3}),
        ({"kind": "b"}, {"kind": "b"}),
        ({"on": "True"}, {"on": True}),
        ({"text": 5}, {"text": "5"}),
        ({}, {}),
    ],
)
def test_what_is_typed_is_read_by_the_type_of_its_field(typed: dict[str, Any], meant: dict[str, Any]) -> None:
    read = read_settings("m", Knobs, typed)
    assert read == Knobs(**meant)
    assert [type(value) for value in vars(read).values()] == [type(value) for value in vars(Knobs(**meant)).values()]


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"count": "2.5"}, "Setting 'count' of method 'm' must be int, not '2.5'.", "--set count=2"),
        ({"count": True}, "must be int, not True", "--set count=2"),
        ({"count": "inf"}, "must be int, not 'inf'", "--set count=2"),
        ({"count": "0"}, "must be at least 1, not 0", "--set count=2"),
        ({"share": 1}, "must be in [0, 1), not 1.0", "--set share=0.5"),
        ({"share": math.nan}, "must be in [0, 1), not nan", "--set share=0.5"),
        ({"width": "wide"}, "must be int or none, not 'wide'", "--set width=<int or none>"),
        ({"kind": "c"}, "must be one of a, b, not 'c'", "--set kind=a"),
        ({"on": "perhaps"}, "must be bool, not 'perhaps'", "--set on=false"),
        (
            {"knt": 1},
            "Method 'm' has no setting 'knt'; it has count, kind, on, share, text, width.",
            "limpet methods m",
        ),
        ({"cont": 1}, "Did you mean count?", "limpet methods m"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_type(given: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_settings("m", Knobs, given)
    assert said in refused.value.message
    assert refused.value.hint == hint


def test_a_setting_is_explained_by_its_field() -> None:
    first, *_, kind, _, _ = explain_fields(Knobs)
    assert (first.name, first.type, first.default, first.meaning) == ("count", "int", 2, "how many")
    assert (kind.name, kind.type) == ("kind", "one of a, b")


@pytest.mark.parametrize("name", OWN)
def test_every_setting_of_a_method_is_frozen_and_says_what_it_means(name: str) -> None:
    method = methods.get(name)
    assert is_dataclass(method.settings)
    with pytest.raises((FrozenInstanceError, TypeError)):
        method.settings().anything = 1  # type: ignore[attr-defined]
    explained = method.explain_settings()
    assert {setting.name: setting.default for setting in explained} == methods.default_settings(method.settings)
    assert all(setting.meaning for setting in explained)


def test_fields_of_peft_are_explained_but_those_that_are_decided_here() -> None:
    explained = {setting.name: setting for setting in methods.get("peft:loha").explain_settings()}
    assert (explained["r"].type, explained["r"].default, explained["r"].meaning) == ("int", 8, "LoHa rank")
    assert not explained.keys() & {"task_type", "peft_type", "modules_to_save", "inference_mode"}


RECORDED = {
    ("bert", "lora"): '{"r": 8, "alpha": 16, "dropout": 0.0, "rslora": false, "dora": false, "target_modules": '
    '["dense", "key", "query", "value"], "exclude_modules": ["pooler.dense"]}',
    ("bert", "bottleneck"): '{"placement": "houlsby", "reduction_factor": 16.0, "size": null, "activation": "gelu", '
    r'"target_modules": "(.*layer\\.\\d+\\.attention\\.output\\.dense)|(.*layer\\.\\d+\\.output\\.dense)"}',
    ("bert", "prefix"): '{"virtual_tokens": 20, "projection": false, "projection_size": null}',
    ("bert", "prompt"): '{"virtual_tokens": 20, "init": "random", "text": ""}',
    ("bert", "p-tuning"): '{"virtual_tokens": 20, "encoder": "mlp", "encoder_size": 32, "encoder_layers": 2, '
    '"encoder_dropout": 0.0}',
    ("bert", "partial"): '{"layers": 2}',
    ("bert", "probe"): "{}",
    ("bert", "full"): "{}",
    ("gpt2", "icl"): '{"shots": 2, "order_seed": 0, "template": "Text: {text}\\nLabel: {label}", "label_words": "", '
    '"budget": 64}',
}


def test_what_versions_record_of_their_settings_is_what_it_always_was(tmp_path: Path) -> None:
    models = {kind: AutoModel.from_pretrained(tiny_base(tmp_path / kind, kind)) for kind in ("bert", "gpt2")}
    recorded = {(kind, name): json.dumps(methods.get(name).resolve(models[kind], {})) for kind, name in RECORDED}
    assert recorded == RECORDED
