"""A home, open: its settings, its database and its blobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limpet.registry.blobs.protocol import BlobStore
from limpet.registry.database.engine import Database
from limpet.registry.settings import Settings

__all__ = ["Store"]


@dataclass(frozen=True)
class Store:
    """What every function of the registry works on: an open home."""

    path: Path
    settings: Settings
    database: Database
    blobs: BlobStore
