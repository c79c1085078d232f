"""The log against itself and against the rows: its chain says what every row of a covered table must be.

Everything is read in pages, each in a transaction of its own, so that nobody who writes waits for a check. What does
not fit may have been written between two pages: it is looked at again, with all events up to then, and then named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from limpet.registry.database.event_log import StoredEvent, event_page, is_linked
from limpet.registry.database.row_digests import covered_tables, digests_of, pages, read_rows
from limpet.registry.database.schema import AliasEventRow, LogEventRow, TaskRow, VersionRow
from limpet.registry.findings import Finding
from limpet.registry.records.rows import names_of

__all__ = ["Read", "check_log"]

_MOVES = ("promote", "rollback", "unpromote")
_PAGE = 1000

Read = Callable[[], AbstractContextManager[Session]]
"""Opens a short transaction that reads one consistent state."""
Row = tuple[str, tuple[Any, ...]]
Move = tuple[str, str, int | None, int | None, str]


@dataclass(frozen=True)
class _Expected:
    """What a row must be: its digest, null where it was taken away, by the event that said so last."""

    digest: str | None
    event: int


@dataclass
class _Log:
    """The log as far as it was read: its last event, the rows that it tells of, the moves of aliases in it."""

    last: int = 0
    digest: str | None = None
    began: str | None = None
    rows: dict[Row, _Expected] = field(default_factory=dict)
    moves: Counter[Move] = field(default_factory=Counter)


def check_log(read: Read) -> Iterator[Finding]:
    """Yield every event that is not linked to the one before, every unlogged move, every row that is not as told."""
    with read() as session:
        newest_event = session.scalar(select(func.max(LogEventRow.id))) or 0
        newest_move = session.scalar(select(func.max(AliasEventRow.id))) or 0
    log = _Log()
    yield from _follow(read, log, newest_event)
    yield from _check_moves(read, log, newest_move)
    suspects = _suspects(read, log)
    while suspects:
        batch = [suspects.pop() for _ in range(min(_PAGE, len(suspects)))]
        with read() as session:
            # whoever wrote meanwhile has logged it too
            list(_follow(lambda: _Opened(session), log, None))
            yield from _judge(session, log, batch)


class _Opened(AbstractContextManager[Session]):
    """A transaction that is open already, and stays open."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> Session:
        return self.session

    def __exit__(self, *_: object) -> None:
        return


def _follow(read: Read, log: _Log, until: int | None) -> Iterator[Finding]:
    """Read on in the log, and yield its broken links."""
    while True:
        with read() as session:
            events = event_page(session, log.last, until)
        if not events:
            return
        for event in events:
            if not is_linked(log.digest, event):
                yield Finding(
                    "log", f"event {event.id}", "was changed, or an event before it was taken out or put in"
                )
            _take(log, event)


def _take(log: _Log, event: StoredEvent) -> None:
    log.last, log.digest = event.id, event.digest
    log.began = log.began or event.created_at
    for row in read_rows(event.rows):
        log.rows[row.table, row.key] = _Expected(row.digest, event.id)
    if event.action in _MOVES and (detail := _detail(event)) is not None:
        log.moves[event.subject, event.action, detail.get("from"), detail.get("to"), event.actor] += 1


def _detail(event: StoredEvent) -> dict[str, Any] | None:
    try:
        detail = json.loads(event.detail)
    except (ValueError, RecursionError):
        return None
    return detail if isinstance(detail, dict) else None


def _suspects(read: Read, log: _Log) -> list[Row]:
    """Return the rows that did not fit when their page was read, and those that were in no page."""
    unseen = {row for row, expected in log.rows.items() if expected.digest is not None}
    suspects: list[Row] = []
    for name, table in covered_tables().items():
        last = None
        while True:
            with read() as session:
                page = pages(session.connection(), table, last)
            if not page:
                break
            last = page[-1][0]
            for key, digest in page:
                unseen.discard((name, key))
                expected = log.rows.get((name, key))
                if expected is None or expected.digest != digest:
                    suspects.append((name, key))
    tables = covered_tables()
    # a table that a later program took out of the schema is nobody's loss
    return sorted([*suspects, *(row for row in unseen if row[0] in tables)], key=repr, reverse=True)


