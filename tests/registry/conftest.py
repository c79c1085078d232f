"""Homes on SQLite and on a real PostgreSQL server, blobs on a real S3 server; the tests start both."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, text

from limpet.registry.settings import load_settings, write_settings
from limpet.registry.store import Store, open_store
from tests.registry.blobs.s3 import Proxy, point_to, s3_server
from tests.registry.homes import Grow, stock
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


@dataclass(frozen=True)
class _Template:
    """A home to copy, and the name of its database where that is on the server."""

    path: Path
    database: str | None = None


@pytest.fixture(scope="session")
def templates(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Grow], _Template]:
    """Gives the home of `homes.stock` on a kind of database after something was done in it; each is made once."""

    @cache
    def template(kind: str, grow: Grow) -> _Template:
        folder, url, database = tmp_path_factory.mktemp("template") / "home", None, None
        if kind != "sqlite":
            admin: Connection = request.getfixturevalue("postgres_admin")
            database = f"limpet_{uuid4().hex}"
            # it goes with its server
            admin.execute(text(f"CREATE DATABASE {database}"))
            url = admin.engine.url.set(database=database).render_as_string(hide_password=False)
        store = stock(folder, url)
        grow(store)
        store.database.close()
        return _Template(folder, database)

    return template


@pytest.fixture(params=["sqlite", "postgresql"])
def home_after(
    request: pytest.FixtureRequest, tmp_path: Path, templates: Callable[[str, Grow], _Template]
) -> Iterator[Callable[[Grow], Store]]:
    """Gives a copy of a home in which something was done, once on each database."""
    with ExitStack() as stack:

        def copied(grow: Grow) -> Store:
            template, path = templates(request.param, grow), tmp_path / "home"
            shutil.copytree(template.path, path)
            if template.database is not None:
                admin: Connection = request.getfixturevalue("postgres_admin")
                url = stack.enter_context(_new_database(admin, template.database))
                write_settings(path, load_settings(path, db=url))
            store = open_store(path)
            stack.callback(store.database.close)
            return store

        yield copied


@pytest.fixture
def home(home_after: Callable[[Grow], Store]) -> Store:
    """A home with the base and the tasks of `homes.stock`, once on each database."""
    return home_after(_nothing)


def _nothing(store: Store) -> None:
    """Leave a home as it is."""


@pytest.fixture
def sqlite_home_after(tmp_path: Path, templates: Callable[[str, Grow], _Template]) -> Callable[[Grow], Store]:
    """Gives a copy of a home on SQLite in which something was done."""
    return lambda grow: open_store(shutil.copytree(templates("sqlite", grow).path, tmp_path / "home"))


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
