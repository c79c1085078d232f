"""A check of the whole home: every blob, manifest, alias and base against what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import IntegrityError
from limpet.registry._rows import version_record
from limpet.registry.canonical import digest_bytes
from limpet.registry.needed import NeededBlob, mentioned_digests, needed_blobs
from limpet.registry.schema import AliasEventRow, AliasRow, BaseRow, TaskRow, VersionFileRow, VersionRow
from limpet.registry.store import Store
from limpet.registry.values import FileEntry
from limpet.registry.versions import identity

__all__ = ["Problem", "verify"]

# the columns that repeat the manifest, to search by
_COPIED = ("method", "role", "seed", "size", "base_digest", "data_digest", "created_at")


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was recorded.

    `kind` is `missing`, `size`, `changed`, `orphan`, `stray`, `manifest`, `alias` or `base`; `where` names
    the version, task, alias or file; `detail` says what was found.
    """

    kind: str
    where: str
    detail: str


def verify(
    store: Store, deep: bool = True, progress: Callable[[int, int], None] | None = None
) -> tuple[Problem, ...]:
    """Return everything in a home that is not as it was recorded; nothing is changed.

    Args:
        store: The open home.
        deep: Hash every blob again; else only look for it and at its size.
        progress: Called with how many blobs were checked, and how many there are.
    """
    # before the records: what is stored meanwhile is then never taken for an orphan
    stored = list(store.blobs.digests())
    strays = [
        Problem("stray", name, "is in the blob store, but is no blob in its place") for name in store.blobs.strays()
    ]
    with store.database.read() as session:
        problems = [*_check_versions(session), *_check_aliases(session)]
        needed, mentioned = needed_blobs(session), mentioned_digests(session)
    for index, (digest, use) in enumerate(needed.items()):
        if problem := _check_blob(store, digest, use, deep):
            problems.append(problem)
        if progress is not None:
            progress(index + 1, len(needed))
    known = needed.keys() | mentioned
    problems += [
        Problem("orphan", digest, "is stored, but nothing names it") for digest in stored if digest not in known
    ]
    return (*problems, *strays)


def _check_versions(session: Session) -> Iterator[Problem]:
    bases = set(session.scalars(select(BaseRow.digest)))
    tasks = dict(session.execute(select(TaskRow.id, TaskRow.name)).all())
    files: dict[int, list[FileEntry]] = {}
    for file in session.scalars(select(VersionFileRow).order_by(VersionFileRow.name)):
        files.setdefault(file.version_id, []).append(FileEntry(file.name, file.digest, file.size))
    for row in session.scalars(select(VersionRow).order_by(VersionRow.id)):
        task = tasks.get(row.task_id)
        where = f"{task}@{row.number}"
        if task is None:
            yield Problem("manifest", f"version {row.digest}", "belongs to no task")
        if row.base_digest not in bases:
            yield Problem("base", where, f"was trained on {row.base_digest}, a base that this home does not know")
        if digest_bytes(row.manifest.encode("utf-8", "surrogatepass")) != row.manifest_digest:
            yield Problem("manifest", where, f"its manifest no longer hashes to {row.manifest_digest}")
        elif detail := _contradiction(row, task, tuple(files.get(row.id, ()))):
            yield Problem("manifest", where, detail)


def _contradiction(row: VersionRow, task: str | None, files: tuple[FileEntry, ...]) -> str:
    """Say where a manifest that hashes as recorded differs from its identity or from its columns."""
    try:
        version = version_record(row, ())
    except (KeyError, TypeError, ValueError) as error:
        return f"its manifest has another form ({error!r})"
    if version.digest != row.digest or identity(version, version.files) != row.digest:
        return "its identity digest is not that of its manifest"
    if tuple(sorted(version.files, key=lambda file: file.name)) != files:
        return "its list of files is not that of its manifest"
    columns = {
        "task": task,
        "score": row.score,
        "trainable_parameters": row.trainable_parameters,
        **{name: getattr(row, name) for name in _COPIED},
    }
    manifest = {
        "task": version.task,
        "score": version.metrics.get("score"),
        "trainable_parameters": version.cost.get("trainable_parameters"),
        **{name: getattr(version, name) for name in _COPIED},
    }
    wrong = [name for name, value in manifest.items() if columns[name] != value]
    return f"its columns {', '.join(wrong)} are not those of its manifest" if wrong else ""


def _check_aliases(session: Session) -> Iterator[Problem]:
    tasks = dict(session.execute(select(TaskRow.id, TaskRow.name)).all())
    versions = dict(session.execute(select(VersionRow.id, VersionRow.task_id)).all())
    moved: dict[tuple[int, str], int] = {}
    for event in session.scalars(select(AliasEventRow).order_by(AliasEventRow.id)):
        moved[event.task_id, event.alias] = event.to_version_id
    for alias in session.scalars(select(AliasRow).order_by(AliasRow.task_id, AliasRow.name)):
        where = f"{tasks.get(alias.task_id)}@{alias.name}"
        if versions.get(alias.version_id) != alias.task_id or alias.task_id not in tasks:
            yield Problem("alias", where, "stands at a version that is not there, or is another task's")
        elif moved.pop((alias.task_id, alias.name), None) != alias.version_id:
            yield Problem("alias", where, "stands where no move in its history has brought it")
    for task_id, name in moved.keys() - _standing(session):
        yield Problem("alias", f"{tasks.get(task_id)}@{name}", "was moved by its history, but is not set")


def _standing(session: Session) -> set[tuple[int, str]]:
    return {(alias.task_id, alias.name) for alias in session.scalars(select(AliasRow))}


def _check_blob(store: Store, digest: str, use: NeededBlob, deep: bool) -> Problem | None:
    try:
        size = store.blobs.size(digest)
        if size is None:
            return Problem("missing", use.where, f"{digest} is not in the blob store")
        if use.size is not None and size != use.size:
            return Problem("size", use.where, f"{digest} has {size} bytes, not {use.size}")
        if deep and (found := store.blobs.rehash(digest)) != digest:
            return Problem("changed", use.where, f"{digest} hashes to {found} now")
    except IntegrityError as error:
        return Problem("missing", use.where, error.message)
    return None
