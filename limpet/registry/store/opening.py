"""Homes are found, opened and made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from limpet.errors import ConflictError, NotFoundError
from limpet.registry.blobs.opening import open_blobs
from limpet.registry.database.engine import connect, database_url
from limpet.registry.database.migrate import check_schema
from limpet.registry.settings import SETTINGS_FILE, Settings, load_settings, write_settings
from limpet.registry.store import ownership
from limpet.registry.store.making import make_database, make_folder, mark_store
from limpet.registry.store.store import Store

__all__ = [
    "adopt_store",
    "check_free",
    "create_store",
    "new_store",
    "open_store",
]


def create_store(path: Path, settings: Settings) -> Store:
    """Make a home in the folder `path` and open it; arguments and errors as in `new_store`."""
    with new_store(path, settings) as store:
        return store


@contextmanager
def new_store(path: Path, settings: Settings, *, adopt: bool = False) -> Iterator[Store]:
    """Give a home that is being made: whole when the block ends well, and nothing is left of it when it does not.

    A home that a death left half made is completed. The database may be that of a home which there is, if the blobs
    are the same one's too: then this folder is another way into that home.

    Args:
        path: The home folder, such as `.limpet`; made with its parents if need be.
        settings: Kept in the home's `limpet.toml`.
        adopt: Take a blob store that is not empty, or is another home's, for this home's own.

    Raises:
        ConflictError: There is a home already, or a file that is no folder; the database has an older schema, or is
            another program's or another home's; the blob store is not empty or is another home's.
        LimpetError: The folder, the database or the blob store can't be written.
    """
    path = path.absolute()
    check_free(path)
    with ExitStack() as undo:
        make_folder(path, undo)
        store = _store(path, settings)
        make_database(store.database, undo)
        mark_store(store, undo, adopt=adopt)
        yield store
        # last, because its presence says that the home is whole
        write_settings(path, settings)
        undo.pop_all()


def check_free(path: Path) -> None:
    """Refuse a folder in which no home can be made.

    Raises:
        ConflictError: There is a home already, or a file that is no folder.
    """
    if (path / SETTINGS_FILE).exists():
        raise ConflictError(f"There is a limpet home in {path} already.", f"limpet base show --home {path}")
    if path.exists() and not path.is_dir():
        raise ConflictError(f"{path} is a file, where the home folder should be.", "limpet init --home FOLDER")


def adopt_store(path: Path) -> Store:
    """Open the home in the folder `path`, and make its blob store its own; see `ownership.adopt`."""
    store = _open(path, {})
    with ExitStack() as undo:
        ownership.adopt(store, undo)
        undo.pop_all()
    return store


def open_store(path: Path, **flags: str | Path | None) -> Store:
    """Open the home in the folder `path`.

    Args:
        path: The home folder.
        flags: Settings that win over the environment and the home's `limpet.toml`.

    Raises:
        NotFoundError: There is no home.
        ConflictError: Its database has another schema than this program, or its blob store is another home's.
    """
    store = _open(path, flags)
    return replace(store, blobs=store.blobs.guarded(partial(ownership.check, store)))


def _open(path: Path, flags: Mapping[str, str | Path | None]) -> Store:
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


def _store(path: Path, settings: Settings) -> Store:
    database = connect(database_url(settings.db, path))
    return Store(path, settings, database, open_blobs(settings.blobs, path / "blobs", settings.cache))
