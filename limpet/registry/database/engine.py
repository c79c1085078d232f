"""The database of a home: SQLite by default, PostgreSQL by URL, the same code for both.

Writers are serialised on both: numbers without gaps and compare-and-set then need no retry. A write
transaction is one short insert after the files are durable, so that waiting for it costs little.
"""

from __future__ import annotations

import glob
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

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
from limpet.registry.database.event_log import cover_rows, settle, uncovered_rows
from limpet.registry.database.row_digests import WritingSession
from limpet.registry.database.schema import HEAD
from limpet.registry.system.atomic_files import sync_file
from limpet.registry.system.clock import utc_now
from limpet.registry.system.failpoints import reach

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = [
    "Database",
    "Upgrade",
    "check_schema",
    "connect",
    "current",
    "database_url",
    "head",
    "remove_schema",
    "typed_errors",
    "upgrade",
]

BUSY_TIMEOUT_MS = 60_000
# any constant will do, as long as every limpet uses the same one
WRITER_LOCK = 18_066_151
_WRITER = "limpet_writer"
_MIGRATIONS = Path(__file__).parents[2] / "migrations"


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


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did: the schema revision before (null for an empty database) and now, and the copy it made."""

    before: str | None
    revision: str
    backup: Path | None = None


def upgrade(database: Database) -> Upgrade:
    """Bring a database, empty or older, to the schema of this program, in one transaction.

    An older SQLite file is copied first, to `limpet.db.0001-20260102T030405.backup` beside it. The log of a database
    with an older schema gets an event `migrate`, and its chain takes in the rows that no event covers yet.

    Raises:
        ConflictError: Its schema is newer than this program.
        IntegrityError: Its rows contradict each other; nothing was changed.
        LimpetError: The copy, or the new schema, can't be written; nothing was changed.
    """
    from alembic import command

    config = _alembic_config()
    is_sqlite = database.url.get_backend_name() == "sqlite"
    with typed_errors(database.url), database.writer.connect() as connection:
        if is_sqlite:
            # a table that others refer to can only be rebuilt while nobody looks; checked again before the commit
            _sqlite(connection).execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                found = _revision(connection)
                _refuse_newer(found, database.url.render_as_string(hide_password=True))
                if found == HEAD:
                    return Upgrade(found, HEAD)
                backup = _back_up(database.url, found) if found is not None and is_sqlite else None
                reach("migrate.begun")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                if is_sqlite:
                    _check_references(connection, database.url)
                _cover(connection, found)
                reach("migrate.written")
            reach("migrate.committed")
        finally:
            if is_sqlite:
                _sqlite(connection).execute("PRAGMA foreign_keys = ON")
    return Upgrade(found, HEAD, backup)


def remove_schema(database: Database) -> None:
    """Take every table out of a database, of a home that could not be made."""
    from alembic import command

    config = _alembic_config()
    with typed_errors(database.url), database.writer.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.execute(text("DROP TABLE alembic_version"))


def _sqlite(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.dbapi_connection)


def _cover(connection: Connection, before: str | None) -> None:
    """Take what the migrations wrote, and what a database from before the chain of rows holds, into the log."""
    # the caller's transaction is open: the events are kept if the schema is
    with Session(connection) as session:
        rows = list(uncovered_rows(session))
        if before is not None:
            cover_rows(session, "migrate", {"from": before, "to": HEAD}, rows=rows)
        elif rows:
            cover_rows(session, "init", {"to": HEAD}, rows=rows)


def _back_up(url: URL, revision: str) -> Path:
    """Copy an SQLite file, whole and durable, before its schema is changed."""
    file = Path(str(url.database))
    when = utc_now()[:19].replace("-", "").replace(":", "")
    backup = file.with_name(f"{file.name}.{revision}-{when}.backup")
    temporary = backup.with_name(f".{backup.name}.{secrets.token_hex(8)}")
    reach("migrate.backup")
    try:
        # the caller holds the write lock: what others began to copy was left by a death, and this copy is the newest
        for left in file.parent.glob(f".{glob.escape(file.name)}.*.backup.*"):
            left.unlink()
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(temporary)) as copy:
            source.backup(copy)
        shutil.copymode(file, temporary)
        sync_file(temporary)
        temporary.replace(backup)
        sync_file(backup.parent)
    except (OSError, sqlite3.Error) as error:
        raise LimpetError(
            f"The database {file} can't be copied before its schema is changed, so nothing was changed: {error}.",
            f"df -h {file.parent}; ls -ld {file.parent}",
        ) from error
    finally:
        # a disk that failed may refuse this too; the next upgrade removes what is left
        with suppress(OSError):
            temporary.unlink()
    reach("migrate.backed-up")
    return backup


def _check_references(connection: Connection, url: URL) -> None:
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
        raise IntegrityError(
            f"{len(broken)} rows of {url.database} name rows that are not there, the first in {broken[0][0]}: "
            "the database was not changed.",
            "restore it from a backup",
        )


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
