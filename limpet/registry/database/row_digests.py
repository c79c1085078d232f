"""Which rows a transaction wrote, and the digest of a row: with them the log covers every row that decides something.

A writing session remembers the keys of the rows that it inserts, changes and deletes. The next event of the log takes
them with the digests of the rows as the database holds them. So the log's chain says what every row must be, and that
a row that is gone was taken away. A table that is added to the schema is covered without more ado.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, cast

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Row,
    Select,
    Table,
    TypeDecorator,
    bindparam,
    event,
    inspect,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.types import TypeEngine

from limpet.registry.database.schema import TableBase
from limpet.registry.formats.canonical import canonical_json, digest_bytes

__all__ = [
    "UNCOVERED",
    "WritingSession",
    "WrittenRow",
    "covered_tables",
    "digests_of",
    "note_written",
    "pages",
    "read_rows",
    "take_written",
    "write_rows",
]

UNCOVERED: dict[str, str] = {
    "log_events": "the chain itself: each event's digest covers the event and the one before",
    "version_files": "the manifest of the version lists them, and the version's row is covered",
    "removed_blobs": "what a gc is taking away just now: a row more delays who records the blob, and a blob that is "
    "missing is named",
    "mirror_items": "what MLflow was told last: it decides nothing here, and is written anew where it is lost",
}
"""The tables whose rows no event covers, each with the reason."""

Key = tuple[Any, ...]
# so many keys in one statement: SQLite takes 32,766 parameters, and a key may have two columns
_BATCH = 500
_PAGE = 1000


@dataclass(frozen=True)
class WrittenRow:
    """A row by its table and primary key, with its digest; null for a row that was taken away."""

    table: str
    key: Key
    digest: str | None


class WritingSession(Session):
    """A session that knows which rows of covered tables it wrote since the last event of the log."""

    def __init__(self, bind: Engine | Connection, *, expire_on_commit: bool = True) -> None:
        super().__init__(bind, expire_on_commit=expire_on_commit)
        # a dict, because it keeps the order
        self.written: dict[tuple[str, Key], None] = {}


@event.listens_for(WritingSession, "after_flush")
def _note_flushed(session: WritingSession, _: object) -> None:
    changed = (row for row in session.dirty if session.is_modified(row))
    for row in (*session.new, *changed, *session.deleted):
        mapper = inspect(row).mapper
        note_written(session, cast(Table, mapper.local_table), mapper.primary_key_from_instance(row))


@event.listens_for(WritingSession, "do_orm_execute")
def _refuse_unseen(state: ORMExecuteState) -> None:
    """Refuse a statement that would write covered rows of which the session learns nothing."""
    if not (state.is_insert or state.is_update or state.is_delete):
        return
    table = getattr(getattr(state.statement, "table", None), "name", None)
    if table is not None and table not in UNCOVERED:
        raise TypeError(f"rows of {table} are written as objects of the session, or named with note_written")


def note_written(session: Session, table: Table, key: Sequence[object]) -> None:
    """Remember a row that was written past the session's own objects, for the next event of the log."""
    if isinstance(session, WritingSession) and table.name not in UNCOVERED:
        session.written[table.name, tuple(key)] = None


def take_written(session: Session) -> list[WrittenRow]:
    """Return the rows that a session wrote since it was asked last, as the database holds them now."""
    session.flush()
    if not isinstance(session, WritingSession) or not session.written:
        return []
    keys: dict[str, list[Key]] = {}
    for table, key in session.written:
        keys.setdefault(table, []).append(key)
    session.written = {}
    connection = session.connection()
    digests = {name: digests_of(connection, covered_tables()[name], keys[name]) for name in keys}
    return [WrittenRow(name, key, digests[name].get(key)) for name in keys for key in keys[name]]


@cache
def covered_tables() -> dict[str, Table]:
    """Return the tables whose rows the log covers, by name; those that others refer to come first."""
    return {table.name: table for table in TableBase.metadata.sorted_tables if table.name not in UNCOVERED}


def digests_of(connection: Connection, table: Table, keys: Iterable[Key]) -> dict[Key, str]:
    """Return the digests of the rows with these primary keys; those that are not there are left out."""
    rest, digests = iter(keys), dict[Key, str]()
    while batch := list(islice(rest, _BATCH)):
        parameters = {"keys": batch if len(table.primary_key.columns) > 1 else [key for (key,) in batch]}
        digests.update(_digest(table, row) for row in connection.execute(_by_key(table), parameters))
    return digests


def pages(connection: Connection, table: Table, after: Key | None) -> list[tuple[Key, str]]:
    """Return the keys and digests of the next page of a table's rows, ordered by primary key."""
    query = _rows(table).order_by(*table.primary_key.columns).limit(_PAGE)
    if after is not None:
        query = query.where(_key(table) > (after if len(after) > 1 else after[0]))
    return [_digest(table, row) for row in connection.execute(query)]


def write_rows(rows: Sequence[WrittenRow]) -> str | None:
    """Return the text of an event's rows; null where it covers none."""
    if not rows:
        return None
    return canonical_json([[row.table, list(row.key), row.digest] for row in rows]).decode()


def read_rows(text: str | None) -> Iterator[WrittenRow]:
    """Yield the rows of an event's text; of one that was changed, which its link shows, what can be read."""
    try:
        for table, key, digest in json.loads(text or "[]"):
            yield WrittenRow(str(table), tuple(key), digest)
    except (TypeError, ValueError):
        return


def _key(table: Table) -> ColumnElement[Any]:
    columns = list(table.primary_key.columns)
    return columns[0] if len(columns) == 1 else tuple_(*columns)


@cache
def _by_key(table: Table) -> Select[Any]:
    return _rows(table).where(_key(table).in_(bindparam("keys", expanding=True)))


@cache
def _rows(table: Table) -> Select[Any]:
    """Return the statement for a table's rows as they are stored: a JSON text's spaces count too."""
    return select(*(type_coerce(column, _stored(column.type)).label(column.name) for column in table.columns))


def _stored(kind: TypeEngine[Any]) -> TypeEngine[Any] | type[TypeEngine[Any]]:
    if isinstance(kind, Boolean):
        return Integer()
    return kind.impl if isinstance(kind, TypeDecorator) else kind


def _digest(table: Table, row: Row[Any]) -> tuple[Key, str]:
    # what is null is left away: a column that a later schema adds changes no digest of before
    content = {column.name: value for column, value in zip(table.columns, row, strict=True) if value is not None}
    key = tuple(content.get(column.name) for column in table.primary_key.columns)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_plain)
    return key, digest_bytes(text.encode())


def _plain(value: object) -> str:
    # SQLite keeps bytes in any column, for one who puts them there
    return f"bytes {value.hex()}" if isinstance(value, bytes) else repr(value)
