from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, IntegrityError, UsageError
from limpet.registry import versions
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import blob_key
from limpet.registry.cleanup import gc
from limpet.registry.cleanup.gc import DAY, Tally, collect
from limpet.registry.database import clock_check
from limpet.registry.database.engine import Database
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import log, policy, tasks
from limpet.registry.store import Store
from limpet.registry.system import clock
from limpet.registry.values import VersionRecord
from limpet.registry.verification.verify import verify
from limpet.registry.versions import aliases, deletion
from tests.registry.homes import (
    PREDICTIONS,
    a_task,
    adapter_bytes,
    add_evaluation,
    add_version,
    draft,
)

SIZE = len(adapter_bytes("news", 1))


@pytest.fixture
def store(home: Store) -> Store:
    """Three versions, the first evaluated."""
    for seed in (1, 2, 3):
        add_version(home, seed=seed)
    add_evaluation(home, "news@1")
    return home


def _file(store: Store, data: bytes) -> Path:
    assert isinstance(store.blobs, LocalBlobs)
    return store.blobs.root / blob_key(digest_bytes(data))


def _age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def _age_all(store: Store, seconds: float) -> None:
    assert isinstance(store.blobs, LocalBlobs)
    for path in store.blobs.root.rglob("*"):
        _age(path, seconds)


