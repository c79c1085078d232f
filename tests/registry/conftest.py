"""Homes on SQLite and on a real PostgreSQL server, blobs on a real S3 server; the tests start both."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, text

from limpet.registry.settings import load_settings, write_settings
from limpet.registry.store import Store, open_store
from tests.registry.homes import stock
from tests.registry.s3 import Proxy, point_to, s3_server


def _binaries() -> Path:
    if found := shutil.which("initdb"):
        return Path(found).parent
    # Debian keeps them out of PATH, one folder a release
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.fail("PostgreSQL's initdb and pg_ctl were not found; install them: apt-get install postgresql")
    return folders[-1]


def _run(*command: str | Path) -> None:
    # PostgreSQL refuses to run as root
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, *map(str, command)], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        pytest.fail(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own on a unix socket; gives the URL of its database `postgres`."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="limpet-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data, log = folder / "data", folder / "log"
    try:
        _run(binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -k {folder} -c fsync=off -c max_connections=60"
        _run(binaries / "pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            _run(binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
