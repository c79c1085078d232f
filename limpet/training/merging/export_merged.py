"""A version as a model of its own: the base with the update merged in, in a folder that plain transformers loads."""

from __future__ import annotations

from pathlib import Path

from limpet.errors import UsageError
from limpet.registry.exchange.export_import import new_folder, write_files
from limpet.registry.formats.adapter_files import HEAD_FILES, PEFT_FILES
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.merging.merge import check_mergeable, merged_module
from limpet.training.model.task_model import version_files

__all__ = ["export_merged"]


def export_merged(store: Store, backbone: Backbone, version: VersionRecord, *, folder: Path) -> Path:
    """Write a version into a new or empty folder as a transformers model with its tokenizer; all of it or nothing.

    The folder also has the head's files, which belong to limpet, and the labels.

    Args:
        store: The home's registry.
        backbone: The version's base in memory.
        version: The version.
        folder: Where to; made with its parents if need be.

    Returns:
        The folder, absolute.

    Raises:
        UsageError: The method can't be merged, or the version has no head of its own.
        ConflictError: The folder is not empty, or is a file.
        IntegrityError: A file is corrupt, the version belongs to another base, or a merged weight is not finite.
        LimpetError: The folder can't be written.
    """
    check_mergeable(version.method)
    files = version_files(store, backbone, version)
    if HEAD_FILES[1] not in files:
        raise UsageError(
            f"{version.reference} answers by the base's own language-model head, which a merged model has not.",
            f"limpet adapter export {version.reference} FOLDER",
        )
    with new_folder(folder) as temporary:
        merged_module(backbone.model, methods.get(version.method), files).save_pretrained(temporary)
        backbone.tokenizer.save_pretrained(temporary)
        write_files(store, version, temporary, names=[name for name in files if name not in PEFT_FILES])
    backbone.check_unchanged()
    return folder.absolute()