def _picture(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_what_is_needed_stays(store: Store) -> None:
    before = sorted(store.blobs.digests())
    report = collect(store, grace_seconds=0, dry_run=False)
    assert report.bytes == 0
    assert sorted(store.blobs.digests()) == before
    deletion.delete(store, "news@2", "not wanted")
    assert collect(store, grace_seconds=0, dry_run=False).deleted == Tally(1, SIZE)
    assert verify(store) == ()


def test_by_itself_a_collection_only_looks(store: Store) -> None:
    deletion.delete(store, "news@2", "not wanted")
    policy.change(store, keep_last=1)
    store.blobs.put_bytes(b"left by a killed register")
    before = _picture(store.path)
    report = collect(store, grace_seconds=0)
    assert _picture(store.path) == before
    assert report.dry_run
    assert report.versions == ("news@1",)
    # without a grace period, the files of what retention lets go would go too
    assert (report.retention, report.deleted, report.orphans) == (Tally(1, SIZE), Tally(2, 2 * SIZE), Tally(1, 25))
    done = collect(store, grace_seconds=0, dry_run=False)
    assert (done.versions, done.retention, done.deleted, done.orphans, done.bytes) == (
        report.versions, report.retention, report.deleted, report.orphans, report.bytes,
    )  # fmt: skip


def test_files_of_deleted_versions_wait_for_the_grace_period(store: Store) -> None:
    _age_all(store, 2 * DAY)
    deletion.delete(store, "news@2", "not wanted")
    assert collect(store, dry_run=False).bytes == 0
    time.sleep(1.1)
    assert collect(store, grace_seconds=1, dry_run=False).deleted == Tally(1, SIZE)
    assert not _file(store, adapter_bytes("news", 2)).exists()
    assert verify(store) == ()
    assert versions.look_up(store, "news@2").files[0].size == SIZE


def test_what_waits_for_the_grace_period_is_counted_with_when_it_may_go(store: Store) -> None:
    assert (collect(store).waiting, collect(store).waiting_until) == (Tally(), None)
    before = clock.utc_now()
    deletion.delete(store, "news@2", "wrong")
    # the same bytes are another version's too
    add_version(store, "films", seed=9)
    add_version(store, seed=9)
    deletion.delete(store, "news@4", "wrong")
    looked = collect(store, DAY)
    # the manifests are files too
    assert looked.waiting.count >= 2 and looked.waiting.bytes >= SIZE
    assert looked.waiting_from is not None and looked.waiting_until is not None
    tomorrow = (datetime.fromisoformat(before) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert tomorrow <= looked.waiting_from <= looked.waiting_until
    assert looked.bytes == 0
    gone = collect(store, 0, dry_run=False)
    assert (gone.deleted, gone.waiting) == (looked.waiting, Tally())


def test_bytes_that_were_stored_again_wait_for_the_grace_period_again(store: Store) -> None:
    store.blobs.put_bytes(b"left by a killed register")
    _age_all(store, 2 * DAY)
    store.blobs.put_bytes(b"left by a killed register")
    assert collect(store, dry_run=False).bytes == 0
    _age_all(store, 2 * DAY)
    assert collect(store, dry_run=False).orphans == Tally(1, 25)


def test_a_file_of_two_versions_stays_until_both_are_deleted(store: Store) -> None:
    file = store.path / "adapter-shared"
    file.write_bytes(adapter_bytes("news", 1))
    twin, _ = versions.register(store, draft("films", 1), {"adapter_model.safetensors": file})
    deletion.delete(store, "news@1", "not wanted")
    assert collect(store, grace_seconds=0, dry_run=False).bytes == 0
    assert versions.files(store, twin)["adapter_model.safetensors"].read_bytes() == adapter_bytes("news", 1)
    deletion.delete(store, "films@1", "not wanted")
    assert collect(store, grace_seconds=0, dry_run=False).deleted == Tally(1, SIZE)


def test_the_evidence_of_a_deleted_version_stays(store: Store) -> None:
    deletion.delete(store, "news@1", "not wanted")
    assert collect(store, grace_seconds=0, dry_run=False).deleted == Tally(1, SIZE)
    assert _file(store, PREDICTIONS).exists()


def test_temporary_files_have_an_hour_in_any_case(store: Store) -> None:
    assert isinstance(store.blobs, LocalBlobs)
    young, old = (store.blobs.root / "tmp" / (letter * 32) for letter in "ab")
    young.write_bytes(b"half")
    old.write_bytes(b"a half written file")
    _age(old, 2 * 60 * 60)
    assert collect(store, dry_run=False).bytes == 0
    assert collect(store, grace_seconds=0).temporary == Tally(1, 19)
    assert collect(store, grace_seconds=0, dry_run=False).temporary == Tally(1, 19)
    assert list(store.blobs.strays()) == [f"tmp/{young.name}"]


STRAYS = ("README", "link", "sha256/00/not-a-blob", "sha256/ab", "thesis/chapter 1.tex", "tmp/notes")


def test_what_is_not_limpets_is_named_and_stays(store: Store, tmp_path: Path) -> None:
    assert isinstance(store.blobs, LocalBlobs)
    root, outside = store.blobs.root, tmp_path / "outside"
    outside.mkdir()
    (outside / ("c" * 62)).write_bytes(b"another's")
    shutil.rmtree(root / "sha256" / "ab", ignore_errors=True)
    (root / "link").symlink_to(outside)
    (root / "sha256" / "ab").symlink_to(outside)
    for name in set(STRAYS) - {"link", "sha256/ab"}:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"ten years of work")
    _age_all(store, 2 * DAY)
    before = _picture(tmp_path)
    for dry_run in (True, False):
        report = collect(store, grace_seconds=0, dry_run=dry_run)
        assert (report.stray_names, report.strays.count, report.bytes) == (STRAYS, len(STRAYS), 0)
    assert _picture(tmp_path) == before
    assert (root / "sha256" / "ab").is_symlink()


def test_a_blob_folder_behind_a_link_is_read_and_nothing_there_is_removed(store: Store, tmp_path: Path) -> None:
    assert isinstance(store.blobs, LocalBlobs)
    inside = store.blobs.root / "sha256"
    inside.rename(tmp_path / "big disk")
    inside.symlink_to(tmp_path / "big disk")
    deletion.delete(store, "news@2", "not wanted")
    assert add_version(store, seed=4).reference == "news@4"
    _age_all(store, 2 * DAY)
    report = collect(store, grace_seconds=0, dry_run=False)
    assert (report.bytes, report.stray_names) == (0, ("sha256",))
    assert [(problem.kind, problem.where) for problem in verify(store)] == [("stray", "sha256")]
    with pytest.raises(IntegrityError, match="leads out of the blob store"):
        store.blobs.remove(digest_bytes(adapter_bytes("news", 2)))
    assert versions.files(store, versions.resolve(store, "news@4"))


def test_what_is_stored_while_the_bytes_go_is_stored_again(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes are registered in each moment of their collection: they are there in the end."""
    for place in ("gc.marked", "gc.begun", "gc.committed", "gc.removed", "gc.swept"):
        version = add_version(home, seed=7)
        deletion.delete(home, version.reference, "to be registered again")
        again = _registering_beside(home, place, monkeypatch)
        assert collect(home, grace_seconds=0, dry_run=False).deleted.count <= 1
        made = again()
        assert made.number == version.number + 1
        assert verify(home) == (), place
        deletion.delete(home, made.reference, "next place")
        collect(home, grace_seconds=0, dry_run=False)


def _registering_beside(home: Store, place: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], VersionRecord]:
    """Let another thread register as soon as a place is reached; return what waits for its version."""
    made: list[VersionRecord] = []
    other = threading.Thread(target=lambda: made.append(add_version(home, seed=7)))

    def reach(name: str) -> None:
        if name == place and not other.ident:
            other.start()
            # it may have to wait for the end of the collection
            other.join(0.2)

    for module in ("limpet.registry.cleanup.gc.reach", "limpet.registry.database.engine.reach"):
        monkeypatch.setattr(module, reach)

    def wait() -> VersionRecord:
        other.join(60)
        return made[0]

    return wait


def test_the_blob_store_is_never_asked_while_the_write_lock_is_held(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    asked: list[str] = []
    write = Database.write

    @contextmanager
    def noted(self: Database, operation: str = "") -> Iterator[Session]:
        with write(self, operation) as session:
            held.append(True)
            try:
                yield session
            finally:
                held.pop()

    class Asked:
        def __getattr__(self, name: str) -> Any:
            if held:
                asked.append(name)
            return getattr(home.blobs, name)

    monkeypatch.setattr(Database, "write", noted)
    watched = replace(home, blobs=Asked())
    for _ in range(2):
        version = add_version(watched, seed=1)
        add_evaluation(watched, version.reference)
        tasks.add(watched, a_task(watched, "sport"))
        deletion.delete(watched, version.reference, "to be registered again")
        assert collect(watched, grace_seconds=0, dry_run=False).deleted.count == 1
    assert asked == []


def test_a_batch_asks_for_its_own_digests_by_an_index(home: Store) -> None:
    with home.database.read() as session:
        if home.database.url.get_backend_name() != "sqlite":
            return
        for table in ("evaluations", "abilities"):
            plan = session.connection().exec_driver_sql(
                f"EXPLAIN QUERY PLAN SELECT id FROM {table} WHERE predictions_digest IN ('a', 'b')"
            )
            assert f"ix_{table}_predictions_digest" in str(plan.all())


def test_retention_goes_first_and_its_files_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _age_all(store, 2 * DAY)
    aliases.promote(store, "news@2", "production")
    policy.change(store, keep_last=1)
    monkeypatch.setenv("LIMPET_ACTOR", "cron")
    report = collect(store, dry_run=False)
    assert (report.versions, report.retention, report.bytes) == (("news@1",), Tally(1, SIZE), 0)
    gone = versions.look_up(store, "news@1").deleted
    assert gone is not None
    assert (gone.actor, gone.reason) == ("cron", "retention: beyond the newest 1")
    assert versions.resolve(store, "news@production").number == 2
    assert _file(store, adapter_bytes("news", 1)).exists()
    assert collect(store, grace_seconds=0, dry_run=False).deleted == Tally(1, SIZE)
    assert verify(store) == ()


def test_a_collection_is_logged_with_what_it_removed_and_an_empty_one_is_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(store, grace_seconds=0, dry_run=False)
    assert not [event for event in log.read(store).items if event.action == "gc"]
    deletion.delete(store, "news@2", "not wanted")
    store.blobs.put_bytes(b"left by a killed register")
    monkeypatch.setenv("LIMPET_ACTOR", "cron")
    collect(store, grace_seconds=0, dry_run=False)
    event = log.read(store).items[0]
    assert (event.action, event.actor, event.subject) == ("gc", "cron", "home")
    assert event.detail == {"deleted": {"count": 1, "bytes": SIZE}, "orphans": {"count": 1, "bytes": 25}}


def test_a_record_made_after_the_marking_keeps_its_bytes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    deletion.delete(store, "news@2", "not wanted")
    made = []

    def reach(place: str) -> None:
        # the very bytes that are marked are registered again, and the clock does not help
        if place == "gc.marked":
            made.append(add_version(store, seed=2))
            _age_all(store, 2 * DAY)

    monkeypatch.setattr(gc, "reach", reach)
    assert collect(store, grace_seconds=0, dry_run=False).deleted == Tally()
    assert made[0].number == 4
    assert verify(store) == ()


def test_an_interrupted_collection_is_completed_by_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        deletion.delete(store, f"news@{number}", "not wanted")
    with monkeypatch.context() as patch:
        patch.setattr(gc, "reach", lambda place: 1 / 0 if place == "gc.removed" else None)
        with pytest.raises(ZeroDivisionError):
            collect(store, grace_seconds=0, dry_run=False)
    assert verify(store) == ()
    assert collect(store, grace_seconds=0, dry_run=False).deleted == Tally(1, SIZE)


def test_a_home_without_a_blob_folder_has_nothing_to_collect(store: Store) -> None:
    assert isinstance(store.blobs, LocalBlobs)
    shutil.rmtree(store.blobs.root)
    assert collect(store, grace_seconds=0, dry_run=False).bytes == 0


@pytest.mark.parametrize("grace", [-1, 10**9])
def test_a_grace_period_without_sense_is_refused(store: Store, grace: int) -> None:
    with pytest.raises(UsageError, match="grace period"):
        collect(store, grace_seconds=grace)


# the clock


def _set_clock(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Let the registry see another time; files keep the moments that the file system gives them."""
    shift, real_time = days * DAY, time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=shift)

    for module in (clock, clock_check):
        monkeypatch.setattr(module, "datetime", Shifted)
    monkeypatch.setattr(gc, "time", SimpleNamespace(time=lambda: real_time() + shift))


@pytest.mark.parametrize("days", [-2, 20, 365])
def test_nothing_goes_by_a_clock_that_is_far_from_the_newest_event(
    store: Store, monkeypatch: pytest.MonkeyPatch, days: float
) -> None:
    policy.change(store, keep_last=1)
    _set_clock(monkeypatch, days)
    before = sorted(store.blobs.digests())
    assert collect(store).clock_doubt
    with pytest.raises(ConflictError, match="The clock of this machine says") as caught:
        collect(store, dry_run=False)
    assert "--today" in caught.value.hint
    with pytest.raises(ConflictError, match="and not 2001-02-03"):
        collect(store, dry_run=False, today="2001-02-03")
    assert (sorted(store.blobs.digests()), versions.look_up(store, "news@1").deleted) == (before, None)
    today = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    assert collect(store, dry_run=False, today=today).versions == ("news@1", "news@2")


def test_an_orphan_is_not_taken_for_old_by_a_wrong_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = store.blobs.put_bytes(b"about to be registered")
    _set_clock(monkeypatch, 365)
    with pytest.raises(ConflictError, match="counts as old"):
        collect(store, dry_run=False)
    assert store.blobs.exists(orphan)


def test_an_event_of_the_same_day_does_not_bear_out_the_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    policy.change(store, keep_days=30)
    _set_clock(monkeypatch, 365)
    # trained under the wrong clock a moment ago
    add_version(store, seed=9)
    with pytest.raises(ConflictError, match="nothing has happened in this home since"):
        collect(store, dry_run=False)
    _set_clock(monkeypatch, 367)
    # after two days it is the clock of the home
    assert collect(store, dry_run=False).versions == ("news@1", "news@2", "news@3")


@pytest.mark.parametrize("days", [-0.5, 0, 1, 13])
def test_a_clock_near_the_newest_event_is_trusted(store: Store, monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    _set_clock(monkeypatch, days)
    assert collect(store).clock_doubt == ""


def test_a_home_with_nothing_to_remove_asks_for_no_date(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_clock(monkeypatch, 365)
    assert collect(store, dry_run=False).bytes == 0


def test_what_is_no_date_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="is no date"):
        collect(store, today="tomorrow")
