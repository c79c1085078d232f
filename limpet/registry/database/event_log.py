"""The chain of the log: every event's digest covers its content, the rows that it tells of and the event before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from sqlalchemy import Table, Text, insert, select, type_coerce
from sqlalchemy.orm import Session

from limpet.errors import LimpetError
from limpet.registry.database.row_digests import (
    WrittenRow,
    covered_tables,
    pages,
    read_rows,
    take_written,
    write_rows,
)
from limpet.registry.database.schema import LogEventRow
from limpet.registry.formats.canonical import canonical_json, digest_json
from limpet.registry.system.actor import current_actor
from limpet.registry.system.clock import utc_now

__all__ = ["StoredEvent", "cover_rows", "event_page", "is_linked", "link", "record", "settle", "uncovered_rows"]

_EVENTS = cast(Table, LogEventRow.__table__)
# made once: every change of the home runs them
_NEWEST = select(_EVENTS.c.digest).order_by(_EVENTS.c.id.desc()).limit(1)
_INSERT = insert(_EVENTS)
_PAGE = 1000
# of rows that one event covers
_MOST_ROWS = 1000

StoredEvent = Any
"""An event's columns as they are stored: id, created_at, actor, action, subject, detail (its text), rows, digest."""


def record(
    session: Session, action: str, subject: str, *, detail: dict[str, Any] | None = None, actor: str | None = None
) -> None:
    """Add an event, in the transaction of what it tells of: both are kept, or neither.

    It covers every row that the session wrote since its last event.

    Args:
        session: A session that writes.
        action: What was done, such as `register` or `promote`.
        subject: What it was done to, such as `news@3`.
        detail: What else there is to know, as plain JSON.
        actor: Who; null means whoever runs this.
    """
    _record(session, take_written(session), (action, subject, detail or {}), actor=actor)


def settle(session: Session, operation: str) -> None:
    """Cover the rows that no event of the transaction tells of, before it is committed."""
    if rows := take_written(session):
        tables = ", ".join(dict.fromkeys(row.table for row in rows))
        _record(session, rows, (operation or "write", tables, {}), actor=None)


def cover_rows(session: Session, action: str, detail: dict[str, Any], *, rows: Sequence[WrittenRow]) -> None:
    """Take rows into the chain as they were found, by an event about the database.

    Those beyond the first thousand come into events `cover` that follow, a thousand each.
    """
    for start in range(0, len(rows) or 1, _MOST_ROWS):
        what: tuple[str, str, dict[str, Any]] = (action, "database", detail)
        _record(session, rows[start : start + _MOST_ROWS], ("cover", "database", {}) if start else what, actor=None)


def uncovered_rows(session: Session) -> Iterator[WrittenRow]:
    """Yield every row of covered tables that no event of the log covers."""
    covered: set[tuple[str, tuple[Any, ...]]] = set()
    after = 0
    while events := event_page(session, after):
        after = events[-1].id
        covered.update((row.table, row.key) for event in events for row in read_rows(event.rows))
    for name, table in covered_tables().items():
        last = None
        while page := pages(session.connection(), table, last):
            last = page[-1][0]
            yield from (WrittenRow(name, key, digest) for key, digest in page if (name, key) not in covered)


def _record(
    session: Session, rows: Sequence[WrittenRow], what: tuple[str, str, dict[str, Any]], *, actor: str | None
) -> None:
    # past the session, whose own rows may wait: the next event of the same transaction must find this one
    connection = session.connection()
    action, subject, detail = what
    event = {
        "created_at": utc_now(),
        "actor": actor or current_actor(),
        "action": action,
        "subject": subject,
        "detail": detail,
    }
    text = write_rows(rows)
    before = connection.execute(_NEWEST).scalar()
    connection.execute(_INSERT, {**event, "rows": text, "digest": link(before, event, text)})


def link(before: str | None, event: dict[str, Any], rows: str | None) -> str:
    """Return the digest of an event: of its content, the text of its rows if it covers any, and the digest before."""
    return digest_json({"before": before, **event} | ({} if rows is None else {"rows": rows}))


def event_page(session: Session, after: int, until: int | None = None) -> list[StoredEvent]:
    """Return a page of events after one by its id, oldest first, `detail` as the text that is stored."""
    columns = [column for column in _EVENTS.columns if column.name != "detail"]
    query = select(*columns, type_coerce(_EVENTS.c.detail, Text).label("detail")).where(_EVENTS.c.id > after)
    if until is not None:
        query = query.where(_EVENTS.c.id <= until)
    return list(session.connection().execute(query.order_by(_EVENTS.c.id).limit(_PAGE)))


def is_linked(before: str | None, event: StoredEvent) -> bool:
    """Tell whether an event's digest is that of its content and of the event before."""
    content = {name: getattr(event, name) for name in ("created_at", "actor", "action", "subject")}
    try:
        detail = json.loads(event.detail)
        if canonical_json(detail).decode() != event.detail:
            return False
        return bool(link(before, content | {"detail": detail}, event.rows) == event.digest)
    except (TypeError, ValueError, RecursionError, LimpetError):
        return False
