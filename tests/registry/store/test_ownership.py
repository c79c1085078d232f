"""A home writes into, and removes from, a blob store only if the store's mark and its database name the same home."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from limpet.errors import ConflictError, IntegrityError, LimpetError
from limpet.home import init
from limpet.registry import versions
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import MARK_FILE
from limpet.registry.blobs.remote import RemoteBlobs
from limpet.registry.cleanup.gc import DAY, collect
from limpet.registry.database.migrate import upgrade
from limpet.registry.records import log
from limpet.registry.settings import Settings, load_settings, write_settings
from limpet.registry.store import Store, adopt_store, create_store, open_store
from limpet.registry.verification.verify import verify
from tests.registry.database.released import lay_home
from tests.registry.homes import add_version, again, stock


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return str(request.getfixturevalue("s3_url"))
    return str(tmp_path / "shared") if request.param == "folder" else f"memory://{uuid4().hex}"


def put_file(url: str, name: str, data: bytes) -> None:
    """Put a file of somebody else's into a store."""
    if "://" not in url:
        (Path(url) / name).parent.mkdir(parents=True, exist_ok=True)
        (Path(url) / name).write_bytes(data)
        return
    import fsspec

    with fsspec.open(f"{url}/{name}", "wb") as file:
        file.write(data)


def make_older(store: Store) -> None:
    """Let two days pass for a folder."""
    assert isinstance(store.blobs, LocalBlobs)
    long_ago = time.time() - 2 * DAY
    for file in store.blobs.root.rglob("*"):
        os.utime(file, (long_ago, long_ago))


def test_a_new_home_marks_its_store_and_is_known_by_it(url: str, tmp_path: Path) -> None:
    home = stock(tmp_path / "home", blobs=url)
    add_version(home, seed=1)
    mark = home.blobs.read_mark()
    assert mark is not None
    with home.database.read() as session:
        (id_,) = session.execute(text("SELECT id FROM home")).scalars()
    assert json.loads(mark)["home"]["home"] == id_
    opened = again(home)
    assert add_version(opened, seed=2).number == 2
    assert MARK_FILE not in list(opened.blobs.strays())
    assert collect(opened, grace_seconds=0, dry_run=False).bytes == 0
    assert (verify(opened), opened.blobs.read_mark()) == ((), mark)


def test_a_store_that_is_not_empty_is_refused_and_left_as_it_is(url: str, tmp_path: Path) -> None:
    put_file(url, "my-thesis/chapter1.tex", b"ten years of work")
    with pytest.raises(ConflictError, match="is not empty") as caught:
        create_store(tmp_path / "home", Settings(blobs=url, cache=tmp_path / "cache"))
    assert "limpet init --adopt" in caught.value.hint
    assert not (tmp_path / "home").exists()
    if "://" not in url:
        assert [file.name for file in Path(url).rglob("*") if file.is_file()] == ["chapter1.tex"]


