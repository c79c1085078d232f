"""What waits for the grace period: deleted with a version or a task, needed by nothing else, and too young to go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.registry.database.schema import (
    ReferenceOutputsRow,
    TaskRevisionRow,
    TaskRow,
    VersionFileRow,
    VersionRow,
)
from limpet.registry.records.rows import batched
from limpet.registry.store.referenced_blobs import referenced_blobs, rows_digests
from limpet.registry.system.clock import seconds_of

__all__ = ["deletions", "moment"]


def deletions(session: Session, since: str, stored: Iterable[str]) -> dict[str, float]:
    """Return when each stored blob was deleted with a version or a task, in seconds since the epoch, by digest.

    Args:
        session: A session that reads.
        since: Only what was deleted after this time.
        stored: The digests in the store.
    """
    present = set(stored)
    deleted: dict[str, float] = {}
    for digest, deleted_at in (*_of_versions(session, since), *_of_tasks(session, since)):
        if digest in present:
            deleted[digest] = max(deleted.get(digest, 0.0), seconds_of(deleted_at))
    for digests in batched(list(deleted)):
        # another version may have the same bytes
        for digest in referenced_blobs(session, among=set(digests)):
            deleted.pop(digest, None)
    return deleted


def moment(seconds: float) -> str:
    """Return a time since the epoch as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _of_versions(session: Session, since: str) -> Iterator[tuple[str, str]]:
    for kept in (VersionFileRow, ReferenceOutputsRow):
        query = select(kept.digest, VersionRow.deleted_at).join(VersionRow, VersionRow.id == kept.version_id)
        yield from (
            (row.digest, row.deleted_at) for row in session.execute(query.where(VersionRow.deleted_at > since))
        )


def _of_tasks(session: Session, since: str) -> Iterator[tuple[str, str]]:
    first = select(TaskRow.splits, TaskRow.definition, TaskRow.removed_at)
    later = select(TaskRevisionRow.splits, TaskRevisionRow.definition, TaskRow.removed_at).join(
        TaskRow, TaskRow.id == TaskRevisionRow.task_id
    )
    for query in (first, later):
        for splits, definition, removed_at in session.execute(query.where(TaskRow.removed_at > since)):
            digests = (*(split["digest"] for split in splits), *rows_digests(definition["data"]))
            yield from ((digest, removed_at) for digest in digests)
