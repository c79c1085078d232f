"""The parts of a new home, each with what takes it away again if the home can't be made."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

from sqlalchemy import inspect, select

from limpet.errors import ConflictError, LimpetError
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.database.engine import Database, typed_errors
from limpet.registry.database.migrate import check_schema, current, remove_schema, upgrade
from limpet.registry.database.schema import BaseRow, HomeRow
from limpet.registry.store import ownership
from limpet.registry.store.blob_removal import removing
from limpet.registry.store.store import Store

__all__ = ["make_database", "make_folder", "mark_store"]


def make_folder(path: Path, undo: ExitStack) -> None:
    """Make the home's folder, with its parents if need be.

    Raises:
        LimpetError: It can't be made.
    """
    missing = _missing(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_folders(missing)
        raise LimpetError(f"The folder {path} can't be made: {error.strerror}.", f"ls -ld {path.parent}") from error
    undo.callback(_remove_folders, missing)


def make_database(database: Database, undo: ExitStack) -> None:
    """Make the tables of an empty database; one that holds a registry of this schema is left as it is.

    Raises:
        ConflictError: It has an older schema, which only `limpet db upgrade` changes, or a newer one; or it is
            another program's.
    """
    undo.callback(database.close)
    file = _file(database)
    if file is not None and not file.exists():
        # the first connection makes an empty one
        undo.callback(_remove_empty, file)
    tables = _tables(database)
    if current(database) is not None:
        check_schema(database)
    elif tables:
        raise ConflictError(
            f"The database {database.url.render_as_string(hide_password=True)} holds tables of another program, such "
            f"as {tables[0]!r}.",
            "choose an empty one: limpet init --db URL",
        )
    elif upgrade(database).before is None:
        undo.callback(_remove_database, database)


def mark_store(store: Store, undo: ExitStack, *, adopt: bool) -> None:
    """Make the blob store the home's own.

    Raises:
        ConflictError: It is not empty, or is another home's, and `adopt` is false.
        LimpetError: It can't be written.
    """
    if isinstance(store.blobs, LocalBlobs):
        undo.callback(_remove_folders, _missing(store.blobs.root))
    if adopt:
        ownership.adopt(store, undo)
    else:
        ownership.claim(store, undo, new=True)


def _file(database: Database) -> Path | None:
    return Path(str(database.url.database)) if database.url.get_backend_name() == "sqlite" else None


def _tables(database: Database) -> list[str]:
    # asked before the schema: what another process makes meanwhile is then not taken for another program's
    with typed_errors(database.url), database.reader.connect() as connection:
        return inspect(connection).get_table_names()


def _remove_database(database: Database) -> None:
    """Take away a database that was made just now, unless somebody has begun to use it."""
    with suppress(LimpetError), removing(database):
        with database.read() as session:
            if session.scalar(select(HomeRow.id)) or session.scalar(select(BaseRow.id).limit(1)):
                return
        file = _file(database)
        if file is None:
            remove_schema(database)
            return
        database.close()
        for name in (file, file.with_name(f"{file.name}.gc-lock")):
            name.unlink(missing_ok=True)


def _remove_empty(file: Path) -> None:
    with suppress(OSError):
        if file.stat().st_size == 0:
            file.unlink()


def _missing(folder: Path) -> list[Path]:
    """Return the folders that have to be made for this one, the deepest first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_folders(folders: list[Path]) -> None:
    for folder in folders:
        # what somebody has put there meanwhile stays
        with suppress(OSError):
            folder.rmdir()
