"""A home, open: its settings, its database and its blobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from limpet.errors import ConflictError, LimpetError, NotFoundError
from limpet.registry.blobs import BlobStore, open_blobs
from limpet.registry.database import Database, check_schema, connect, database_url, upgrade
from limpet.registry.settings import SETTINGS_FILE, Settings, load_settings, write_settings

__all__ = ["HOME_FOLDER", "Store", "create_store", "find_home", "open_store"]

HOME_FOLDER = ".limpet"


@dataclass(frozen=True)
class Store:
    """What every function of the registry works on: an open home."""

    path: Path
    settings: Settings
    database: Database
    blobs: BlobStore


def create_store(path: Path, settings: Settings) -> Store:
    """Make a home in the folder `path` and open it; a half-made one is completed.

    Args:
        path: The home folder, such as `.limpet`; made with its parents if need be.
        settings: Kept in the home's `limpet.toml`.

    Raises:
        ConflictError: There is a home already, or a file that is no folder.
        LimpetError: The folder can't be written.
    """
    path = path.absolute()
    if (path / SETTINGS_FILE).exists():
        raise ConflictError(f"There is a limpet home in {path} already.", f"limpet base show --home {path}")
    if path.exists() and not path.is_dir():
        raise ConflictError(f"{path} is a file, where the home folder should be.", "limpet init --home FOLDER")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LimpetError(f"The folder {path} can't be made: {error.strerror}.", f"ls -ld {path.parent}") from error
    store = _store(path, settings)
    upgrade(store.database)
    # last, because its presence says that the home is whole
    write_settings(path, settings)
    return store


def open_store(path: Path, **flags: str | Path | None) -> Store:
    """Open the home in the folder `path`.

    Args:
        path: The home folder.
        flags: Settings that win over the environment and the home's `limpet.toml`.

    Raises:
        NotFoundError: There is no home.
        ConflictError: Its database has another schema than this program.
    """
    path = path.absolute()
    if not (path / SETTINGS_FILE).is_file():
        raise NotFoundError(f"There is no limpet home in {path}.", f"limpet init --home {path}")
    store = _store(path, load_settings(path, **flags))
    file = store.database.url.database
    # SQLite would make an empty database where there is none
    if store.database.url.get_backend_name() == "sqlite" and not Path(str(file)).is_file():
        raise NotFoundError(f"The home {path} has lost its database {file}.", "restore the file from a backup")
    check_schema(store.database)
    return store


def find_home(start: Path) -> Path:
    """Return the home to use from the folder `start`: `LIMPET_HOME`, or the nearest `.limpet/` upward.

    Raises:
        NotFoundError: There is none.
    """
    if home := os.environ.get("LIMPET_HOME"):
        return Path(home).expanduser().absolute()
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / HOME_FOLDER / SETTINGS_FILE).is_file():
            return folder / HOME_FOLDER
    raise NotFoundError(f"There is no {HOME_FOLDER}/ in {start} nor in any folder above it.", "limpet init")


def _store(path: Path, settings: Settings) -> Store:
    database = connect(database_url(settings.db, path))
    return Store(path, settings, database, open_blobs(settings.blobs, path / "blobs", settings.cache))
