from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from limpet.errors import UsageError
from limpet.registry import aliases, deletion, gc, log, policy, versions
from limpet.registry.blobs import LocalBlobs, blob_key
from limpet.registry.canonical import digest_bytes
from limpet.registry.gc import DAY, Tally, collect
from limpet.registry.store import Store
from limpet.registry.verify import verify
from tests.registry.homes import (
    PREDICTIONS,
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


def test_strays_go_and_temporary_files_have_an_hour_in_any_case(store: Store, tmp_path: Path) -> None:
    assert isinstance(store.blobs, LocalBlobs)
    root, outside = store.blobs.root, tmp_path / "outside"
    outside.write_bytes(b"not ours")
    (root / "README").write_bytes(b"hello")
    (root / "tmp" / "young").write_bytes(b"half")
    (root / "tmp" / "old").write_bytes(b"a half written file")
    (root / "link").symlink_to(outside)
    _age(root / "tmp" / "old", 2 * 60 * 60)
    assert collect(store, dry_run=False).bytes == 0
    looked = collect(store, grace_seconds=0)
    assert (looked.strays.count, looked.temporary) == (2, Tally(1, 19))
    assert collect(store, grace_seconds=0, dry_run=False).strays == looked.strays
    assert sorted(store.blobs.strays()) == ["tmp/young"]
    assert outside.read_bytes() == b"not ours"


def test_retention_goes_first_and_its_files_wait(store: Store) -> None:
    _age_all(store, 2 * DAY)
    aliases.promote(store, "news@2", "production")
    policy.change(store, keep_last=1)
    report = collect(store, dry_run=False, actor="cron")
    assert (report.versions, report.retention, report.bytes) == (("news@1",), Tally(1, SIZE), 0)
    gone = versions.look_up(store, "news@1").deleted
    assert gone is not None
    assert (gone.actor, gone.reason) == ("cron", "retention: beyond the newest 1")
    assert versions.resolve(store, "news@production").number == 2
    assert _file(store, adapter_bytes("news", 1)).exists()
    assert collect(store, grace_seconds=0, dry_run=False).deleted == Tally(1, SIZE)
    assert verify(store) == ()


def test_a_collection_is_logged_with_what_it_removed_and_an_empty_one_is_not(store: Store) -> None:
    collect(store, grace_seconds=0, dry_run=False)
    assert not [event for event in log.read(store).items if event.action == "gc"]
    deletion.delete(store, "news@2", "not wanted")
    store.blobs.put_bytes(b"left by a killed register")
    collect(store, grace_seconds=0, dry_run=False, actor="cron")
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