def _judge(session: Session, log: _Log, rows: list[Row]) -> Iterator[Finding]:
    by_table: dict[str, list[tuple[Any, ...]]] = {}
    for name, key in rows:
        by_table.setdefault(name, []).append(key)
    for name, keys in by_table.items():
        found = digests_of(session.connection(), covered_tables()[name], keys)
        for key in keys:
            expected = log.rows.get((name, key))
            if found.get(key) != (expected.digest if expected else None):
                where = f"{name} {', '.join(map(str, key))}"
                yield Finding("row", where, _what(session, found.get(key), expected))


def _what(session: Session, found: str | None, expected: _Expected | None) -> str:
    if expected is None:
        return "was put in: no event of the log tells of it"
    event = session.execute(
        select(LogEventRow.action, LogEventRow.subject, LogEventRow.actor, LogEventRow.created_at).where(
            LogEventRow.id == expected.event
        )
    ).one_or_none()
    told = f"event {expected.event}"
    if event is not None:
        told += f" ({event.action} {event.subject}, by {event.actor} on {str(event.created_at)[:10]})"
    if found is None:
        return f"was taken out: {told} put it there"
    if expected.digest is None:
        return f"was put in: {told} took it away"
    return f"is not as {told} left it"


def _check_moves(read: Read, log: _Log, newest: int) -> Iterator[Finding]:
    """Compare the history of aliases with the events that tell of it; the rows of old homes have no other."""
    # a task keeps the first name that it had, whatever it is called when
    with read() as session:
        named = session.execute(select(TaskRow.name, TaskRow.former_names).where(TaskRow.former_names.is_not(None)))
        first = {name: names[0] for row in named for names in (names_of(*row),) for name in names}
    logged: Counter[Move] = Counter()
    for (subject, action, before, after, actor), count in log.moves.items():
        task, _, alias = subject.partition("@")
        logged[f"{first.get(task, task)}@{alias}", action, before, after, actor] += count
    made: Counter[Move] = Counter()
    unlogged: Counter[Move] = Counter()
    for when, move in _moves(read, newest):
        made[move] += 1
        # a home that an older limpet made has moves from before its log, which its upgrade began
        if log.began is not None and when < log.began:
            continue
        unlogged[move] += 1
    unlogged -= logged
    for (where, action, _, number, actor), count in unlogged.items():
        for _ in range(count):
            yield Finding("log", where, f"the {_told(action, number)} by {actor} has no event in the log")
    for (where, action, _, number, actor), count in (logged - made).items():
        for _ in range(count):
            yield Finding("log", where, f"the log has the {_told(action, number)} by {actor}, which never was")


def _told(action: str, number: int | None) -> str:
    return action if number is None else f"{action} to version {number}"


def _moves(read: Read, newest: int) -> Iterator[tuple[str, Move]]:
    """Yield every move of an alias in its history up to one, with its time."""
    before, after = aliased(VersionRow), aliased(VersionRow)
    row = AliasEventRow
    query = (
        select(
            row.id,
            row.created_at,
            TaskRow.name,
            TaskRow.former_names,
            row.alias,
            row.action,
            before.number,
            after.number,
            row.actor,
        )
        .outerjoin(TaskRow, TaskRow.id == row.task_id)
        .outerjoin(before, before.id == row.from_version_id)
        .outerjoin(after, after.id == row.to_version_id)
        .where(row.id <= newest)
        .order_by(row.id)
        .limit(_PAGE)
    )
    last = 0
    while True:
        with read() as session:
            moves = session.execute(query.where(row.id > last)).all()
        if not moves:
            return
        for id_, when, task, former, alias, action, from_number, to_number, actor in moves:
            last = id_
            yield when, (f"{names_of(task, former)[0]}@{alias}", action, from_number, to_number, actor)
