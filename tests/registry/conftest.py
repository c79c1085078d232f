"""Homes on SQLite and on a real PostgreSQL server, blobs on a real S3 server; the tests start both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, text

from limpet.registry.settings import load_settings, write_settings
from limpet.registry.store import Store, open_store
from tests.registry.blobs.s3 import Proxy, point_to, s3_server
from tests.registry.homes import stock
from tests.registry.postgres import postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own on a unix socket; gives the URL of its database `postgres`."""
    with postgres_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_admin(postgres: str) -> Iterator[Connection]:
    """A connection that makes and drops databases."""
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def _new_database(admin: Connection, like: str) -> Iterator[str]:
    name = f"limpet_{uuid4().hex}"
    admin.execute(text(f"CREATE DATABASE {name} TEMPLATE {like}"))
    try:
        yield admin.engine.url.set(database=name).render_as_string(hide_password=False)
    finally:
        admin.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def postgres_url(postgres_admin: Connection) -> Iterator[str]:
    """An empty database of the server."""
    with _new_database(postgres_admin, "template1") as url:
        yield url


@pytest.fixture(scope="session")
def stocked_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of `homes.stock` on SQLite, to copy."""
    store = stock(tmp_path_factory.mktemp("stocked") / "home")
    store.database.close()
    return store.path


@pytest.fixture(scope="session")
def stocked_postgres(
    postgres_admin: Connection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """The home of `homes.stock` on PostgreSQL, to copy, and the name of its database."""
    with _new_database(postgres_admin, "template1") as url:
        store = stock(tmp_path_factory.mktemp("stocked") / "home", url)
        store.database.close()
        yield store.path, str(store.database.url.database)


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A home with the base and the tasks of `homes.stock`, once on each database."""
    path = tmp_path / "home"
    if request.param == "sqlite":
        store = open_store(shutil.copytree(request.getfixturevalue("stocked_sqlite"), path))
        yield store
        store.database.close()
        return
    stocked, template = request.getfixturevalue("stocked_postgres")
    shutil.copytree(stocked, path)
    with _new_database(request.getfixturevalue("postgres_admin"), template) as url:
        write_settings(path, load_settings(path, db=url))
        store = open_store(path)
        yield store
        store.database.close()


@pytest.fixture(scope="session")
def s3_proxy() -> Iterator[Proxy]:
    """What stands between an S3-compatible server on 127.0.0.1 and the tests."""
    with s3_server() as port:
        made = Proxy(port)
        yield made
        made.stop()


@pytest.fixture
def proxy(s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The proxy, to which the environment leads; whatever a test lets fail is mended after it."""
    point_to(monkeypatch, s3_proxy.port)
    yield s3_proxy
    s3_proxy.mend()


@pytest.fixture
def s3_url(proxy: Proxy) -> str:
    """A folder in a new bucket."""
    import s3fs

    bucket = f"limpet-{uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)
    proxy.requests.clear()
    return f"s3://{bucket}/adapters/v1"
