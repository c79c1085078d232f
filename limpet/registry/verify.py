"""A check of the whole home: every blob, manifest, alias and base against what was recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import IntegrityError, LimpetError
from limpet.registry._rows import version_records
from limpet.registry.canonical import check_digest, digest_bytes
from limpet.registry.schema import (
    AliasRow,
    BaseRow,
    EvaluationRow,
    TaskRow,
    VersionFileRow,
    VersionRow,
)
from limpet.registry.store import Store
from limpet.registry.values import FileEntry
from limpet.registry.versions import identity

__all__ = ["Problem", "verify"]


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was recorded.

    `kind` is `missing`, `size`, `changed`, `orphan`, `stray`, `manifest`, `alias` or `base`; `where` names the
    version, task, alias or file; `detail` says what was found.
    """

    kind: str
    where: str
    detail: str


@dataclass(frozen=True)
class _Needed:
    """A blob that a record names; `size` is null where only the digest was recorded."""

    where: str
    size: int | None


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
    strays = [Problem("stray", name, "is in the blob store, but is no blob in its place") for name in store.blobs.strays()]
    with store.database.read() as session:
        problems = [*_check_versions(session), *_check_aliases(session), *_check_evaluations(session)]
        needed, mentioned = _needed(session)
    for index, (digest, use) in enumerate(needed.items()):
        problems.extend(_check_blob(store, digest, use, deep))
        if progress is not None:
            progress(index + 1, len(needed))
    known = needed.keys() | mentioned
    problems += [Problem("orphan", digest, "is stored, but nothing names it") for digest in stored if digest not in known]
    return (*problems, *strays)


def _check_versions(session: Session) -> Iterator[Problem]:
    bases = set(session.scalars(select(BaseRow.digest)))
    tasks = dict(session.execute(select(TaskRow.id, TaskRow.name)).tuples().all())
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
        elif detail := _contradiction(session, row, task, tuple(files.get(row.id, ()))):
            yield Problem("manifest", where, detail)


def _contradiction(session: Session, row: VersionRow, task: str | None, files: tuple[FileEntry, ...]) -> str:
    """Say where a manifest that hashes as recorded differs from its own digest or from the columns beside it."""
    try:
        version = version_records(session, [row])[0]
    except (KeyError, TypeError, ValueError) as error:
        return f"its manifest has another form ({error!r})"
    if identity(version, version.files) != row.digest or version.digest != row.digest:
        return "its identity digest is not that of its manifest"
    if version.task != task or tuple(sorted(version.files, key=lambda file: file.name)) != files:
        return "its task or list of files is not that of its manifest"
    columns = (row.method, row.role, row.seed, row.base_digest, row.data_digest, row.created_at, row.score, row.size)
    score = version.metrics.get("score")
    expected = replace(version)
    if columns != (
        expected.method, expected.role, expected.seed, expected.base_digest, expected.data_digest,
        expected.created_at, score, expected.size,
    ):  # fmt: skip
        return "a column beside the manifest differs from it"
    return ""
