"""Removal of a task: a tombstone with who, when and why, for it and for each of its versions; files go at a later gc.

What was evaluated of it, the steps of streams and the moves of its aliases stay to be read: they are evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError
from limpet.registry.database.schema import AliasRow, TaskRow, VersionRow
from limpet.registry.records import log
from limpet.registry.records.rows import find_task, removal_of
from limpet.registry.store import Store
from limpet.registry.system.actor import current_actor
from limpet.registry.system.clock import utc_now
from limpet.registry.system.text_checks import check_reason
from limpet.registry.values import Tombstone
from limpet.registry.versions.deletion import bury

__all__ = ["RemovedTask", "check_removable", "remove"]


@dataclass(frozen=True)
class RemovedTask:
    """A task that was removed: when, by whom and why, and the versions that went with it, with their bytes."""

    task: str
    removed: Tombstone
    versions: tuple[str, ...]
    size: int


def remove(store: Store, name: str, reason: str) -> RemovedTask:
    """Remove a task with all its versions: its name stays taken, its evidence stays to be read.

    Removed once more for the same reason, it stays as it is.

    Args:
        store: The open home.
        name: The task.
        reason: Why, for those who look for it later.

    Raises:
        ConflictError: An alias stands at one of its versions.
        NotFoundError: There is no such task, or it was removed before for another reason.
        UsageError: The reason is empty.
    """
    reason = check_reason(reason, needed=True)
    with store.database.write("task remove") as session:
        task = _to_remove(session, name, reason)
        if (removed := removal_of(task)) is not None:
            return RemovedTask(task.name, removed, (), 0)
        live = _live(session, task)
        for version in live:
            bury(session, version, f"{task.name}@{version.number}", reason=reason)
        removed = Tombstone(utc_now(), current_actor(), reason)
        task.removed_at, task.removed_by, task.removed_because = removed.created_at, removed.actor, removed.reason
        detail = {"reason": reason, "versions": len(live)}
        log.record(session, "task remove", task.name, detail=detail, actor=removed.actor)
        return _removed(task, live, removed)


def check_removable(store: Store, name: str, reason: str) -> RemovedTask:
    """Return what `remove` would, and change nothing; raises what `remove` would raise."""
    reason = check_reason(reason, needed=True)
    with store.database.read() as session:
        task = _to_remove(session, name, reason)
        if (removed := removal_of(task)) is not None:
            return RemovedTask(task.name, removed, (), 0)
        return _removed(task, _live(session, task), Tombstone(utc_now(), current_actor(), reason))


def _to_remove(session: Session, name: str, reason: str) -> TaskRow:
    task = find_task(session, name, removed=True)
    # a command that died after its commit is typed again
    if task.removed_because == reason:
        return task
    task = find_task(session, name)
    standing = (
        select(AliasRow.name, VersionRow.number)
        .join(VersionRow, VersionRow.id == AliasRow.version_id)
        .where(AliasRow.task_id == task.id)
        .order_by(AliasRow.name)
    )
    if aliases := session.execute(standing).all():
        named = ", ".join(f"{name}@{alias} at version {number}" for alias, number in aliases)
        raise ConflictError(
            f"The task {name!r} can't be removed, because it is in use: {named}.",
            f"limpet adapter unpromote {name} {aliases[0][0]} --reason TEXT",
        )
    return task


def _live(session: Session, task: TaskRow) -> list[VersionRow]:
    live = select(VersionRow).where(VersionRow.task_id == task.id, VersionRow.deleted_at.is_(None))
    return list(session.scalars(live.order_by(VersionRow.number)))


def _removed(task: TaskRow, live: list[VersionRow], tombstone: Tombstone) -> RemovedTask:
    references = tuple(f"{task.name}@{version.number}" for version in live)
    return RemovedTask(task.name, tombstone, references, sum(version.size for version in live))
