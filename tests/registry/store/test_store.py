from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from limpet.errors import ConflictError, IntegrityError, LimpetError, NotFoundError, UsageError
from limpet.registry.database.engine import database_url
from limpet.registry.records import bases
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store, find_home, new_store, open_store
from limpet.registry.system.failpoints import VARIABLE
from limpet.registry.verification.verify import verify
from tests.registry.database.released import lay_home
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


def _older(folder: Path) -> Settings:
    lay_home("0001", folder).close()
    return Settings(db=f"sqlite:///{folder / 'limpet.db'}")


def _of_another_program(folder: Path) -> Settings:
    with closing(sqlite3.connect(folder / "app.db")) as connection:
        connection.execute("CREATE TABLE users (id INTEGER)")
        connection.commit()
    return Settings(db=f"sqlite:///{folder / 'app.db'}")


def _blobs_in_use(folder: Path) -> Settings:
    (folder / "blobs").mkdir()
    (folder / "blobs" / "photo.jpg").write_bytes(b"a photo")
    return Settings(blobs=str(folder / "blobs"))


def _blobs_behind_a_file(folder: Path) -> Settings:
    (folder / "file").touch()
    return Settings(blobs=str(folder / "file" / "blobs"))


@pytest.mark.parametrize(
    "prepare", [_older, _of_another_program, _blobs_in_use, _blobs_behind_a_file], ids=lambda made: made.__name__
)
def test_an_init_that_fails_leaves_nothing_and_changes_nothing(
    tmp_path: Path, prepare: Callable[[Path], Settings]
) -> None:
    (tmp_path / "theirs").mkdir()
    settings = prepare(tmp_path / "theirs")
    before = _picture(tmp_path)
    with pytest.raises(LimpetError):
        create_store(tmp_path / "deep" / "home", settings)
    assert _picture(tmp_path) == before


def _picture(folder: Path) -> dict[str, bytes | None]:
    return {str(file): file.read_bytes() if file.is_file() else None for file in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("error", [KeyboardInterrupt, NotFoundError], ids=lambda error: error.__name__)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_goes_wrong_while_a_home_is_made_takes_all_of_it_away(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, error: type[BaseException]
) -> None:
    db = None if database == "sqlite" else request.getfixturevalue("postgres_url")
    settings = Settings(db=db, blobs=str(tmp_path / "elsewhere" / "blobs"))
    with pytest.raises(error), new_store(tmp_path / "home", settings):
        raise error("a base that can't be one")
    assert list(tmp_path.iterdir()) == []
    # nothing is in the way of the next
    assert verify(create_store(tmp_path / "home", settings)) == ()


def test_a_database_with_an_older_schema_is_only_changed_by_an_upgrade(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="older schema 0001") as caught:
        create_store(tmp_path / "home", _older(tmp_path))
    assert caught.value.hint == "limpet db upgrade"


CREATE = """
import sys
from pathlib import Path
from limpet.registry.settings import Settings
from limpet.registry.store import create_store
create_store(Path(sys.argv[1]), Settings(blobs=sys.argv[2] or None))
"""


@pytest.mark.parametrize("blobs", ["", "shared"], ids=["blobs inside", "blobs outside"])
@pytest.mark.parametrize("place", ["migrate.written", "claim.marked", "claim.written", "claim.committed"])
def test_a_death_in_an_init_leaves_what_the_next_one_completes(tmp_path: Path, place: str, blobs: str) -> None:
    home, blobs = tmp_path / "home", blobs and str(tmp_path / blobs)
    command = [sys.executable, "-c", CREATE, str(home), blobs]
    assert subprocess.run(command, env=os.environ | {VARIABLE: place}).returncode == -signal.SIGKILL
    with pytest.raises(NotFoundError):
        open_store(home)
    create_store(home, Settings(blobs=blobs or None)).database.close()
    assert verify(open_store(home)) == ()


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


def test_the_folder_above_a_home_names_it_unless_it_is_one_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIMPET_HOME", raising=False)
    inside = create_store(tmp_path / "project" / ".limpet", Settings(cache=tmp_path / "cache")).path
    assert find_home(tmp_path, inside.parent) == inside
    assert find_home(tmp_path, inside) == inside
    monkeypatch.setenv("LIMPET_HOME", str(inside.parent))
    assert find_home(tmp_path) == inside
    outside = create_store(inside.parent, Settings(cache=tmp_path / "cache")).path
    assert find_home(tmp_path, outside) == outside
    # a folder in which anybody may write is named, and the home that somebody laid there is not
    (outside / "limpet.toml").unlink()
    mine = inside.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    monkeypatch.setattr("limpet.registry.system.home_folder._ROOT", mine + 2)
    with pytest.raises(ConflictError):
        find_home(tmp_path, outside)


def test_another_users_home_above_is_only_used_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMPET_HOME", raising=False)
    monkeypatch.delenv("SUDO_UID", raising=False)
    below = tmp_path / "work"
    below.mkdir()
    home = create_store(tmp_path / ".limpet", Settings()).path
    mine = os.geteuid()
    with monkeypatch.context() as patch:
        # whoever owns it, the one who runs this is another, and it is not root's
        patch.setattr(os, "geteuid", lambda: mine + 1)
        patch.setattr("limpet.registry.system.home_folder._ROOT", mine + 2)
        with pytest.raises(ConflictError, match="belongs to another user") as caught:
            find_home(below)
        assert f"--home {home}" in caught.value.hint
        patch.setenv("LIMPET_HOME", str(home))
        assert find_home(below) == home
        patch.delenv("LIMPET_HOME")
        patch.setattr("limpet.registry.system.home_folder._ROOT", mine)
        assert find_home(below) == home
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 0)
        patch.setattr("limpet.registry.system.home_folder._ROOT", 0)
        patch.setenv("SUDO_UID", str(mine))
        assert find_home(below) == home


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
