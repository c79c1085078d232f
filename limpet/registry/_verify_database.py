"""What the database says of itself: its pages, and whether every reference leads to a row."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Column, func, select
from sqlalchemy.orm import Session

from limpet.registry.problems import Problem
from limpet.registry.schema import TableBase
from limpet.registry.store import Store

__all__ = ["check_database"]

_MOST_LINES = 10


def check_database(store: Store) -> tuple[Problem, ...]:
    """Return what is wrong with the database itself: damaged pages or indexes (SQLite), references that dangle."""
    problems: list[Problem] = []
    with store.database.read() as session:
        if store.database.url.get_backend_name() == "sqlite":
            rows = session.connection().exec_driver_sql(f"PRAGMA integrity_check({_MOST_LINES})")
            problems += [Problem("database", "limpet.db", line) for (line,) in rows if line != "ok"]
        problems += _dangling(session)
    return tuple(problems)


def _dangling(session: Session) -> Iterator[Problem]:
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
            if count := session.scalar(query):
                where = f"{table.name}.{column.name}"
                yield Problem(
                    "database", where, f"{count} rows name rows of {key.column.table.name} that are not there"
                )
