"""What the database says of itself: its pages, its triggers, and whether every reference leads to a row."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Column, func, select, text
from sqlalchemy.orm import Session

from limpet.registry.database.schema import APPEND_ONLY, TableBase
from limpet.registry.findings import Finding
from limpet.registry.verification.log import Read

__all__ = ["check_database", "check_triggers"]

_MOST_LINES = 10


def check_database(read: Read) -> Iterator[Finding]:
    """Yield what is wrong with the database itself: damaged pages or indexes (SQLite), references that dangle."""
    with read() as session:
        if _is_sqlite(session):
            rows = session.connection().exec_driver_sql(f"PRAGMA integrity_check({_MOST_LINES})")
            yield from [Finding("database", "limpet.db", line) for (line,) in rows if line != "ok"]
    # by queries, on both databases: who turned the constraints off for a moment has left no other trace
    for table in TableBase.metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: str(key.parent.name)):
            column: Column[int] = key.parent
            # a version's parent is in the same table
            target = key.column.table.alias()
            query = (
                select(func.count())
                .select_from(table.outerjoin(target, column == target.c[key.column.name]))
                .where(column.is_not(None), target.c[key.column.name].is_(None))
            )
            # each in a transaction of its own: a large table takes its time
            with read() as session:
                count = session.scalar(query)
            if count:
                where = f"{table.name}.{column.name}"
                yield Finding(
                    "database", where, f"{count} rows name rows of {key.column.table.name} that are not there"
                )


def check_triggers(read: Read) -> Iterator[Finding]:
    """Yield every trigger of the migrations that is gone, off or another one now, and every foreign one."""
    with read() as session:
        is_sqlite = _is_sqlite(session)
        triggers = _sqlite_triggers(session) if is_sqlite else _postgresql_triggers(session)
    expected = _expected_sqlite() if is_sqlite else _expected_postgresql()
    for name in sorted(expected.keys() | triggers.keys()):
        if name not in triggers:
            yield Finding("trigger", name, "is gone: with it, the database refuses to change or delete history")
        elif name not in expected:
            yield Finding("trigger", name, "is not one of limpet's: it may change what is written")
        elif triggers[name] != expected[name]:
            yield Finding("trigger", name, f"is not as limpet made it: {triggers[name]}")


def _is_sqlite(session: Session) -> bool:
    return session.connection().dialect.name == "sqlite"


def _expected_sqlite() -> dict[str, str]:
    return {
        f"{table}_no_{verb.lower()}": f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is only ever added to'); END"
        for table in APPEND_ONLY
        for verb in ("UPDATE", "DELETE")
    }


def _sqlite_triggers(session: Session) -> dict[str, str]:
    rows = session.execute(text("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"))
    return {name: " ".join(sql.split()) for name, sql in rows}


_FUNCTION = "BEGIN RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME; END"


def _expected_postgresql() -> dict[str, str]:
    return {
        f"{table}_no_change": f"CREATE TRIGGER {table}_no_change BEFORE DELETE OR UPDATE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION limpet_only_added_to(); on; {_FUNCTION}"
        for table in APPEND_ONLY
    }


def _postgresql_triggers(session: Session) -> dict[str, str]:
    """Return limpet's triggers with what they do, and those of constraints that are switched off."""
    query = text(
        "SELECT tgname, tgenabled, pg_get_triggerdef(pg_trigger.oid, true), prosrc, tgisinternal, relname "
        "FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid "
        "WHERE relname = ANY(:tables) AND relnamespace = CAST(current_schema() AS regnamespace) "
        "AND (NOT tgisinternal OR tgenabled <> 'O')"
    )
    tables = [table.name for table in TableBase.metadata.sorted_tables]
    return {
        f"{table}, {name}" if internal else name: _said(enabled, definition, source)
        for name, enabled, definition, source, internal, table in session.execute(query, {"tables": tables})
    }


def _said(enabled: object, definition: str, source: str) -> str:
    # the driver gives PostgreSQL's "char" as bytes or as text
    is_on = (enabled.decode() if isinstance(enabled, bytes) else enabled) == "O"
    return f"{definition}; {'on' if is_on else 'off'}; {' '.join(source.split())}"
