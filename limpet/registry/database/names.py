"""The names in a home, read in a few milliseconds for whoever completes words: by the driver alone, and read-only.

What can't be read quickly and without a trace is left out: it is a help, and no answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

__all__ = ["Names", "read_names"]

_SECONDS = 1
_MOST = 500
_TASKS = "SELECT name FROM tasks WHERE removed_at IS NULL ORDER BY id"
_STREAMS = "SELECT name FROM streams ORDER BY id"
_BASES = "SELECT name FROM bases ORDER BY id"
_VERSIONS = (
    "SELECT tasks.name, versions.number FROM versions JOIN tasks ON tasks.id = versions.task_id "
    f"WHERE versions.deleted_at IS NULL AND tasks.removed_at IS NULL ORDER BY versions.id DESC LIMIT {_MOST}"
)
_ALIASES = (
    "SELECT tasks.name, aliases.name FROM aliases JOIN tasks ON tasks.id = aliases.task_id "
    "WHERE tasks.removed_at IS NULL ORDER BY tasks.id, aliases.name"
)
_Ask = Callable[[str], Iterable[tuple[object, ...]]]


@dataclass(frozen=True)
class Names:
    """What can be named in a home: `versions` and `aliases` are references, `task@3` and `task@production`."""

    tasks: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()


def read_names(url: str | None, home: Path) -> Names:
    """Return the names in a home.

    Args:
        url: The home's setting `db`; null means `limpet.db` in the home.
        home: The home folder.

    Raises:
        Exception: Whatever the driver raises where the database can't be read, or has another schema.
    """
    kind, _, rest = (url or "sqlite:///limpet.db").partition("://")
    with _sqlite(home / rest.removeprefix("/")) if kind.startswith("sqlite") else _postgresql(rest) as ask:
        return Names(
            tuple(str(name) for (name,) in ask(_TASKS)),
            tuple(f"{task}@{number}" for task, number in ask(_VERSIONS)),
            tuple(f"{task}@{alias}" for task, alias in ask(_ALIASES)),
            tuple(str(name) for (name,) in ask(_STREAMS)),
            tuple(str(name) for (name,) in ask(_BASES)),
        )


@contextmanager
def _sqlite(file: Path) -> Iterator[_Ask]:
    # read-only, so that no file is made where there is none
    address = f"file:{quote(str(file.absolute()))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_SECONDS)) as connection:
        yield connection.execute


@contextmanager
def _postgresql(rest: str) -> Iterator[_Ask]:
    import psycopg

    with psycopg.connect(f"postgresql://{rest}", connect_timeout=_SECONDS) as connection:
        connection.read_only = True
        yield connection.execute