def test_another_homes_store_is_refused_until_it_is_adopted_and_then_is_that_homes_no_more(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    first = stock(tmp_path / "a" / "home", blobs=url)
    version = add_version(first, seed=1)
    with pytest.raises(ConflictError, match="belongs to another home"):
        init(tmp_path / "b" / "home", blobs=url, mlflow="off")
    assert not (tmp_path / "b" / "home").exists()
    assert verify(again(first)) == ()
    second = init(tmp_path / "b" / "home", blobs=url, adopt=True, mlflow="off").store
    put_file(url, "notes.txt", b"mine")
    if "://" not in url:
        make_older(second)
    report = collect(second, grace_seconds=0, dry_run=False)
    assert (report.bytes, report.stray_names) == (0, ("notes.txt",))
    assert versions.files(first, version)
    for act in (lambda: add_version(again(first), seed=2), lambda: collect(first), lambda: _changed(first)):
        with pytest.raises(ConflictError, match="belongs to another home"):
            act()
    assert "owner" in [problem.kind for problem in verify(first)]


def _changed(store: Store) -> None:
    collect(store, dry_run=False)


def test_what_the_adopter_stores_and_forgets_itself_is_collected(tmp_path: Path) -> None:
    first = stock(tmp_path / "a" / "home", blobs=str(tmp_path / "shared"))
    theirs = first.blobs.put_bytes(b"theirs, and both would")
    second = init(tmp_path / "b" / "home", blobs=str(tmp_path / "shared"), adopt=True, mlflow="off").store
    ours = second.blobs.put_bytes(b"left by a killed register")
    assert collect(second, grace_seconds=0, dry_run=False).orphans.count == 1
    assert (second.blobs.exists(theirs), second.blobs.exists(ours)) == (True, False)


def test_of_several_that_mark_one_folder_at_once_one_does(tmp_path: Path) -> None:
    answers: list[bool] = []
    start = threading.Barrier(8)

    def mark(number: int) -> None:
        start.wait()
        try:
            LocalBlobs(tmp_path / "shared").write_mark(b"%d" % number, over=False)
            answers.append(True)
        except ConflictError:
            answers.append(False)

    threads = [threading.Thread(target=mark, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]


# homes from before there were marks


@pytest.fixture(params=["0001", "0003"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    database = lay_home(request.param, tmp_path / "old")
    upgrade(database)
    database.close()
    return tmp_path / "old"


def _move_blobs(home: Path, folder: Path) -> None:
    (home / "blobs").rename(folder)
    write_settings(home, load_settings(home, blobs=str(folder)))


def test_an_older_home_marks_the_folder_inside_it_at_the_first_opening(old: Path) -> None:
    (old / "blobs" / "README").write_text("whatever")
    home = open_store(old)
    assert home.blobs.read_mark() is not None
    assert {problem.kind for problem in verify(home)} == {"stray"}
    assert log.read(home).items[0].action == "claim"


def test_an_older_home_marks_another_folder_if_every_blob_there_is_its_own(old: Path, tmp_path: Path) -> None:
    _move_blobs(old, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "paper.tex").write_text("a person's")
    assert open_store(old).blobs.read_mark() is not None
    assert (tmp_path / "elsewhere" / "paper.tex").exists()


def test_an_older_home_beside_anothers_blobs_is_refused_until_a_person_says_whose_they_are(
    old: Path, tmp_path: Path
) -> None:
    _move_blobs(old, tmp_path / "elsewhere")
    other = LocalBlobs(tmp_path / "elsewhere").put_bytes(b"another home's")
    with pytest.raises(ConflictError, match="no owner's mark") as caught:
        open_store(old)
    assert caught.value.hint == f"if it is this home's alone: limpet init --adopt --home {old}"
    assert not (tmp_path / "elsewhere" / MARK_FILE).exists()
    init(old, adopt=True)
    home = open_store(old)
    make_older(home)
    collect(home, grace_seconds=0, dry_run=False)
    assert home.blobs.exists(other)


# one database, one home


def test_two_homes_do_not_share_a_database(home: Store, tmp_path: Path) -> None:
    db = home.database.url.render_as_string(hide_password=False)
    with pytest.raises(ConflictError, match="two homes can't share one database"):
        create_store(tmp_path / "second", Settings(db=db, cache=tmp_path / "cache"))
    assert not (tmp_path / "second").exists()
    assert verify(again(home)) == ()


def test_a_second_folder_with_the_same_database_and_blobs_is_another_way_into_the_home(
    home: Store, tmp_path: Path
) -> None:
    db = home.database.url.render_as_string(hide_password=False)
    second = create_store(tmp_path / "second", Settings(db=db, blobs=str(home.path / "blobs")))
    version = add_version(home, seed=1)
    assert versions.find(again(second)).items == (version,)
    assert verify(second) == ()
    second.database.close()


# copies


def test_a_copied_or_moved_home_goes_on_with_the_blobs_inside_it(tmp_path: Path) -> None:
    home = stock(tmp_path / "home")
    add_version(home, seed=1)
    home.database.close()
    copy = open_store(shutil.copytree(home.path, tmp_path / "copy"))
    copy.blobs.put_bytes(b"left by a killed register")
    assert collect(copy, grace_seconds=0, dry_run=False).orphans.count == 1
    assert (verify(copy), verify(again(home))) == ((), ())
    copy.database.close()


def test_a_copied_home_collects_nothing_from_a_store_that_both_use(tmp_path: Path) -> None:
    home = stock(tmp_path / "home", blobs=str(tmp_path / "shared"))
    home.database.close()
    copy = open_store(shutil.copytree(home.path, tmp_path / "copy"))
    version = add_version(home, seed=1)
    for dry_run in (True, False):
        with pytest.raises(ConflictError, match="moved, copied or restored") as caught:
            collect(copy, grace_seconds=0, dry_run=dry_run)
    assert f"limpet init --adopt --home {copy.path}" in caught.value.hint
    assert versions.files(home, version)
    copy.database.close()
    # a person gives the first one up; it collects no more
    home.database.close()
    adopted = adopt_store(copy.path)
    assert collect(adopted, grace_seconds=0, dry_run=False).bytes == 0
    with pytest.raises(ConflictError, match="moved, copied or restored"):
        collect(home, grace_seconds=0)
    assert log.read(adopted).items[0].action == "adopt"


def test_a_renamed_home_is_the_same_home(tmp_path: Path) -> None:
    home = stock(tmp_path / "home", blobs=str(tmp_path / "shared"))
    home.database.close()
    home.path.rename(tmp_path / "renamed")
    assert collect(open_store(tmp_path / "renamed"), grace_seconds=0, dry_run=False).bytes == 0


# damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda store: (store.blobs.root / MARK_FILE).unlink(),
        lambda store: _rewrite(store, b""),
        lambda store: _rewrite(store, b'{"home":{"home":"x"}}'),
        lambda store: _execute(store, "UPDATE home SET id = 'other'"),
        lambda store: _execute(store, "DELETE FROM home"),
    ],
    ids=["lost", "empty", "incomplete", "another id", "no id"],
)
def test_verify_names_a_mark_that_is_not_the_homes(home: Store, damage: Callable[[Store], object]) -> None:
    damage(home)
    assert "owner" in [problem.kind for problem in verify(home)]
    with pytest.raises(LimpetError):
        collect(home, grace_seconds=0)


def _rewrite(store: Store, data: bytes) -> None:
    assert isinstance(store.blobs, LocalBlobs)
    file = store.blobs.root / MARK_FILE
    file.chmod(0o644)
    file.write_bytes(data)


def _execute(store: Store, statement: str) -> None:
    with store.database.writer.begin() as connection:
        connection.execute(text(statement))


def test_a_mark_that_cannot_be_read_is_an_integrity_error_with_a_way_on(home: Store) -> None:
    _rewrite(home, b"{")
    with pytest.raises(IntegrityError, match="can't be read") as caught:
        again(home)
    assert f"limpet init --adopt --home {home.path}" in caught.value.hint
    adopt_store(home.path).database.close()
    assert verify(again(home)) == ()


def test_a_mark_that_was_lost_from_the_homes_own_folder_is_written_again(home: Store) -> None:
    assert isinstance(home.blobs, LocalBlobs)
    (home.blobs.root / MARK_FILE).unlink()
    assert verify(again(home)) == ()


def test_reading_asks_no_object_store_whose_it_is(s3_url: str, proxy: object, tmp_path: Path) -> None:
    home = stock(tmp_path / "home", blobs=s3_url)
    version = add_version(home, seed=1)
    proxy.requests.clear()  # type: ignore[attr-defined]
    opened = open_store(home.path, cache=home.settings.cache)
    assert isinstance(opened.blobs, RemoteBlobs)
    assert versions.files(opened, versions.resolve(opened, version.reference))
    assert proxy.requests == []  # type: ignore[attr-defined]
