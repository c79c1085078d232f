"""The log of the home: who did what, when, to what. Only ever added to, and chained so that a change shows.

Every event's digest covers its content and the digest of the event before it, so an event that was changed, taken out
or put in between breaks the chain from there on. The database refuses to update or delete events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from sqlalchemy import Table, insert, select
from sqlalchemy.orm import Session

from limpet.errors import UsageError
from limpet.registry._texts import check_text
from limpet.registry.actor import current_actor
from limpet.registry.canonical import digest_json
from limpet.registry.clock import utc_now
from limpet.registry.schema import LogEventRow
from limpet.registry.store import Store
from limpet.registry.values import LogEvent, Page

__all__ = ["broken_links", "read", "record"]

_LARGEST_PAGE = 1000
_LONGEST_SUBJECT = 1000
_EVENTS = cast(Table, LogEventRow.__table__)
# made once: every change of the home runs them
_NEWEST = select(_EVENTS.c.digest).order_by(_EVENTS.c.id.desc()).limit(1)
_INSERT = insert(_EVENTS)


def record(
    session: Session, action: str, subject: str, detail: dict[str, Any] | None = None, actor: str | None = None
) -> None:
    """Add an event, in the transaction of what it tells of: both are kept, or neither.

    Args:
        session: A session that writes.
        action: What was done, such as `register` or `promote`.
        subject: What it was done to, such as `news@3`.
        detail: What else there is to know, as plain JSON.
        actor: Who; null means whoever runs this.
    """
    # past the session, whose own rows may wait: the next event of the same transaction must find this one
    connection = session.connection()
    before = connection.execute(_NEWEST).scalar()
    event = LogEvent(utc_now(), actor or current_actor(), action, subject, detail or {})
    connection.execute(_INSERT, {**vars(event), "digest": _link(before, event)})


def read(store: Store, subject: str | None = None, limit: int = 50, cursor: str | None = None) -> Page[LogEvent]:
    """Return a page of events, newest first.

    Args:
        store: The open home.
        subject: Only events about this, such as `news@3`.
        limit: Events on a page, 1 to 1000.
        cursor: The cursor of the page before.

    Raises:
        UsageError: The limit, the cursor or the subject has another form.
    """
    if not 1 <= limit <= _LARGEST_PAGE:
        raise UsageError(f"A page can't have {limit} events.", f"choose --limit from 1 to {_LARGEST_PAGE}")
    query = select(LogEventRow).order_by(LogEventRow.id.desc()).limit(limit + 1)
    if subject is not None:
        check_text("subject", subject, _LONGEST_SUBJECT)
        query = query.where(LogEventRow.subject == subject)
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise UsageError(f"{cursor!r} is not a cursor.", "use the cursor that the page before printed")
        query = query.where(LogEventRow.id < int(cursor))
    with store.database.read() as session:
        rows = session.scalars(query).all()
    more = len(rows) > limit
    return Page(tuple(_event(row) for row in rows[:limit]), str(rows[limit - 1].id) if more else None)


def broken_links(session: Session) -> Iterator[int]:
    """Yield the id of every event whose digest is not that of its content and the event before."""
    before: str | None = None
    for row in session.scalars(select(LogEventRow).order_by(LogEventRow.id)):
        if row.digest != _link(before, _event(row)):
            yield row.id
        before = row.digest


def _event(row: LogEventRow) -> LogEvent:
    return LogEvent(row.created_at, row.actor, row.action, row.subject, row.detail)


def _link(before: str | None, event: LogEvent) -> str:
    return digest_json({"before": before, **vars(event)})
