"""Registration: a version of a task is recorded, with the next number, known by its digest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from limpet.errors import UsageError
from limpet.names import case_twins, check_name
from limpet.registry.database.schema import VersionRow
from limpet.registry.formats.adapter_files import LABELS_FILE
from limpet.registry.formats.canonical import canonical_json, digest_json
from limpet.registry.records import log, reference_outputs
from limpet.registry.records.reference_outputs import StoredOutputs
from limpet.registry.records.rows import version_records
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.system.failpoints import reach
from limpet.registry.values import FileEntry, VersionDraft, VersionRecord
from limpet.registry.versions.insert import find_insertion_point, insert_version, plain

__all__ = [
    "MANIFEST_FILE",
    "StoredVersion",
    "enter_version",
    "identity",
    "register",
    "store_version",
]

MANIFEST_FILE = "manifest.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_IDENTITY = ("task", "method", "config", "base_digest", "data_digest", "labels", "seed")


@dataclass(frozen=True)
class StoredVersion:
    """The files of a version that is about to be recorded, durable in the blob store, and its reference outputs."""

    entries: tuple[FileEntry, ...]
    outputs: StoredOutputs | None

    @property
    def digests(self) -> tuple[str, ...]:
        """The blobs that recording it needs."""
        outputs = () if self.outputs is None else (self.outputs.digest,)
        return (*(entry.digest for entry in self.entries), *outputs)


def register(
    store: Store, draft: VersionDraft, files: Mapping[str, Path], *, outputs: bytes | None = None
) -> tuple[VersionRecord, bool]:
    """Keep an adapter as the next version of its task, durably, whole or not at all.

    Args:
        store: The open home.
        draft: What the version is and where it comes from.
        files: Its files by flat name, such as `adapter_model.safetensors`.
        outputs: What `reference_outputs.write` returned; a version that is there already keeps those that it has.

    Returns:
        The version, and whether it was made now: the same identity again gives the version there is.

    Raises:
        NotFoundError: The task, base, parent or one of the files is unknown.
        UsageError: A file name, the role or a value can't be kept.
        IntegrityError: `outputs` are no reference outputs.
        LimpetError: The disk is full or can't be written.
    """

    def store_all() -> StoredVersion:
        return store_version(store, draft, files, outputs=outputs)

    # files are durable before the database speaks of them: a kill in between leaves blobs that nothing names
    stored = store_all()
    reach("register.stored")
    with recording(store, "register", stored.digests, again=store_all) as session:
        return enter_version(session, draft, stored)


def store_version(
    store: Store, draft: VersionDraft, files: Mapping[str, Path], *, outputs: bytes | None = None
) -> StoredVersion:
    """Check a draft, and store its files and its reference outputs durably; arguments and errors as in `register`."""
    _check_draft(draft, files)
    return StoredVersion(
        _store_files(store, files), None if outputs is None else reference_outputs.store_outputs(store, outputs)
    )


def enter_version(session: Session, draft: VersionDraft, stored: StoredVersion) -> tuple[VersionRecord, bool]:
    """Record a stored version, with its reference outputs, in a transaction of `blob_removal.recording`.

    Returns:
        The version, and whether it was made now.

    Raises:
        NotFoundError: The task, base or parent is unknown.
    """
    digest = identity(draft, stored.entries)
    point = find_insertion_point(session, draft, digest)
    if created := point.same_id is None:
        id_, version = insert_version(session, point, draft, entries=stored.entries, digest=digest)
    else:
        row = session.get_one(VersionRow, point.same_id)
        id_, version = row.id, version_records(session, [row])[0]
    kept = None if stored.outputs is None else reference_outputs.enter_outputs(session, id_, stored.outputs)
    if created:
        log.record(session, "register", version.reference, detail={"digest": digest, "method": draft.method})
    elif kept is not None:
        reference_outputs.log_outputs(session, version.reference, kept)
    return version, created


def identity(version: VersionDraft | VersionRecord, entries: Sequence[FileEntry]) -> str:
    """Return the digest that is a version's identity."""
    parts: dict[str, Any] = {name: getattr(version, name) for name in _IDENTITY}
    parts["files"] = sorted((vars(entry) for entry in entries), key=lambda file: str(file["name"]))
    return digest_json(parts)


def _check_draft(draft: VersionDraft, files: Mapping[str, Path]) -> None:
    check_name("task", draft.task)
    if draft.role not in ("adapter", "baseline"):
        raise UsageError(f"A version can't have the role {draft.role!r}.", "choose adapter or baseline")
    if not files:
        raise UsageError(
            f"A version of {draft.task!r} without files was to be registered.", "give its folder of files"
        )
    for name in files:
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST_FILE:
            raise UsageError(
                f"A version can't have a file {name!r}: names are flat, of letters, digits, '.', '_', '-'; "
                f"{MANIFEST_FILE} is limpet's own.",
                "rename the file",
            )
    # an export lays these two beside them
    if twins := case_twins({*files, MANIFEST_FILE, LABELS_FILE}):
        raise UsageError(
            f"A version can't have the files {twins[0]!r} and {twins[1]!r}: on many disks their names are one.",
            "rename one of them",
        )
    # refused before a single file is copied
    canonical_json(plain(draft))


def _store_files(store: Store, files: Mapping[str, Path]) -> tuple[FileEntry, ...]:
    names = sorted(files)
    blobs = store.blobs.put_all([files[name] for name in names])
    return tuple(FileEntry(name, blob.digest, blob.size) for name, blob in zip(names, blobs, strict=True))
