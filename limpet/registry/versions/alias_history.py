"""The history of aliases: every move that there was, and what a rollback goes back to."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session, aliased

from limpet.errors import UsageError
from limpet.registry.database.schema import AliasEventRow, TaskRow, VersionRow
from limpet.registry.records.rows import find_task
from limpet.registry.store import Store
from limpet.registry.values import AliasEvent, Page

__all__ = ["moves", "moves_page", "newest_move", "undone"]

_LARGEST_PAGE = 1000
# moves that a rollback reads at once, from the newest back: mostly the first one says where it goes
_UNDONE_BUFFER = 100


def moves(store: Store, task: str, alias: str | None = None) -> tuple[AliasEvent, ...]:
    """Return every move of a task's aliases, or of one of them, oldest first.

    Raises:
        NotFoundError: There is no such task.
    """
    events: list[AliasEvent] = []
    cursor = None
    while True:
        page = moves_page(store, task, alias, limit=_LARGEST_PAGE, cursor=cursor)
        events += page.items
        if (cursor := page.cursor) is None:
            return tuple(events)


def moves_page(
    store: Store, task: str, alias: str | None = None, *, limit: int = 50, cursor: str | None = None
) -> Page[AliasEvent]:
    """Return a page of the moves of a task's aliases, or of one of them, oldest first.

    Args:
        store: The open home.
        task: The task.
        alias: Only the moves of this alias.
        limit: Moves on a page, 1 to 1000.
        cursor: The cursor of the page before.

    Raises:
        NotFoundError: There is no such task.
        UsageError: The limit or the cursor has another form.
    """
    if not 1 <= limit <= _LARGEST_PAGE:
        raise UsageError(f"A page can't have {limit} moves.", f"choose --limit from 1 to {_LARGEST_PAGE}")
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise UsageError(f"{cursor!r} is not a cursor.", "use the cursor that the page before printed")
    with store.database.read() as session:
        row = find_task(session, task, removed=True)
        query = _moves(row).where(AliasEventRow.id > int(cursor or 0)).order_by(AliasEventRow.id).limit(limit + 1)
        if alias is not None:
            query = query.where(AliasEventRow.alias == alias)
        rows = session.execute(query).all()
    more = len(rows) > limit
    return Page(tuple(_event(row, move) for move in rows[:limit]), str(rows[limit - 1].id) if more else None)


def newest_move(session: Session, task: TaskRow, alias: str) -> AliasEvent:
    """Return the newest move of an alias."""
    # one step in an index, however often the alias was moved
    query = _moves(task).where(AliasEventRow.alias == alias).order_by(AliasEventRow.id.desc()).limit(1)
    return _event(task, session.execute(query).one())


def undone(session: Session, task_id: int, alias: str) -> int | None:
    """Return the row id of the version that the last promote or unpromote came from that no rollback has undone.

    Each rollback undoes one move before it, so from the newest move back few are read of a long history.
    """
    query = (
        select(AliasEventRow.action, AliasEventRow.from_version_id)
        .where(AliasEventRow.task_id == task_id, AliasEventRow.alias == alias)
        .order_by(AliasEventRow.id.desc())
        .execution_options(yield_per=_UNDONE_BUFFER)
    )
    rollbacks = 0
    with closing(session.execute(query)) as newest_first:
        for action, before in newest_first:
            if action == "rollback":
                rollbacks += 1
            elif rollbacks:
                rollbacks -= 1
            else:
                return int(before) if before is not None else None
    return None


def _moves(task: TaskRow) -> Select[Any]:
    """Return the query for the moves of a task's aliases, with the numbers of their versions."""
    before, after = aliased(VersionRow), aliased(VersionRow)
    row = AliasEventRow
    columns: tuple[Any, ...] = (row.id, row.alias, row.action, row.actor, row.reason, row.created_at)
    numbers: tuple[Any, ...] = (before.number.label("from_number"), after.number.label("to_number"))
    return (
        select(*columns, *numbers)
        .outerjoin(before, before.id == row.from_version_id)
        .outerjoin(after, after.id == row.to_version_id)
        .where(row.task_id == task.id)
    )


def _event(task: TaskRow, move: Row[Any]) -> AliasEvent:
    return AliasEvent(
        task=task.name,
        alias=move.alias,
        action=move.action,
        from_number=move.from_number,
        to_number=move.to_number,
        actor=move.actor,
        reason=move.reason,
        created_at=move.created_at,
    )
