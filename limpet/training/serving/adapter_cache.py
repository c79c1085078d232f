"""The adapter cache: versions loaded to answer, their files verified; the one used longest ago is let go."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from limpet.errors import IntegrityError
from limpet.registry.formats.adapter_files import HEAD_FILES, LABELS_FILE, PEFT_FILES
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.shared_copy import shared_copy
from limpet.training.heads import Head
from limpet.training.model.task_model import TaskModel, bound_head
from limpet.training.serving.lora_file import LoraFile, layout_of, read_lora
from limpet.training.serving.lora_slots import Layout
from limpet.training.serving.verified_files import VerifiedFiles
from limpet.training.task_types import TaskType, task_type

__all__ = ["LoadedVersion", "AdapterCache"]

_CONFIG_FILE, _TENSORS_FILE = PEFT_FILES
# files of a version that put nothing on the base
_BESIDE = {*HEAD_FILES, LABELS_FILE}
# bytes that a version's record and what is known of its files take at most
_RECORD = 1 << 16


@dataclass(frozen=True)
class LoadedVersion:
    """A version that can answer, in memory.

    `shares_batches` says whether its texts can pass the base with those of others: its head reads one pass, and what
    it adds to the base, if anything, is a LoRA that slots can hold. Then `model` is the head on the bare base; else
    it is a model of its own. `size` is what it takes in memory, in bytes. The version's number is no part of it: the
    same bytes may be deleted and registered again.
    """

    kind: TaskType[Any]
    model: TaskModel
    lora: LoraFile | None
    shares_batches: bool
    size: int


class AdapterCache:
    """What is loaded, by the versions' digests.

    Args:
        store: The home's registry.
        backbone: The base in memory; nothing is attached to it.
        memory: Bytes that may be kept loaded; the version that was asked for last always is.
    """

    def __init__(self, store: Store, backbone: Backbone, memory: int) -> None:
        self._store = store
        self._files = VerifiedFiles(store.blobs)
        self._backbone = backbone
        self._memory = memory
        self._loaded: OrderedDict[str, LoadedVersion] = OrderedDict()
        self._layouts: dict[str, Layout | None] = {}

    def __len__(self) -> int:
        return len(self._loaded)

    @property
    def size(self) -> int:
        """Bytes of all that is loaded."""
        return sum(loaded.size for loaded in self._loaded.values())

    def get(self, version: VersionRecord) -> LoadedVersion:
        """Return a version loaded to answer.

        Raises:
            IntegrityError: A file is missing, corrupt, or does not fit this base.
        """
        if version.digest in self._loaded:
            self._loaded.move_to_end(version.digest)
            return self._loaded[version.digest]
        made = self._make(version)
        self._loaded[version.digest] = made
        size = self.size
        while size > self._memory and len(self._loaded) > 1:
            size -= self._loaded.popitem(last=False)[1].size
        return made

    def copy_into(self, version: VersionRecord, slot: Tensor) -> None:
        """Copy a LoRA version's tensors into a slot (width), out of bytes that were hashed.

        Raises:
            IntegrityError: Its file is not what it was.
        """
        digest = next(file.digest for file in version.files if file.name == _TENSORS_FILE)
        for _ in range(2):
            lora = self.get(version).lora
            if lora is not None and self._files.unchanged(digest):
                lora.copy_into(slot)
                # a write that came meanwhile has changed the file's times
                if self._files.unchanged(digest):
                    return
            self._loaded.pop(version.digest, None)
        raise IntegrityError(
            f"The file {digest} of {version.reference} is changed while it is read.", "limpet verify"
        )

    def _make(self, version: VersionRecord) -> LoadedVersion:
        files = {file.name: self._files.path(file.digest) for file in version.files}
        kind = task_type(tasks.get(self._store, version.task).definition.type)
        size = _RECORD + sum(file.size for file in version.files if file.name in HEAD_FILES)
        head = bound_head(self._backbone, files)
        if _reads_one_pass(head):
            lora = self._lora(files)
            if lora or files.keys() <= _BESIDE:
                model = TaskModel(self._backbone.model, head, frozenset()).eval()
                return LoadedVersion(kind, model, lora, True, size)
        # on a copy of the modules, so that others can stay attached beside it
        beside = replace(self._backbone, model=shared_copy(self._backbone.model))
        module = methods.get(version.method).load(beside.model, files)
        model = TaskModel(module, bound_head(beside, files), frozenset()).eval()
        return LoadedVersion(kind, model, None, False, size + self._own_size(model))

    def _lora(self, files: Mapping[str, Path]) -> LoraFile | None:
        if _CONFIG_FILE not in files or _TENSORS_FILE not in files:
            return None
        config: dict[str, Any] = json.loads(files[_CONFIG_FILE].read_text(encoding="utf-8"))
        # versions of one kind have the same layout
        key = json.dumps({**config, "lora_alpha": 0, "base_model_name_or_path": ""}, sort_keys=True)
        if key not in self._layouts:
            self._layouts[key] = layout_of(self._backbone.model, config)
        layout = self._layouts[key]
        return read_lora(files[_TENSORS_FILE], config, layout) if layout else None

    def _own_size(self, model: TaskModel) -> int:
        base = {id(tensor) for tensor in self._backbone.model.parameters()}
        return sum(tensor.nbytes for tensor in model.parameters() if id(tensor) not in base)


def _reads_one_pass(head: Head) -> bool:
    """Say whether a head reads what one pass of the base gives, and has no way of its own to answer."""
    return type(head).answer is Head.answer and type(head).attach_module is Head.attach_module
