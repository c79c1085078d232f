"""Versions: immutable adapters of a task, numbered without gaps, known by their digest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from limpet.errors import UsageError
from limpet.names import LATEST, Reference, case_twins, check_name
from limpet.registry.database.schema import AliasRow, TaskRow, VersionRow
from limpet.registry.formats.canonical import canonical_json, digest_json
from limpet.registry.records import log, reference_outputs
from limpet.registry.records.reference_outputs import StoredProbe
from limpet.registry.records.rows import PRODUCTION, find_task, version_records
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.system.failpoints import reach
from limpet.registry.values import FileEntry, Page, VersionDraft, VersionRecord
from limpet.registry.versions import resolution
from limpet.registry.versions.filter import parse_where
from limpet.registry.versions.insert import find_place, insert_version, plain
from limpet.registry.versions.sort_and_page import fetch_page, parse_order

__all__ = [
    "MANIFEST_FILE",
    "StoredVersion",
    "current",
    "enter_version",
    "files",
    "find",
    "identity",
    "look_up",
    "register",
    "resolve",
    "store_version",
]

MANIFEST_FILE = "manifest.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_IDENTITY = ("task", "method", "config", "base_digest", "data_digest", "labels", "seed")
_LARGEST_PAGE = 1000
# what a value is made of; the other columns are there to search by
_KEPT: tuple[Any, ...] = (
    VersionRow.id,
    VersionRow.number,
    VersionRow.digest,
    VersionRow.manifest,
    VersionRow.manifest_digest,
    VersionRow.deleted_at,
    VersionRow.deleted_by,
    VersionRow.deleted_because,
)


@dataclass(frozen=True)
class StoredVersion:
    """The files of a version that is about to be recorded, durable in the blob store, and its probe if it has one."""

    entries: tuple[FileEntry, ...]
    probe: StoredProbe | None

    @property
    def digests(self) -> tuple[str, ...]:
        """The blobs that recording it needs."""
        probe = () if self.probe is None else (self.probe.digest,)
        return (*(entry.digest for entry in self.entries), *probe)


def register(
    store: Store, draft: VersionDraft, files: Mapping[str, Path], *, probe: bytes | None = None
) -> tuple[VersionRecord, bool]:
    """Keep an adapter as the next version of its task, durably, whole or not at all.

    Args:
        store: The open home.
        draft: What the version is and where it comes from.
        files: Its files by flat name, such as `adapter_model.safetensors`.
        probe: What `probes.write` returned; a version that is there already keeps the probe that it has.

    Returns:
        The version, and whether it was made now: the same identity again gives the version there is.

    Raises:
        NotFoundError: The task, base, parent or one of the files is unknown.
        UsageError: A file name, the role or a value can't be kept.
        IntegrityError: `probe` is no probe.
        LimpetError: The disk is full or can't be written.
    """

    def store_all() -> StoredVersion:
        return store_version(store, draft, files, probe=probe)

    # files are durable before the database speaks of them: a kill in between leaves blobs that nothing names
    stored = store_all()
    reach("register.stored")
    with recording(store, "register", stored.digests, again=store_all) as session:
        return enter_version(session, draft, stored)


def store_version(
    store: Store, draft: VersionDraft, files: Mapping[str, Path], *, probe: bytes | None = None
) -> StoredVersion:
    """Check a draft, and store its files and its probe durably; arguments and errors as in `register`."""
    _check_draft(draft, files)
    return StoredVersion(
        _store_files(store, files), None if probe is None else reference_outputs.store_probe(store, probe)
    )


def enter_version(session: Session, draft: VersionDraft, stored: StoredVersion) -> tuple[VersionRecord, bool]:
    """Record a stored version, with its probe, in a transaction of `removal.recording`.

    Returns:
        The version, and whether it was made now.

    Raises:
        NotFoundError: The task, base or parent is unknown.
    """
    digest = identity(draft, stored.entries)
    place = find_place(session, draft, digest)
    if created := place.same_id is None:
        id_, version = insert_version(session, place, draft, entries=stored.entries, digest=digest)
    else:
        row = session.get_one(VersionRow, place.same_id)
        id_, version = row.id, version_records(session, [row])[0]
    kept = None if stored.probe is None else reference_outputs.enter_probe(session, id_, stored.probe)
    if created:
        log.record(session, "register", version.reference, detail={"digest": digest, "method": draft.method})
    elif kept is not None:
        reference_outputs.log_probe(session, version.reference, kept)
    return version, created


def identity(version: VersionDraft | VersionRecord, entries: Sequence[FileEntry]) -> str:
    """Return the digest that is a version's identity."""
    parts: dict[str, Any] = {name: getattr(version, name) for name in _IDENTITY}
    parts["files"] = sorted((vars(entry) for entry in entries), key=lambda file: str(file["name"]))
    return digest_json(parts)


