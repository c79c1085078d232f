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

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from limpet.errors import ConflictError, IntegrityError, LimpetError, UnavailableError, UsageError
from limpet.registry.database.event_log import settle
from limpet.registry.database.row_digests import WritingSession
from limpet.registry.system.failpoints import reach

__all__ = ["BUSY_TIMEOUT_MS", "Database", "connect", "database_url", "typed_errors"]

BUSY_TIMEOUT_MS = 60_000
# any constant will do, as long as every limpet uses the same one
WRITER_LOCK = 18_066_151
_WRITER = "limpet_writer"


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
    def write(self, operation: str = "") -> Iterator[Session]:
        """Give a session that holds the write lock from its first statement; commits at the end, or nothing.

        Whatever rows it writes, an event of the log covers them: the caller's, or one of the transaction's own.

        Args:
            operation: What the transaction is for; names its failpoints, and the event of what has no other.

        Raises:
            ConflictError: Another process kept the lock for longer than a minute.
        """
        with typed_errors(self.url), WritingSession(self.writer, expire_on_commit=False) as session:
            with session.begin():
                session.connection()
                reach(f"{operation}.begun")
                yield session
                settle(session, operation)
                reach(f"{operation}.written")
            reach(f"{operation}.committed")

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
    writer = engine.execution_options(**{_WRITER: True})
    if url.get_backend_name() != "sqlite":
        # whatever the server's default is: a statement after the lock must see what the holder before has committed
        writer = writer.execution_options(isolation_level="READ COMMITTED")
    return Database(url, reader, writer)


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # the driver's own BEGIN is deferred: two writers could both read before one fails
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = DELETE",
        # FULL, and the folder is synced once the journal is gone: else a power cut may bring the journal back,
        # with which the next reader undoes the commit
        "synchronous = EXTRA",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    writes = bool(connection.get_execution_options().get(_WRITER))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        # for the advisory lock too, and for the locks of tables and rows that somebody else may hold
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_TIMEOUT_MS}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")


@contextmanager
def typed_errors(url: URL) -> Iterator[None]:
    """Turn what the driver says about locks, disks and connections into limpet's errors."""
    try:
        yield
    except DatabaseError as error:
        typed = _typed(error, url.render_as_string(hide_password=True))
        if typed is None:
            raise
        raise typed from error


# PostgreSQL's codes for a read-only server, a missing right, a full disk
_REFUSALS = ("25006", "42501", "53100")
_LOCK_TIMEOUT = "55P03"


def _typed(error: DatabaseError, name: str) -> LimpetError | None:
    why = " ".join(str(error.orig).split()).rstrip(".?")
    if "database or disk is full" in why or "readonly database" in why or _sqlstate(error) in _REFUSALS:
        return LimpetError(f"Nothing was recorded: {name} can't be written ({why}).", "df -h; ls -l")
    if "malformed" in why or "not a database" in why or "Could not decode" in why:
        return IntegrityError(f"The database {name} is damaged: {why}.", "restore it from a backup")
    if not isinstance(error, OperationalError):
        return None
    if "is locked" in why or _sqlstate(error) == _LOCK_TIMEOUT:
        return ConflictError(
            f"The database {name} was held by another process for {BUSY_TIMEOUT_MS // 1000} s.",
            "wait for the other process, then run the command again",
        )
    if "disk I/O error" in why:
        # it may have failed after the commit, where SQLite syncs the folder
        return LimpetError(
            f"The disk failed under {name} ({why}): the change was kept whole or not at all.",
            "limpet verify, then run the command again",
        )
    return UnavailableError(f"The database {name} can't be used: {why}.", "limpet db current")


def _sqlstate(error: DatabaseError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
