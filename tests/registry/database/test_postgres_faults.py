"""A PostgreSQL server that restarts, goes away or refuses to write: a typed error, nothing half done, then work."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, make_url, text

from limpet.errors import ConflictError, LimpetError, UnavailableError
from limpet.registry import versions
from limpet.registry.database import engine
from limpet.registry.database.migrate import current
from limpet.registry.store import Store, blob_removal, open_store
from limpet.registry.verification.verify import verify
from limpet.registry.versions import VersionQuery, alias_history, aliases, tags
from tests.registry.homes import add_version, again, draft, register, stock
from tests.registry.postgres import Server, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own: the others' tests must not lose theirs."""
    with postgres_server() as made:
        yield made


@pytest.fixture
def far(server: Server, tmp_path: Path) -> Iterator[Store]:
    """A home in the server's own database, one version in it."""
    store = stock(tmp_path / "home", server.url)
    add_version(store, seed=1)
    yield store
    if not server.runs:
        server.start()
    with store.database.writer.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    store.database.close()


def references(store: Store) -> list[str]:
    return [version.reference for version in versions.find(store).items]


def test_an_open_home_survives_a_restart_of_its_server(far: Store, server: Server) -> None:
    assert references(far) == ["news@1"]
    server.stop()
    server.start()
    assert add_version(far, seed=2).reference == "news@2"
    assert verify(far) == ()


def test_a_server_that_is_shut_down_is_unavailable_until_it_is_back(far: Store, server: Server) -> None:
    server.stop()
    for act in (lambda: add_version(far, seed=2), lambda: references(far), lambda: open_store(far.path)):
        with pytest.raises(UnavailableError, match="can't be used") as caught:
            act()
        assert caught.value.exit_code == 1
    command = [sys.executable, "-m", "limpet", "--home", str(far.path), "task", "list"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: The database postgresql+psycopg://")
    assert len(done.stderr.splitlines()) == 2
    server.start()
    assert references(again(far)) == ["news@1"]
    # what was stored before the server was missed is taken up
    assert add_version(far, seed=2).reference == "news@2"
    assert verify(far) == ()


def test_a_server_that_goes_away_in_a_transaction_leaves_nothing_of_it(far: Store, server: Server) -> None:
    with pytest.raises(UnavailableError), far.database.write() as session:
        session.execute(text("INSERT INTO policies VALUES ('half', 'done')"))
        server.stop()
        server.start()
        session.execute(text("INSERT INTO policies VALUES ('other', 'half')"))
    with far.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM policies")).scalar() == 0
    assert register(far, draft(seed=1))[1] is False
    assert verify(far) == ()


@pytest.fixture
def strict(home: Store, postgres_admin: Connection) -> Store:
    """A home on a database whose transactions are repeatable reads unless they say otherwise."""
    home.database.close()
    name = home.database.url.database
    postgres_admin.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"))
    return home


@pytest.mark.parametrize("home_after", ["postgresql"], indirect=True)
def test_writers_need_not_know_the_isolation_that_the_server_has_by_default(strict: Store) -> None:
    add_version(strict, seed=0)

    def work(writer: int) -> None:
        # an engine of its own, as another process has
        own = again(strict)
        for turn in range(8):
            tags.change(own, "news@1", {"turn": f"{writer}-{turn}"})
            add_version(own, "films", seed=100 * writer + turn)
        own.database.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(1, 5)))
    assert len(versions.find(strict, VersionQuery(task="films")).items) == 32
    assert verify(strict) == ()


@pytest.mark.parametrize("home_after", ["postgresql"], indirect=True)
@pytest.mark.parametrize("lock", ["writers", "removers"])
def test_who_waits_for_a_writer_that_hangs_gives_up(home: Store, lock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add_version(home, seed=1)
    other = again(home)
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 200)
    monkeypatch.setattr(blob_removal, "BUSY_TIMEOUT_MS", 200)
    held = home.database.write() if lock == "writers" else blob_removal.removing(home.database)
    with held:
        began = time.monotonic()
        with pytest.raises(ConflictError, match="was held by another process") as caught:
            if lock == "writers":
                aliases.promote(other, "news@1", "production")
            else:
                with blob_removal.removing(other.database):
                    raise AssertionError("there were two")
        assert caught.value.exit_code == 4
        assert time.monotonic() - began < 5
    assert alias_history.moves(other, "news") == ()
    assert aliases.promote(other, "news@1", "production").to_number == 1
    other.database.close()


def test_a_password_is_in_no_error(tmp_path: Path) -> None:
    url = f"postgresql://ada:geheim@/limpet?host={tmp_path}"
    with pytest.raises(UnavailableError) as caught:
        current(engine.connect(engine.database_url(url, tmp_path)))
    assert "geheim" not in caught.value.message + caught.value.hint
    assert "ada:***@" in caught.value.message


@pytest.fixture
def frozen(home: Store, postgres_admin: Connection, request: pytest.FixtureRequest) -> Store:
    """A home on a database that lets nobody write, as a standby does."""
    add_version(home, seed=1)
    home.database.close()
    name = home.database.url.database
    postgres_admin.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    return home


@pytest.mark.parametrize("home_after", ["postgresql"], indirect=True)
def test_a_read_only_server_can_be_read_and_refuses_to_write(frozen: Store) -> None:
    assert references(frozen) == ["news@1"]
    for act in (lambda: add_version(frozen, seed=2), lambda: aliases.promote(frozen, "news@1", "production")):
        with pytest.raises(LimpetError, match="Nothing was recorded") as caught:
            act()
        assert caught.value.exit_code == 1


@pytest.mark.parametrize("home_after", ["postgresql"], indirect=True)
def test_a_user_without_the_right_to_write_gets_a_typed_error(home: Store, postgres_admin: Connection) -> None:
    add_version(home, seed=1)
    with home.database.writer.begin() as connection:
        connection.execute(text("CREATE ROLE reader LOGIN"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
    try:
        url = make_url(str(home.settings.db)).set(username="reader").render_as_string()
        reader = open_store(home.path, db=url)
        assert references(reader) == ["news@1"]
        with pytest.raises(LimpetError, match=r"Nothing was recorded.*permission denied"):
            add_version(reader, seed=2)
        reader.database.close()
    finally:
        with home.database.writer.begin() as connection:
            connection.execute(text("DROP OWNED BY reader"))
            connection.execute(text("DROP ROLE reader"))
