"""An adapter that writes text in the names of the class that trainers load: `AutoModelForCausalLM` and its like.

A version names modules as the backbone alone does (`layers.0...`). Plain peft on a model with its language-model head
looks for them under the backbone's name (`model.layers.0...`), warns of missing keys, and answers as the bare base.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from limpet.errors import UsageError
from limpet.registry.exchange.export_import import new_folder, write_files
from limpet.registry.formats.adapter_files import PEFT_FILES
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training.adoption.peft_names import named_by
from limpet.training.adoption.peft_wrapper import PREFIX
from limpet.training.base.backbone import Backbone
from limpet.training.methods._saved_norms import wrapped_by

if TYPE_CHECKING:
    from limpet.registry.formats.json_values import JsonObject

__all__ = ["check_exportable", "export_for_peft"]

_TASK_TYPES = {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM"}


def check_exportable(store: Store, version: VersionRecord) -> None:
    """Refuse a version that no class of transformers has a place for, before the base is loaded.

    Raises:
        UsageError: Its head is one of limpet's own, or it is no adapter of peft's.
    """
    if not {file.name for file in version.files}.issuperset(PEFT_FILES):
        raise UsageError(
            f"{version.reference} ({version.method}) is no adapter that peft could load.",
            f"limpet adapter export {version.reference} FOLDER",
        )
    kind = tasks.of_version(store, version).definition.type
    if kind != "generation":
        raise UsageError(
            f"{version.reference} answers a task of type {kind!r} by a head of its own; plain peft loads its adapter "
            "on AutoModel, as it is exported without --for.",
            f"limpet adapter export {version.reference} FOLDER",
        )


def export_for_peft(store: Store, backbone: Backbone, version: VersionRecord, *, folder: Path) -> Path:
    """Write a version into a new folder that `PeftModel.from_pretrained` loads on the base with its own head.

    Args:
        store: The home's registry.
        backbone: The base.
        version: The version; see `check_exportable`.
        folder: Where to; it must be new or empty.

    Raises:
        ConflictError: The folder is not empty, or is a file.
        IntegrityError: A file is missing or was changed.
    """
    with new_folder(folder) as temporary:
        write_files(store, version, temporary, names=[file.name for file in version.files])
        path = temporary / PEFT_FILES[0]
        inner = _inner_name(backbone)
        config = _for_its_class(json.loads(path.read_text(encoding="utf-8")), backbone, inner)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        # what does not begin so, such as a prompt, belongs to no module
        tensors = {
            f"{PREFIX}{inner}{name.removeprefix(PREFIX)}" if name.startswith(PREFIX) else name: tensor
            for name, tensor in load_file(temporary / PEFT_FILES[1]).items()
        }
        (temporary / PEFT_FILES[1]).unlink()
        save_file(tensors, temporary / PEFT_FILES[1], metadata={"format": "pt"})
    return folder.absolute()


def _for_its_class(config: JsonObject, backbone: Backbone, inner: str) -> JsonObject:
    """Return a configuration that means the same modules where `inner` stands before the name of each."""
    told = config | {"task_type": _TASK_TYPES[backbone.record.family]}
    names = [name for name, _ in backbone.model.named_modules() if name]
    for field in ("target_modules", "feedforward_modules", "exclude_modules"):
        targets = config.get(field)
        # a list hits the ends of names, and a pattern the whole of them
        if isinstance(targets, str) and targets != "all-linear":
            told[field] = sorted(named_by(targets, names))
    if saved := config.get("modules_to_save"):
        assert isinstance(saved, list)
        # peft compares no more than the ends of these, and there are more names now
        told["modules_to_save"] = [f"{inner}{name}" for name in wrapped_by(map(str, saved), backbone.model)]
    return told


def _inner_name(backbone: Backbone) -> str:
    """What the class with the language-model head puts before the backbone's names."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    classes = AutoModelForSeq2SeqLM if backbone.record.family == "encoder-decoder" else AutoModelForCausalLM
    with torch.device("meta"):
        whole = classes.from_config(backbone.model.config, trust_remote_code=False)
    name = str(backbone.model.base_model_prefix)
    # T5's has the backbone's parts themselves
    return f"{name}." if name and hasattr(whole, name) else ""