def resolve(store: Store, ref: str | Reference) -> VersionRecord:
    """Return the version that a reference means now.

    A bare task means its alias `production` if that is set, else `latest`: the newest version with the role
    `adapter`.

    Raises:
        NotFoundError: There is no such task, version or alias, or the version was deleted.
        IntegrityError: The version's manifest was changed.
    """
    with store.database.read() as session:
        return resolution.resolve(session, ref)


def look_up(store: Store, ref: str | Reference) -> VersionRecord:
    """Return the version that a reference means now, also one that was deleted: for what was, not for use.

    Raises:
        NotFoundError: There is no such task, version or alias.
        IntegrityError: The version's manifest was changed.
    """
    with store.database.read() as session:
        return resolution.resolve(session, ref, deleted=True)


def find(
    store: Store,
    task: str | None = None,
    method: str | None = None,
    *,
    alias: str | None = None,
    where: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
    sort: str | None = None,
    deleted: bool = False,
) -> Page[VersionRecord]:
    """Return a page of versions; versions added meanwhile never shift the next page.

    Args:
        store: The open home.
        task: Only of this task.
        method: Only of this method.
        alias: Only under this alias; `latest` gives each task's newest adapter.
        where: Comparisons such as `score >= 0.9` or `tag.owner = ada`, joined by `and`.
        limit: Versions on a page, 1 to 1000.
        cursor: The cursor of the page before.
        sort: `score`, `number`, `size`, `created_at`, `seed` or `trainable_parameters`, smallest first, or with `-`
            before it largest first; versions without a value come last. Null means newest first.
        deleted: List deleted versions too.

    Raises:
        NotFoundError: There is no such task.
        UsageError: The limit, cursor, condition or order has another form.
    """
    if not 1 <= limit <= _LARGEST_PAGE:
        raise UsageError(f"A page can't have {limit} versions.", f"choose --limit from 1 to {_LARGEST_PAGE}")
    order = parse_order(sort)
    query = select(*_KEPT)
    if not deleted:
        query = query.where(VersionRow.deleted_at.is_(None))
    if method is not None:
        query = query.where(VersionRow.method == method)
    if where is not None:
        query = query.where(parse_where(where))
    if alias is not None:
        query = _under_alias(query, alias)
    with store.database.read() as session:
        if task is not None:
            query = query.where(VersionRow.task_id == find_task(session, check_name("task", task)).id)
        rows, following = fetch_page(session, query, order, limit=limit, cursor=cursor)
        return Page(version_records(session, rows), following)


def current(store: Store) -> tuple[VersionRecord, ...]:
    """Return each task's current version (`production`, else `latest`), in the order they were registered."""
    promoted = (
        select(AliasRow.version_id)
        .where(AliasRow.task_id == TaskRow.id, AliasRow.name == PRODUCTION)
        .scalar_subquery()
    )
    chosen = func.coalesce(promoted, resolution.newest_adapter(TaskRow.id))
    query = select(*_KEPT).select_from(TaskRow).join(VersionRow, VersionRow.id == chosen).order_by(VersionRow.id)
    with store.database.read() as session:
        return version_records(session, session.execute(query).all())


def files(store: Store, version: VersionRecord) -> dict[str, Path]:
    """Return a local path for each file of a version, every byte hashed just now.

    Raises:
        IntegrityError: A file is missing or its bytes are not those that were registered.
    """
    return {file.name: store.blobs.path(file.digest) for file in version.files}


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
    if twins := case_twins({*files, MANIFEST_FILE, "labels.json"}):
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


def _under_alias(query: Select[Any], alias: str) -> Select[Any]:
    check_name("alias", alias)
    if alias == LATEST:
        return query.where(VersionRow.id.in_(select(resolution.newest_adapter(TaskRow.id)).select_from(TaskRow)))
    return query.where(VersionRow.id.in_(select(AliasRow.version_id).where(AliasRow.name == alias)))
