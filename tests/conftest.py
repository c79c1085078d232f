"""What many tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new home with SQLite and a blob folder."""
    return create_store(tmp_path / "home", Settings(cache=tmp_path / "cache"))
