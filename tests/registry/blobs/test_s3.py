"""A home whose blobs lie on an S3 server: the promises of a folder, and what the network may do to them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from limpet.errors import IntegrityError, LimpetError, UnavailableError, UsageError
from limpet.registry import versions
from limpet.registry.blobs.opening import open_blobs
from limpet.registry.blobs.protocol import blob_key
from limpet.registry.blobs.remote import RemoteBlobs
from limpet.registry.cleanup import gc
from limpet.registry.exchange import export_import
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store, open_store
from limpet.registry.values import VersionRecord
from limpet.registry.verification.verify import verify
from tests.registry.blobs.s3 import SECRET, Proxy
from tests.registry.exchange.bundles import adapter_files, add_sound_version
from tests.registry.homes import adapter_bytes, add_version, draft, register, stock
from tests.registry.versions.test_concurrency import PROCESSES, run_together

ADAPTER = digest_bytes(adapter_bytes("news", 1))
BIG = os.urandom(200_000)


@pytest.fixture
def far(tmp_path: Path, s3_url: str) -> Iterator[Store]:
    """A home with blobs on S3."""
    made = stock(tmp_path / "home", blobs=s3_url)
    yield made
    made.database.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up at once, so that a test of a dead server takes no minute."""
    options = {"read_timeout": 0.3, "retries": {"mode": "standard", "total_max_attempts": 1}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": options})


def remote(store: Store) -> RemoteBlobs:
    assert isinstance(store.blobs, RemoteBlobs)
    return store.blobs


def key(store: Store, digest: str = ADAPTER) -> str:
    return f"{remote(store).root}/{blob_key(digest)}"


def elsewhere(store: Store, tmp_path: Path) -> Store:
    """Open the home on another machine, which has no copies."""
    return open_store(store.path, cache=tmp_path / f"cache-{uuid4().hex}")


def references(store: Store) -> list[str]:
    return [version.reference for version in versions.find(store).items]


def test_a_version_is_used_on_another_machine(far: Store, tmp_path: Path) -> None:
    made = add_version(far, seed=1)
    there = elsewhere(far, tmp_path)
    (path,) = versions.files(there, versions.resolve(there, "news")).values()
    assert path.read_bytes() == adapter_bytes("news", 1)
    assert register(there, draft(seed=1)) == (made, False)
    assert add_version(there, seed=2).number == 2
    assert verify(there) == ()


def test_what_is_exported_and_imported_goes_through_the_store(far: Store, tmp_path: Path) -> None:
    made = add_sound_version(far, seed=1)
    there = elsewhere(far, tmp_path)
    folder = export_import.export(there, made.reference, tmp_path / "out")
    assert {file.name: (folder / file.name).read_bytes() for file in made.files} == adapter_files(1)
    bundle = export_import.export_bundle(there, made.reference, tmp_path / "news.limpet")
    other = stock(tmp_path / "other", blobs=f"{far.settings.blobs}-other")
    assert export_import.import_bundle(other, bundle)[0].digest == made.digest
    assert verify(other) == ()


def _flip(store: Store) -> None:
    data = bytearray(remote(store).system.cat_file(key(store)))
    data[-1] ^= 1
    remote(store).system.pipe_file(key(store), bytes(data))


@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        (lambda store: remote(store).system.rm_file(key(store)), {"missing"}),
        (lambda store: remote(store).system.pipe_file(key(store), b"short"), {"size"}),
        (_flip, {"changed"}),
        (lambda store: remote(store).system.pipe_file(f"{remote(store).root}/sha256/extra", b"x"), {"stray"}),
        (lambda store: store.blobs.put_bytes(b"left by a killed register"), {"orphan"}),
        (
            lambda store: remote(store).system.mv(key(store), key(store, digest_bytes(b"other"))),
            {"missing", "orphan"},
        ),
    ],
    ids=["missing", "truncated", "flipped", "extra", "orphan", "misplaced"],
)
def test_each_damage_to_an_object_is_named(
    far: Store,
    tmp_path: Path,
    damage: Callable[[Store], object],
    kinds: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # nobody can date an object back
    monkeypatch.setattr("limpet.registry.verification.verify._UNFINISHED_SECONDS", -3600)
    add_version(far, seed=1)
    damage(far)
    assert {problem.kind for problem in verify(far)} == kinds
    if kinds & {"missing", "size", "changed"}:
        with pytest.raises(IntegrityError):
            versions.files(*_resolved(elsewhere(far, tmp_path)))


def _resolved(store: Store) -> tuple[Store, VersionRecord]:
    return store, versions.resolve(store, "news@1")


def test_registering_again_mends_a_missing_truncated_or_flipped_object(far: Store) -> None:
    add_version(far, seed=1)
    for damage in (
        lambda: _flip(far),
        lambda: remote(far).system.rm_file(key(far)),
        lambda: remote(far).system.pipe_file(key(far), b"short"),
    ):
        damage()
        assert register(far, draft(seed=1))[1] is False
        assert verify(far) == ()


def test_a_copy_that_rots_on_this_machine_is_fetched_again(far: Store, proxy: Proxy) -> None:
    add_version(far, seed=1)
    copy = remote(far).cache.root / blob_key(ADAPTER)
    copy.chmod(0o644)
    copy.write_bytes(b"rotten")
    assert far.blobs.read(ADAPTER) == adapter_bytes("news", 1)
    proxy.requests.clear()
    assert far.blobs.read(ADAPTER) == adapter_bytes("news", 1)
    assert proxy.requests == []


def test_a_collection_removes_what_nothing_needs_and_the_copies(far: Store) -> None:
    add_version(far, seed=1)
    orphan = far.blobs.put_bytes(b"left by a killed register")
    remote(far).system.pipe_file(f"{remote(far).root}/sha256/extra", b"x")
    seen = gc.collect(far, grace_seconds=0)
    assert (seen.orphans.count, seen.stray_names) == (1, ("sha256/extra",))
    assert gc.collect(far).bytes == 0
    assert gc.collect(far, grace_seconds=0, dry_run=False) == replace(seen, dry_run=False)
    assert [problem.where for problem in verify(far)] == ["sha256/extra"]
    assert not far.blobs.exists(orphan)
    assert not remote(far).cache.exists(orphan)


@pytest.mark.parametrize("fault", ["refuse", "cut", "lose", "halve"])
def test_an_upload_that_fails_leaves_no_version_and_the_next_try_succeeds(
    hasty: None, far: Store, proxy: Proxy, fault: str
) -> None:
    add_version(far, seed=0)
    proxy.fail("PUT", fault)
    with pytest.raises(UnavailableError) as caught:
        add_version(far, seed=1)
    assert caught.value.exit_code == 1
    assert references(far) == ["news@1"]
    proxy.mend()
    assert add_version(far, seed=1).reference == "news@2"
    assert verify(far) == ()


@pytest.mark.parametrize("fault", ["refuse", "cut", "lose"])
@pytest.mark.parametrize("method", ["PUT", "HEAD", "GET"])
def test_a_fault_that_passes_is_not_even_noticed(far: Store, proxy: Proxy, method: str, fault: str) -> None:
    proxy.fail(method, fault, times=1)
    assert add_version(far, seed=1).reference == "news@1"
    assert verify(far) == ()


def test_a_download_that_breaks_off_is_taken_up_again(far: Store, proxy: Proxy, tmp_path: Path) -> None:
    digest = far.blobs.put_bytes(BIG)
    there = elsewhere(far, tmp_path)
    proxy.fail("GET", "break", times=1)
    assert there.blobs.read(digest) == BIG


def test_a_download_that_always_breaks_off_leaves_no_copy(
    hasty: None, far: Store, proxy: Proxy, tmp_path: Path
) -> None:
    digest = far.blobs.put_bytes(BIG)
    there = elsewhere(far, tmp_path)
    proxy.fail("GET", "break")
    with pytest.raises(UnavailableError):
        there.blobs.read(digest)
    assert not remote(there).cache.exists(digest)
    proxy.mend()
    assert there.blobs.read(digest) == BIG


def test_bytes_changed_on_the_way_are_not_kept(far: Store, proxy: Proxy, tmp_path: Path) -> None:
    add_version(far, seed=1)
    there = elsewhere(far, tmp_path)
    proxy.fail("GET", "flip")
    with pytest.raises(IntegrityError, match="hash to"):
        versions.files(*_resolved(there))
    assert [problem.kind for problem in verify(there) if problem.where.startswith("news@1")] == ["changed"]
    proxy.mend()
    assert versions.files(*_resolved(there))


def test_a_server_that_goes_away_is_unavailable_until_it_is_back(hasty: None, far: Store, proxy: Proxy) -> None:
    add_version(far, seed=0)
    proxy.stop()
    for act in (lambda: add_version(far, seed=1), lambda: verify(far), lambda: gc.collect(far)):
        with pytest.raises(UnavailableError, match="can't be reached"):
            act()
    # what the registry and the copies know is still there
    assert references(far) == ["news@1"]
    assert versions.files(*_resolved(far))
    proxy.mend()
    assert add_version(far, seed=1).reference == "news@2"
    assert verify(far) == ()


def test_a_server_that_hangs_is_unavailable_in_bounded_time(
    far: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.2}})
    there = open_store(far.path)
    proxy.requests.clear()
    proxy.fail("PUT", "hang")
    began = time.perf_counter()
    with pytest.raises(UnavailableError, match="can't be reached"):
        there.blobs.put_bytes(BIG)
    # with the timeout of 15 s that holds in earnest, a minute and a half
    assert proxy.requests.count("PUT") == 6
    assert time.perf_counter() - began < 15


