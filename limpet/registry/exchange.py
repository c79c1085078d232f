"""Versions leave the home: a flat folder that plain peft reads."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from limpet.errors import ConflictError, LimpetError
from limpet.names import Reference
from limpet.registry._rows import find_version, version_records
from limpet.registry.store import Store
from limpet.registry.versions import MANIFEST_FILE

__all__ = ["LABELS_FILE", "export"]

LABELS_FILE = "labels.json"


def export(store: Store, ref: str | Reference, folder: Path) -> Path:
    """Write a version's files into a new or empty folder, each verified on the way, all or none.

    The folder has the files under their flat names, `labels.json` (the label of each id, in order) and
    `manifest.json`, byte for byte as it was registered.

    Args:
        store: The open home.
        ref: The version.
        folder: Where to; made with its parents if need be.

    Returns:
        The folder.

    Raises:
        ConflictError: The folder is not empty, or is a file.
        IntegrityError: A file is missing or was changed.
        NotFoundError: There is no such version.
        LimpetError: The folder can't be written.
    """
    with store.database.read() as session:
        row = find_version(session, ref)
        version, manifest = version_records(session, [row])[0], row.manifest
    target = folder.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConflictError(f"{folder} is not an empty folder.", "choose a new folder")
    temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}"
    try:
        temporary.mkdir(parents=True)
        for file in version.files:
            (temporary / file.name).write_bytes(store.blobs.read(file.digest))
        if not (temporary / LABELS_FILE).exists():
            (temporary / LABELS_FILE).write_text(
                json.dumps(list(version.labels), ensure_ascii=False), encoding="utf-8"
            )
        (temporary / MANIFEST_FILE).write_text(manifest, encoding="utf-8")
        # takes the place of an empty folder; fails where somebody has filled it meanwhile
        temporary.rename(target)
    except OSError as error:
        raise LimpetError(f"{folder} can't be written: {error.strerror}.", f"ls -ld {target.parent}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
