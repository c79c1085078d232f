"""Loading hands peft the fields of one list: nothing in a version names what is opened, fetched or imported."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers

from limpet.errors import IntegrityError
from limpet.registry.formats.peft_allowed_fields import DESCRIPTIVE, FIELDS, peft_type_of, what_loading_uses
from limpet.registry.formats.peft_config import EFFECTS, problems
from limpet.training import methods
from limpet.training.methods.other_peft import _UNFIT

EVIL = "evil-place"
POISON = {
    "base_model_name_or_path": f"/{EVIL}/base",
    "revision": EVIL,
    "tokenizer_name_or_path": f"{EVIL}/tokenizer",
    "tokenizer_kwargs": {"trust_remote_code": True},
    "prompt_tuning_init": "TEXT",
    "prompt_tuning_init_text": "salt",
    "prompt_tuning_init_state_dict_path": f"/{EVIL}/prompt.bin",
    "adapters": {"0": f"/{EVIL}/adapter"},
    "auto_mapping": {"base_model_class": "X", "parent_library": EVIL},
    "megatron_config": {"a": 1},
    "megatron_core": EVIL,
    "bias": "all",
}
touched: list[str] = []
_listening: list[bool] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _listening and event in ("open", "import", "socket.connect", "socket.getaddrinfo"):
        touched.append(f"{event} {arguments}")


@pytest.fixture
def model(base_folder: Path) -> Any:
    return transformers.AutoModel.from_pretrained(base_folder, attn_implementation="eager").requires_grad_(False)


def saved(model: Any, name: str, folder: Path) -> dict[str, Path]:
    method = methods.get(name)
    config = method.resolve(model, method.example)
    module = method.attach(model, config)
    method.save(module, "a base", folder)
    method.detach(module)
    return {path.name: path for path in folder.iterdir()}


def poison(files: dict[str, Path], **more: Any) -> None:
    path = files["adapter_config.json"]
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | POISON | more), encoding="utf-8")


@pytest.mark.parametrize("name", ["lora", "prompt", "prefix", "ia3", "peft:oft"])
def test_no_path_and_no_address_of_a_configuration_is_followed(model: Any, tmp_path: Path, name: str) -> None:
    files = saved(model, name, tmp_path)
    clean = methods.get(name).load(model, files)
    expected = {key: tensor.clone() for key, tensor in clean.state_dict().items()}
    methods.get(name).detach(clean)
    # copies of the base's own modules: a LoRA may have such of norms, and what it has is looked at
    poison(files, **({} if name == "lora" else {"modules_to_save": ["embeddings"]}))
    sys.addaudithook(_listen)
    touched.clear()
    _listening.append(True)
    try:
        module = methods.get(name).load(model, files)
    finally:
        _listening.clear()
    assert any(event.startswith("open") for event in touched)
    assert not [event for event in touched if EVIL in event or event.startswith("socket")]
    found = module.state_dict()
    assert found.keys() == expected.keys()
    assert all(found[key].equal(expected[key]) for key in found)
    methods.get(name).detach(module)


@pytest.mark.parametrize("kind", ["MULTITASK_PROMPT_TUNING", "XLORA", "PROMPT_TUNING", "lora", None])
def test_a_configuration_of_another_kind_than_the_method_is_not_loaded(
    model: Any, tmp_path: Path, kind: str | None
) -> None:
    files = saved(model, "lora", tmp_path)
    poison(files, peft_type=kind)
    with pytest.raises(IntegrityError, match="its method saves 'LORA'"):
        methods.get("lora").load(model, files)


@pytest.mark.parametrize("saved_modules", [["embeddings"], ["query"], ["no_such_norm"], [""]])
def test_no_module_but_a_norm_is_copied(model: Any, tmp_path: Path, saved_modules: list[str]) -> None:
    files = saved(model, "lora", tmp_path)
    poison(files, modules_to_save=saved_modules)
    with pytest.raises(IntegrityError, match="modules_to_save names"):
        methods.get("lora").load(model, files)


def test_every_method_that_saves_for_peft_has_its_list_and_no_field_of_it_names_a_place() -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    for name in methods.names():
        kind = methods.get(name).peft_type
        assert peft_type_of(name) == kind, name
        if kind is None:
            continue
        if kind in _UNFIT:
            assert kind not in FIELDS
            continue
        fields = {field.name for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)])}
        assert fields >= FIELDS[kind], name
        checked = {"modules_to_save"} if name == "lora" else set()
        assert FIELDS[kind] & (DESCRIPTIVE | EFFECTS.keys()) == checked, name
        assert not [field for field in FIELDS[kind] if "path" in field or "tokenizer" in field], name


def test_what_a_method_writes_is_what_a_bundle_may_say(model: Any, tmp_path: Path) -> None:
    for name in ("lora", "prompt", "prefix", "p-tuning", "ia3", "bottleneck", "peft:oft", "peft:loha"):
        folder = tmp_path / name.replace(":", "-")
        folder.mkdir()
        config = json.loads(saved(model, name, folder)["adapter_config.json"].read_text(encoding="utf-8"))
        assert problems(config) == (), name
        assert what_loading_uses(config).keys() <= FIELDS[config["peft_type"]]