def test_a_bucket_that_is_not_there_is_not_made(proxy: Proxy, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="bucket does not exist"):
        create_store(tmp_path / "home", Settings(blobs="s3://no-such-bucket/x", cache=tmp_path / "cache"))
    assert list(tmp_path.iterdir()) == []
    blobs = open_blobs("s3://no-such-bucket/x", tmp_path / "blobs", tmp_path / "cache")
    for act in (lambda: blobs.put_bytes(b"x"), lambda: list(blobs.digests())):
        with pytest.raises(UnavailableError, match="bucket does not exist"):
            act()


def _register_many(environment: dict[str, str], store: Store, i: int) -> list[str]:
    # a process of the fork server has the environment that the server began with
    os.environ.update(environment)
    return [add_version(store, "news" if n % 2 else "films", seed=100 * i + n).reference for n in range(4)]


def test_eight_processes_register_at_once(far: Store) -> None:
    work = partial(_register_many, {name: value for name, value in os.environ.items() if name.startswith("AWS_")})
    made = sorted(reference for several in run_together(far, work) for reference in several)
    assert made == sorted(f"{task}@{n}" for task in ("news", "films") for n in range(1, 2 * PROCESSES + 1))
    assert verify(far) == ()


def test_a_home_with_a_password_in_its_blob_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        create_store(tmp_path / "home", Settings(blobs="s3://someone:geheim@bucket/x"))
    assert "geheim" not in caught.value.message + caught.value.hint
    assert not (tmp_path / "home" / "limpet.toml").exists()


def test_credentials_are_nowhere_but_in_the_environment(far: Store, proxy: Proxy, tmp_path: Path) -> None:
    add_version(far, seed=1)
    for file in far.path.rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file
    proxy.fail("HEAD", "refuse")
    proxy.fail("GET", "refuse")
    command = [sys.executable, "-m", "limpet", "--home", str(far.path), "verify", "--debug", "--verbose"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "can't be reached" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_an_unknown_protocol_names_no_package_of_s3(tmp_path: Path) -> None:
    with pytest.raises(LimpetError) as caught:
        open_blobs("nosuch://bucket", tmp_path, tmp_path)
    assert "s3" not in caught.value.hint
