from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from limpet.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from limpet.registry import bases
from limpet.registry.database import database_url
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store, find_home, open_store
from tests.registry.homes import a_base, again, stock


def test_a_new_home_opens_again_with_what_was_kept(store: Store) -> None:
    kept = bases.add(store, a_base())
    assert bases.list_all(again(store)) == (kept,)


def test_a_second_init_is_a_conflict(store: Store) -> None:
    with pytest.raises(ConflictError):
        create_store(store.path, store.settings)


def test_a_half_made_home_is_completed(store: Store) -> None:
    (store.path / "limpet.toml").unlink()
    with pytest.raises(NotFoundError):
        open_store(store.path)
    create_store(store.path, store.settings)
    assert bases.list_all(again(store)) == ()


def test_a_home_without_its_database_is_not_made_anew(store: Store) -> None:
    (store.path / "limpet.db").unlink()
    with pytest.raises(NotFoundError, match="lost its database"):
        open_store(store.path)
    assert not (store.path / "limpet.db").exists()


def test_a_newer_schema_is_refused(store: Store) -> None:
    with sqlite3.connect(store.path / "limpet.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConflictError, match="newer"):
        open_store(store.path)


def test_a_file_that_is_no_database_is_an_integrity_error(store: Store) -> None:
    store.database.close()
    (store.path / "limpet.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(IntegrityError):
        open_store(store.path)


def test_a_file_in_the_way_is_a_conflict(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(ConflictError):
        create_store(tmp_path / "home", Settings())


def test_home_is_the_nearest_one_upward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMPET_HOME", raising=False)
    below = tmp_path / "a" / "b"
    (below / ".limpet").mkdir(parents=True)
    with pytest.raises(NotFoundError):
        find_home(below)
    create_store(tmp_path / ".limpet", Settings())
    assert find_home(below) == tmp_path / ".limpet"
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "other"))
    assert find_home(below) == tmp_path / "other"


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "nonsense", "://"])
def test_other_databases_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        database_url(url, tmp_path)


def test_a_relative_sqlite_file_is_taken_from_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stock(tmp_path / "home", "sqlite:///data.db")
    monkeypatch.chdir("/")
    assert len(bases.list_all(again(store))) == 1
    assert (tmp_path / "home" / "data.db").is_file()


def test_sqlite_is_set_as_promised(store: Store) -> None:
    with store.database.read() as session:
        answers = [
            session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert answers == ["delete", 3, 1, 60_000]


def test_opening_a_home_imports_nothing_heavy(store: Store) -> None:
    script = (
        "import sys; from pathlib import Path; from limpet.registry.store import open_store; "
        f"open_store(Path({str(store.path)!r})); "
        "print({'torch', 'transformers', 'peft', 'alembic', 'mlflow', 'numpy', 'fsspec'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
