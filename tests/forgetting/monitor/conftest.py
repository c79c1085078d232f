"""A home that has learned one task, to copy: what the monitor's tests begin with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from limpet.home import Home, open_home
from tests.forgetting.monitor.settings import QUICK
from tests.tiny_home import tiny_home


@pytest.fixture(scope="session")
def learned_once(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    """A home like that of the fixture `home`, with place@1 learned; tests must not change it."""
    home = tiny_home(tmp_path_factory.mktemp("learned-once"), base_folder)
    home.train("place", QUICK)
    home.store.database.close()
    return home.path


@pytest.fixture
def trained(learned_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy of that home, with a cache of its own."""
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    return open_home(shutil.copytree(learned_once, tmp_path / "home"))
