"""Homes as released programs left them, kept as files: no code of today makes their rows or their blobs.

`schemas/0001/` has a home's `limpet.toml` and `blobs/`, the statements that made its SQLite file (`schema.sql`), and
its rows (`rows.sql`, one statement a line), written once by the program of that schema.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from alembic import command
from sqlalchemy import Connection, MetaData, func, select, text

from limpet.registry.database.engine import Database, connect, database_url
from limpet.registry.database.migrate import _alembic_config
from limpet.registry.settings import SETTINGS_FILE, load_settings, write_settings

SCHEMAS = Path(__file__).parent / "schemas"
RELEASED = sorted(folder.name for folder in SCHEMAS.iterdir())

Rows = dict[str, list[dict[str, Any]]]


def lay_home(revision: str, folder: Path, url: str | None = None) -> Database:
    """Put a released home into `folder`, its database at `url` or in the folder; return the database, unopened."""
    shutil.copytree(SCHEMAS / revision / "blobs", folder / "blobs")
    shutil.copy(SCHEMAS / revision / SETTINGS_FILE, folder)
    if url is None:
        schema = (SCHEMAS / revision / "schema.sql").read_text(encoding="utf-8")
        with closing(sqlite3.connect(folder / "limpet.db")) as connection:
            # one transaction: a hundred would take a second
            connection.executescript("\n".join(("BEGIN;", schema, *rows(revision), "COMMIT;")))
            connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
            connection.commit()
        return connect(database_url(None, folder))
    write_settings(folder, load_settings(folder, db=url))
    database = connect(database_url(url, folder))
    migrate(database, revision)
    with database.writer.begin() as connection:
        plain = connection.execution_options(no_parameters=True)
        for statement in rows(revision):
            plain.exec_driver_sql(statement)
        _go_on_counting(connection)
    return database


def rows(revision: str) -> list[str]:
    """The statements that insert a released home's rows."""
    lines = (SCHEMAS / revision / "rows.sql").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("--")]


def migrate(database: Database, revision: str, *, down: bool = False) -> None:
    """Let Alembic alone bring a database to a revision."""
    config = _alembic_config()
    with database.writer.connect() as connection:
        if database.url.get_backend_name() == "sqlite":
            connection.connection.dbapi_connection.execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            config.attributes["connection"] = connection
            (command.downgrade if down else command.upgrade)(config, revision)
    # the pragma goes with the connection
    database.close()


def contents(database: Database, like: Rows | None = None) -> Rows:
    """Every row of every table, by its primary key.

    With `like`, only the tables and columns that stand there, and of the log, which an upgrade adds to, only as many
    events as stand there.
    """
    with database.reader.connect() as connection:
        found = MetaData()
        found.reflect(connection)
        said: Rows = {}
        for table in found.sorted_tables:
            if table.name == "alembic_version" or (like is not None and table.name not in like):
                continue
            kept = [column for column in table.columns if like is None or column.name in like[table.name][0]]
            query = select(*kept).order_by(*table.primary_key.columns)
            if like is not None and table.name == "log_events":
                query = query.limit(len(like[table.name]))
            said[table.name] = [dict(row) for row in connection.execute(query).mappings()]
        return said


def _go_on_counting(connection: Connection) -> None:
    """Let PostgreSQL's counters go on after the rows that brought their own ids."""
    found = MetaData()
    found.reflect(connection)
    for table in found.sorted_tables:
        if "id" in table.columns:
            newest = {"name": table.name, "id": connection.scalar(select(func.max(table.c.id)))}
            connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :id)"), newest)
