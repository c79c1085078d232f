"""The rows of a new version, written by few prepared statements: all others who write wait meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Table, bindparam, func, insert, select
from sqlalchemy.orm import Session

from limpet.errors import NotFoundError
from limpet.registry.database.row_digests import note_written
from limpet.registry.database.schema import BaseRow, EnvironmentRow, TaskRow, VersionFileRow, VersionRow
from limpet.registry.formats.canonical import canonical_json, digest_bytes, digest_json
from limpet.registry.records.rows import (
    current_names,
    environment_id,
    find_task,
    find_version,
    references,
    renamed_reference,
    unknown_task,
    version_record,
)
from limpet.registry.system.clock import utc_now
from limpet.registry.values import FileEntry, VersionDraft, VersionRecord

__all__ = ["InsertionPoint", "find_insertion_point", "insert_version", "plain"]

_TASKS, _VERSIONS = TaskRow.__table__, cast(Table, VersionRow.__table__)
_BASES, _ENVIRONMENTS = BaseRow.__table__, EnvironmentRow.__table__
# all that has to be known before, in one statement
_INSERTION_POINT = select(
    _TASKS.c.id.label("task_id"),
    _TASKS.c.name.label("task"),
    select(_VERSIONS.c.id)
    .where(
        _VERSIONS.c.task_id == _TASKS.c.id,
        _VERSIONS.c.digest == bindparam("digest"),
        _VERSIONS.c.deleted_at.is_(None),
    )
    .scalar_subquery()
    .label("same_id"),
    select(func.max(_VERSIONS.c.number))
    .where(_VERSIONS.c.task_id == _TASKS.c.id)
    .scalar_subquery()
    .label("newest_number"),
    select(_BASES.c.id).where(_BASES.c.digest == bindparam("base")).limit(1).scalar_subquery().label("base_id"),
    select(_ENVIRONMENTS.c.id)
    .where(_ENVIRONMENTS.c.digest == bindparam("environment"))
    .scalar_subquery()
    .label("environment_id"),
).where(_TASKS.c.name == bindparam("task"), _TASKS.c.removed_at.is_(None))
_INSERT = insert(_VERSIONS).returning(_VERSIONS.c.id)
_INSERT_FILES = insert(cast(Table, VersionFileRow.__table__))


@dataclass(frozen=True)
class _Inserted:
    """What `version_record` needs of the row that was just written."""

    id: int
    number: int
    digest: str
    manifest: str
    manifest_digest: str
    deleted_at: None = None
    deleted_by: None = None
    deleted_because: None = None


@dataclass(frozen=True)
class InsertionPoint:
    """Where a version will stand: its task, by its name now, and the number before its own.

    `same_id` is the row of the version that it is.
    """

    task_id: int
    task: str
    same_id: int | None
    newest_number: int | None
    base_id: int | None
    environment_id: int | None


def find_insertion_point(session: Session, draft: VersionDraft, digest: str) -> InsertionPoint:
    """Return where a version of this identity stands or will stand.

    Raises:
        NotFoundError: There is no such task.
    """
    environment = digest_json(draft.environment.content())
    parameters = {"task": draft.task, "digest": digest, "base": draft.base_digest, "environment": environment}
    row = session.connection().execute(_INSERTION_POINT, parameters).one_or_none()
    if row is None and (renamed := current_names(session).get(draft.task)) is not None:
        # what was learned while its task got another name is not lost
        row = session.connection().execute(_INSERTION_POINT, {**parameters, "task": renamed}).one_or_none()
    if row is None:
        raise unknown_task(session, find_task(session, draft.task).name)
    return InsertionPoint(*row)


def insert_version(
    session: Session, point: InsertionPoint, draft: VersionDraft, *, entries: Sequence[FileEntry], digest: str
) -> tuple[int, VersionRecord]:
    """Write the rows of a version that is not there yet; its event in the log is the caller's.

    Returns:
        The id of its row, and the version.

    Raises:
        NotFoundError: The base or the parent is unknown.
    """
    if point.base_id is None:
        raise NotFoundError(
            f"This home knows no base with the fingerprint {draft.base_digest}.", "limpet base add SPEC"
        )
    # deleted while its child was trained: the child comes from it all the same
    # and so where the parent's task got another name meanwhile
    reference = renamed_reference(draft.parent, current_names(session)) if draft.parent else None
    parent = None if reference is None else find_version(session, reference, deleted=True)
    manifest = plain(draft)
    manifest["parent"] = None if parent is None else references(session, [parent.id])[parent.id]
    manifest |= {"digest": digest, "created_at": utc_now(), "files": [vars(entry) for entry in entries]}
    text = canonical_json(manifest)
    columns: dict[str, Any] = {
        "task_id": point.task_id,
        "number": (point.newest_number or 0) + 1,
        "digest": digest,
        "manifest": text.decode("utf-8"),
        "manifest_digest": digest_bytes(text),
        "method": draft.method,
        "role": draft.role,
        "seed": draft.seed,
        "score": draft.metrics.get("score"),
        "size": sum(entry.size for entry in entries),
        "trainable_parameters": draft.cost.get("trainable_parameters"),
        "base_digest": draft.base_digest,
        "data_digest": draft.data_digest,
        "parent_id": None if parent is None else parent.id,
        "environment_id": point.environment_id or environment_id(session, draft.environment),
        "created_at": manifest["created_at"],
    }
    connection = session.connection()
    id_ = connection.execute(_INSERT, columns).scalar_one()
    connection.execute(_INSERT_FILES, [{"version_id": id_, **vars(entry)} for entry in entries])
    note_written(session, _VERSIONS, (id_,))
    row = _Inserted(id_, columns["number"], digest, columns["manifest"], columns["manifest_digest"])
    # no alias can stand at it yet
    return id_, version_record(row, (), task=point.task)


def plain(draft: VersionDraft) -> dict[str, Any]:
    """Return a draft as plain JSON."""
    return {**vars(draft), "environment": draft.environment.content()}
