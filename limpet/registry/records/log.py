"""The log of the home: who did what, when, to what. Only ever added to, and chained so that a change shows.

Every event's digest covers its content, the rows that were written with it and the digest of the event before it. So
an event that was changed, taken out or put in between breaks the chain from there on, and a row that was changed past
the log is not the one that the log tells of. The database refuses to update or delete events.
"""

from __future__ import annotations

from sqlalchemy import select

from limpet.errors import UsageError
from limpet.registry.database.event_log import record
from limpet.registry.database.schema import LogEventRow
from limpet.registry.records.rows import subjects
from limpet.registry.store import Store
from limpet.registry.system.text_checks import check_text
from limpet.registry.values import LogEvent, Page

__all__ = ["head", "read", "record"]

_LARGEST_PAGE = 1000
_LONGEST_SUBJECT = 1000


def read(store: Store, subject: str | None = None, limit: int = 50, *, cursor: str | None = None) -> Page[LogEvent]:
    """Return a page of events, newest first.

    Args:
        store: The open home.
        subject: Only events about this, such as `news@3`, under every name that its task has had.
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
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise UsageError(f"{cursor!r} is not a cursor.", "use the cursor that the page before printed")
        query = query.where(LogEventRow.id < int(cursor))
    with store.database.read() as session:
        if subject is not None:
            query = query.where(LogEventRow.subject.in_(subjects(session, subject)))
        rows = session.scalars(query).all()
    more = len(rows) > limit
    return Page(tuple(_event(row) for row in rows[:limit]), str(rows[limit - 1].id) if more else None)


def head(store: Store) -> str | None:
    """Return the digest of the newest event, which covers the whole log; null for a log without events.

    Kept where nobody who can write to the home can write, it shows later whether the log's end was cut off.
    """
    with store.database.read() as session:
        return session.scalar(select(LogEventRow.digest).order_by(LogEventRow.id.desc()).limit(1))


def _event(row: LogEventRow) -> LogEvent:
    return LogEvent(row.created_at, row.actor, row.action, row.subject, row.detail, row.digest)
