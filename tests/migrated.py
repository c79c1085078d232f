"""Folders of homes whose empty database was made before: its migrations take longer than many a test."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from limpet.registry.database.engine import connect, database_url
from limpet.registry.database.migrate import upgrade

__all__ = ["with_database"]


def with_database(home: Path) -> Path:
    """Make the folder of a home with an empty database of today's schema, in which a home can be made; return it."""
    home.mkdir(parents=True)
    (home / "limpet.db").write_bytes(_migrated())
    return home


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        database = connect(database_url(None, Path(folder)))
        upgrade(database)
        database.close()
        return (Path(folder) / "limpet.db").read_bytes()
