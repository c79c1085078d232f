"""The schema of a home's database: which one it has, and how it comes to the one that this program needs."""

from __future__ import annotations

import glob
import secrets
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, IntegrityError, LimpetError, NotFoundError
from limpet.registry.database.engine import Database, typed_errors
from limpet.registry.database.event_log import cover_rows, uncovered_rows
from limpet.registry.database.schema import HEAD
from limpet.registry.system.atomic_files import sync_file
from limpet.registry.system.clock import utc_now
from limpet.registry.system.failpoints import reach

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["Upgrade", "check_schema", "current", "head", "remove_schema", "upgrade"]

_MIGRATIONS = Path(__file__).parents[2] / "migrations"


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
    revision = current(database)
    if revision == HEAD:
        return
    name = database.url.render_as_string(hide_password=True)
    if revision is None:
        raise NotFoundError(f"The database {name} holds no limpet registry.", "limpet init")
    _refuse_newer(revision, name)
    raise ConflictError(
        f"The database {name} has the older schema {revision}; this limpet needs {HEAD}.", "limpet db upgrade"
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
                before = _revision(connection)
                _refuse_newer(before, database.url.render_as_string(hide_password=True))
                if before == HEAD:
                    return Upgrade(before, HEAD)
                backup = _back_up(database.url, before) if before is not None and is_sqlite else None
                reach("migrate.begun")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                if is_sqlite:
                    _check_references(connection, database.url)
                _cover(connection, before)
                reach("migrate.written")
            reach("migrate.committed")
        finally:
            if is_sqlite:
                _sqlite(connection).execute("PRAGMA foreign_keys = ON")
    return Upgrade(before, HEAD, backup)


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


def _refuse_newer(revision: str | None, name: str) -> None:
    if revision is None or revision == HEAD:
        return
    from alembic.script import ScriptDirectory

    revisions = {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}
    if revision not in revisions:
        raise ConflictError(
            f"The database {name} has schema {revision}, which is newer than this limpet knows ({HEAD}).",
            "pip install --upgrade limpet",
        )


def _alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
