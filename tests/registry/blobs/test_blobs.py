from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from limpet.errors import IntegrityError, LimpetError, NotFoundError, UnavailableError
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.opening import open_blobs
from limpet.registry.blobs.protocol import BlobStore, blob_key
from limpet.registry.blobs.remote import RemoteBlobs
from limpet.registry.formats.canonical import digest_bytes

DATA = b"limpet" * 1000


@pytest.fixture(params=["folder", "memory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return LocalBlobs(tmp_path / "blobs")
    url = f"memory://{uuid4().hex}" if request.param == "memory" else request.getfixturevalue("s3_url")
    return open_blobs(url, tmp_path / "blobs", tmp_path / "cache")


@pytest.fixture
def local(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


def overwrite(blobs: BlobStore, digest: str, data: bytes) -> None:
    if isinstance(blobs, RemoteBlobs):
        blobs.system.pipe_file(f"{blobs.root}/{blob_key(digest)}", data)
        (blobs.cache.root / blob_key(digest)).unlink()
    else:
        assert isinstance(blobs, LocalBlobs)
        file = blobs.root / blob_key(digest)
        file.chmod(0o644)
        file.write_bytes(data)


def test_bytes_come_back_by_digest(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    blob = blobs.put(tmp_path / "file")
    assert (blob.digest, blob.size) == (digest_bytes(DATA), len(DATA))
    assert blobs.put_bytes(DATA) == blob.digest
    assert blobs.path(blob.digest).read_bytes() == blobs.read(blob.digest) == DATA
    assert blobs.size(blob.digest) == len(DATA)
    assert list(blobs.digests()) == [blob.digest]
    assert list(blobs.strays()) == []


def test_every_flipped_bit_is_found_on_load(blobs: BlobStore) -> None:
    digest = blobs.put_bytes(DATA)
    for place in (0, len(DATA) // 2, len(DATA) - 1):
        flipped = bytearray(DATA)
        flipped[place] ^= 1
        overwrite(blobs, digest, bytes(flipped))
        with pytest.raises(IntegrityError):
            blobs.path(digest)
        with pytest.raises(IntegrityError):
            blobs.read(digest)
        assert blobs.rehash(digest) != digest
        overwrite_whole(blobs, digest)


def overwrite_whole(blobs: BlobStore, digest: str) -> None:
    blobs.put_bytes(DATA)
    overwrite(blobs, digest, DATA)
    assert blobs.read(digest) == DATA


def test_a_missing_blob_is_an_integrity_error(blobs: BlobStore) -> None:
    digest = digest_bytes(b"never stored")
    assert not blobs.exists(digest)
    for ask in (blobs.path, blobs.read, blobs.rehash):
        with pytest.raises(IntegrityError, match="missing"):
            ask(digest)


def test_a_truncated_blob_is_replaced_by_storing_it_again(blobs: BlobStore) -> None:
    digest = blobs.put_bytes(DATA)
    overwrite(blobs, digest, DATA[:100])
    blobs.put_bytes(DATA)
    assert blobs.read(digest) == DATA


def test_no_text_but_a_digest_reaches_a_path(blobs: BlobStore) -> None:
    for name in ("../../etc/passwd", "sha256:../../etc/passwd", "sha256:" + "g" * 64, "/etc/passwd"):
        with pytest.raises(IntegrityError):
            blobs.path(name)


def test_a_missing_source_is_not_found(blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        blobs.put(tmp_path / "absent")
    with pytest.raises(NotFoundError):
        blobs.put(tmp_path)


def test_storing_again_leaves_the_bytes_alone_and_renews_the_time(local: LocalBlobs, tmp_path: Path) -> None:
    digest = local.put_bytes(DATA)
    file = local.path(digest)
    (tmp_path / "file").write_bytes(DATA)
    for store_again in (lambda: local.put_bytes(DATA), lambda: local.put(tmp_path / "file")):
        os.utime(file, (1000, 1000))
        before = file.stat()
        store_again()
        assert file.stat().st_ino == before.st_ino
        assert (local.modified(digest) or 0) > time.time() - 60
    assert list(local.strays()) == []


def test_a_remote_blob_that_is_stored_again_is_new(tmp_path: Path) -> None:
    remote = open_blobs(f"memory://{uuid4().hex}", tmp_path / "blobs", tmp_path / "cache")
    assert isinstance(remote, RemoteBlobs)
    digest = remote.put_bytes(DATA)
    remote.system.store[f"{remote.root}/{blob_key(digest)}"].modified = datetime.now(UTC) - timedelta(minutes=50)
    remote.put_bytes(DATA)
    assert time.time() - (remote.modified(digest) or 0) < 60


@pytest.mark.parametrize("rotten", [b"limpeT" * 1000, DATA[:100], b""], ids=["flipped", "cut", "empty"])
def test_bytes_that_rotted_are_mended_by_storing_the_good_ones_again(
    blobs: BlobStore, tmp_path: Path, rotten: bytes
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    digest = blobs.put_bytes(DATA)
    for store_again in (lambda: blobs.put_bytes(DATA), lambda: blobs.put(tmp_path / "file")):
        overwrite(blobs, digest, rotten)
        assert blobs.rehash(digest) != digest
        store_again()
        assert blobs.rehash(digest) == digest
        assert blobs.read(digest) == DATA
    assert list(blobs.strays()) == []


def test_a_link_in_the_place_of_a_blob_is_replaced_by_the_bytes(local: LocalBlobs, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(DATA)
    digest = local.put_bytes(DATA)
    place = local.path(digest)
    place.unlink()
    place.symlink_to(tmp_path / "outside")
    local.put_bytes(DATA)
    assert not place.is_symlink()
    assert local.read(digest) == DATA


def test_a_rotten_copy_is_mended_before_it_is_uploaded(tmp_path: Path) -> None:
    remote = open_blobs(f"memory://{uuid4().hex}", tmp_path / "blobs", tmp_path / "cache")
    assert isinstance(remote, RemoteBlobs)
    digest = remote.put_bytes(DATA)
    overwrite(remote.cache, digest, b"limpeT" * 1000)
    remote.system.rm_file(f"{remote.root}/{blob_key(digest)}")
    assert remote.put_bytes(DATA) == digest
    assert remote.rehash(digest) == digest


def test_what_is_removed_is_gone_and_can_be_stored_again(blobs: BlobStore) -> None:
    digest, other = blobs.put_bytes(DATA), blobs.put_bytes(b"other")
    assert abs((blobs.modified(digest) or 0) - time.time()) < 60
    blobs.remove(digest)
    blobs.remove(digest)
    assert not blobs.exists(digest)
    assert blobs.modified(digest) is None
    assert list(blobs.digests()) == [other]
    with pytest.raises(IntegrityError, match="missing"):
        blobs.read(digest)
    assert blobs.put_bytes(DATA) == digest
    assert blobs.read(digest) == DATA


def test_strays_are_removed_by_name_and_nothing_else_is(blobs: BlobStore, tmp_path: Path) -> None:
    digest = blobs.put_bytes(DATA)
    (tmp_path / "outside").write_bytes(b"x")
    if isinstance(blobs, LocalBlobs):
        (blobs.root / "left").write_bytes(b"x")
        (blobs.root / "link").symlink_to(tmp_path)
    else:
        assert isinstance(blobs, RemoteBlobs)
        blobs.system.pipe_file(f"{blobs.root}/left", b"x")
    assert abs((blobs.stray_modified("left") or 0) - time.time()) < 60
    assert (blobs.stray_size("left"), blobs.stray_size("absent"), blobs.stray_modified("absent")) == (1, None, None)
    for name in ("../outside", str(tmp_path / "outside"), "sha256/../../outside", blob_key(digest), ""):
        with pytest.raises(IntegrityError):
            blobs.remove_stray(name)
    if isinstance(blobs, LocalBlobs):
        with pytest.raises(IntegrityError):
            blobs.remove_stray("link/outside")
    for name in list(blobs.strays()):
        blobs.remove_stray(name)
        blobs.remove_stray(name)
        assert blobs.stray_modified(name) is None
    assert list(blobs.strays()) == []
    assert (tmp_path / "outside").exists()
    assert blobs.read(digest) == DATA


def test_each_folder_is_synced_once_and_after_all_files_are_in_their_place(
    local: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{index}" for index in range(80)]
    for index, path in enumerate(paths):
        path.write_bytes(bytes([index]))
    local.put_all(paths[:40])
    synced: list[Path] = []
    here: list[bool] = []

    def note(folder: Path) -> None:
        synced.append(folder)
        here.append(all(local.exists(digest_bytes(path.read_bytes())) for path in paths))

    monkeypatch.setattr("limpet.registry.blobs.local.sync_file", note)
    local.put_all(paths)
    folders = [folder for folder in synced if folder.parent.name == "sha256"]
    assert len(folders) == len({digest_bytes(path.read_bytes())[:9] for path in paths}) < len(paths)
    assert all(ok for ok, folder in zip(here, synced, strict=True) if folder.parent.name == "sha256")


def test_strays_are_everything_out_of_place(local: LocalBlobs) -> None:
    digest = local.put_bytes(DATA)
    (local.root / "tmp" / "left-by-a-kill").write_bytes(b"x")
    (local.root / "sha256" / "extra").write_bytes(b"x")
    (local.root / "sha256" / "ab").mkdir()
    (local.root / "sha256" / "ab" / "link").symlink_to(local.path(digest))
    assert list(local.strays()) == ["sha256/ab/link", "sha256/extra", "tmp/left-by-a-kill"]
    assert list(local.digests()) == [digest]


@contextmanager
def small_files_only() -> Iterator[None]:
    """Refuse files over 4 KiB, as a full disk would; no longer than needed, for pytest writes files of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_half_way_leaves_nothing(local: LocalBlobs) -> None:
    local.put_bytes(b"small")
    with small_files_only(), pytest.raises(LimpetError, match="Nothing was stored"):
        local.put_bytes(b"x" * 1_000_000)
    assert list(local.strays()) == []
    assert list(local.digests()) == [digest_bytes(b"small")]


def test_a_store_that_cannot_be_made_gives_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LimpetError, match="can't be written"):
        LocalBlobs(tmp_path / "file" / "blobs").put_bytes(DATA)


def test_a_rotten_copy_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    remote = open_blobs(f"memory://{uuid4().hex}", tmp_path / "blobs", tmp_path / "cache")
    assert isinstance(remote, RemoteBlobs)
    digest = remote.put_bytes(DATA)
    overwrite(remote.cache, digest, b"rotten")
    assert remote.read(digest) == DATA


def test_an_unknown_protocol_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        open_blobs("nosuch://bucket", tmp_path, tmp_path)
