"""A report of invented scores that many tests read; made once, because nothing changes it."""

from __future__ import annotations

import pytest

from limpet.forgetting.report.build import build_report
from limpet.forgetting.report.values import Report
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store
from tests.forgetting.grown_home import grow


@pytest.fixture(scope="session")
def grown_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home that has learned a stream of four tasks under three arms; tests must not change it."""
    folder = tmp_path_factory.mktemp("grown")
    store = create_store(folder / "home", Settings(cache=folder / "cache"))
    grow(store, folder)
    return store


@pytest.fixture(scope="session")
def grown(grown_store: Store) -> Report:
    """The report of that stream."""
    return build_report(grown_store)
