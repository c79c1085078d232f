"""The database of a home: SQLite by default, PostgreSQL by URL, the same code for both.

Writers are serialised on both: numbers without gaps and compare-and-set then need no retry. A write
transaction is one short insert after the files are durable, so that waiting for it costs little.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from limpet.errors import (
    ConflictError,
    IntegrityError,
    LimpetError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from limpet.registry.schema import HEAD

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = [
    "Database",
    "check_schema",
    "connect",
    "current",
    "database_url",
    "head",
    "typed_errors",
    "upgrade",
]

BUSY_TIMEOUT_MS = 60_000
# any constant will do, as long as every limpet uses the same one
WRITER_LOCK = 18_066_151
_WRITER = "limpet_writer"
_MIGRATIONS = Path(__file__).parent.parent / "migrations"


@dataclass(frozen=True)
class Database:
    """Sessions on one database: `reader` sees one consistent state, `writer` is alone in writing."""

    url: URL
    reader: Engine
    writer: Engine

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session that reads one consistent state."""
        with typed_errors(self.url), Session(self.reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session that holds the write lock from its first statement; commits at the end, or nothing.

        Raises:
            ConflictError: Another process kept the lock for longer than a minute.
        """
        with typed_errors(self.url), Session(self.writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.writer.dispose()


def database_url(setting: str | None, home: Path) -> URL:
    """Return the URL of a home's database.

    Args:
        setting: The setting `db`; null means `limpet.db` in the home.
        home: The home folder; a relative SQLite file is taken from here.

    Raises:
        UsageError: The URL is not one of SQLite (with a file) or PostgreSQL.
    """
    if setting is None:
        return URL.create("sqlite", database=str(home.absolute() / "limpet.db"))
    try:
        url = make_url(setting)
    except (ArgumentError, ValueError) as error:
        raise UsageError("The setting db is not a database URL.", _URL_HINT) from error
    kind = url.drivername.partition("+")[0]
    if kind == "sqlite" and url.database and url.database != ":memory:":
        return URL.create("sqlite", database=str(home.absolute() / url.database))
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    raise UsageError(f"A home's database can't be {url.drivername!r} with {url.database!r}.", _URL_HINT)


_URL_HINT = "use sqlite:////folder/limpet.db or postgresql://user@host/database"


def connect(url: URL) -> Database:
    """Prepare the engines of a database; nothing is opened yet.

    Raises:
        UnavailableError: The driver is not installed.
    """
    try:
        if url.get_backend_name() == "sqlite":
            engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
            event.listen(engine, "connect", _prepare_sqlite)
            reader = engine
        else:
            engine = create_engine(url, pool_pre_ping=True)
            reader = engine.execution_options(isolation_level="REPEATABLE READ")
    except (ImportError, NoSuchModuleError) as error:
        raise UnavailableError(
            f"The driver for {url.get_backend_name()} is not installed: {error}.",
            "pip install 'limpet[postgres]'",
        ) from error
    event.listen(engine, "begin", _begin)
    return Database(url, reader, writer=engine.execution_options(**{_WRITER: True}))


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # the driver's own BEGIN is deferred: two writers could both read before one fails
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = DELETE",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    writes = bool(connection.get_execution_options().get(_WRITER))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")


@contextmanager
def typed_errors(url: URL) -> Iterator[None]:
    """Turn what the driver says about locks, disks and connections into limpet's errors."""
    name = url.render_as_string(hide_password=True)
    try:
        yield
    except OperationalError as error:
        why = str(error.orig).strip().rstrip(".")
        if "locked" in why:
            raise ConflictError(
                f"The database {name} was held by another process for {BUSY_TIMEOUT_MS // 1000} s.",
                "wait for the other process, then run the command again",
            ) from error
        if "full" in why or "readonly" in why or "disk I/O" in why:
            raise LimpetError(f"Nothing was recorded: {name} can't be written ({why}).", "df -h; ls -l") from error
        raise UnavailableError(f"The database {name} can't be used: {why}.", "limpet db current") from error
    except DatabaseError as error:
        why = str(error.orig).strip().rstrip(".")
        if "malformed" in why or "not a database" in why:
            raise IntegrityError(f"The database {name} is damaged: {why}.", "restore it from a backup") from error
        raise


def head() -> str:
    """Return the schema revision that this program needs."""
    return HEAD


def current(database: Database) -> str | None:
    """Return the schema revision of a database; null for an empty one."""
    with typed_errors(database.url), database.reader.connect() as connection:
        return _revision(connection)


def check_schema(database: Database) -> None:
    """Refuse a database whose schema is not the one that this program needs.

    Raises:
        NotFoundError: The database is empty.
        ConflictError: Its schema is older, or newer than this program.
    """
    found = current(database)
    if found == HEAD:
        return
    name = database.url.render_as_string(hide_password=True)
    if found is None:
        raise NotFoundError(f"The database {name} holds no limpet registry.", "limpet init")
    _refuse_newer(found, name)
    raise ConflictError(
        f"The database {name} has the older schema {found}; this limpet needs {HEAD}.", "limpet db upgrade"
    )


def upgrade(database: Database) -> str:
    """Bring a database, empty or older, to the schema of this program, in one transaction.

    Returns:
        The revision that it has now.

    Raises:
        ConflictError: Its schema is newer than this program.
    """
    from alembic import command

    config = _alembic_config()
    with typed_errors(database.url), database.writer.begin() as connection:
        _refuse_newer(_revision(connection), database.url.render_as_string(hide_password=True))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return HEAD


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _refuse_newer(found: str | None, name: str) -> None:
    if found is None or found == HEAD:
        return
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}
    if found not in known:
        raise ConflictError(
            f"The database {name} has schema {found}, which is newer than this limpet knows ({HEAD}).",
            "pip install --upgrade limpet",
        )


def _alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
