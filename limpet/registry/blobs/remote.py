"""Blobs on an object store by fsspec, with verified copies in the cache of this machine."""

from __future__ import annotations

import errno
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from limpet.errors import ConflictError, IntegrityError, LimpetError, UnavailableError, UsageError
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import MARK_FILE, Blob, blob_key, check_stray, digest_of_key
from limpet.registry.cache import HANDED_OUT_SECONDS, make_room, touch
from limpet.registry.formats.canonical import CHUNK, digest_file

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["RemoteBlobs", "open_remote"]

_S3 = ("s3", "s3a")
# tried thrice by the client, twice by s3fs, each time up to its read timeout of 15 s: its own 25 tries take minutes
_S3_TRIES = {"mode": "standard", "total_max_attempts": 3}
_S3FS_TRIES = 2


def open_remote(url: str, cache: Path) -> RemoteBlobs:
    """Open an fsspec URL as a blob store; each URL has a cache folder of its own.

    Raises:
        UnavailableError: fsspec has no file system for the URL, or its package is missing.
        UsageError: The URL holds a password.
    """
    import fsspec

    parts = urlsplit(url)
    if parts.password is not None:
        raise UsageError(
            "The setting blobs holds a password, which would be kept in limpet.toml and shown in errors.",
            "put credentials where the store's fsspec package looks for them, such as AWS_SECRET_ACCESS_KEY",
        )
    try:
        # a remembered listing would hide what another process has stored or removed since
        options = {"use_listings_cache": False, **(_s3_options() if parts.scheme in _S3 else {})}
        system, root = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        hint = "pip install 'limpet[s3]'" if parts.scheme in _S3 else "limpet init --blobs FOLDER"
        raise UnavailableError(f"The blob store {url} can't be opened: {error}.", hint) from error
    if parts.scheme in _S3:
        system.retries = _S3FS_TRIES
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    copies = LocalBlobs(cache / "blobs" / name)
    return RemoteBlobs(system, str(root).rstrip("/"), copies, has_folders=parts.scheme not in _S3)


def _s3_options() -> dict[str, Any]:
    import fsspec

    # every byte is hashed here: a client that refuses bytes before would hide which file is corrupt
    ours = {"retries": _S3_TRIES, "response_checksum_validation": "when_required"}
    return {"config_kwargs": ours | fsspec.config.conf.get("s3", {}).get("config_kwargs", {})}


@dataclass(frozen=True)
class RemoteBlobs:
    """Blobs behind an fsspec file system; an object store makes an upload visible whole or not at all."""

    system: AbstractFileSystem
    root: str
    cache: LocalBlobs
    has_folders: bool = True
    guard: Callable[[], None] = field(default=lambda: None, compare=False)

    def put(self, path: Path) -> Blob:
        """Store a file's bytes, first in the cache, then in the remote store.

        Raises:
            UnavailableError: The remote store can't be reached.
        """
        return self.put_all((path,))[0]

    def put_all(self, paths: Sequence[Path]) -> tuple[Blob, ...]:
        """Store the bytes of several files; raises as `put`."""
        # the cache's copy is what is uploaded: the caller's file may change between hashing and sending
        blobs = self.cache.put_all(paths)
        for blob in blobs:
            self._upload(blob)
        return blobs

    def put_bytes(self, data: bytes) -> str:
        """Store `data` and return its digest."""
        return self.put_stream(BytesIO(data)).digest

    def put_stream(self, source: IO[bytes]) -> Blob:
        """Store what is left to read of a file."""
        blob = self.cache.put_stream(source)
        self._upload(blob)
        return blob

    def path(self, digest: str) -> Path:
        """Return the cache's copy with these bytes, fetched if need be, hashed just now.

        Raises:
            IntegrityError: The remote file is missing, or its bytes are not those of the digest.
            UnavailableError: The remote store can't be reached.
        """
        if self.cache.exists(digest):
            try:
                self._note_use(digest)
                return self.cache.path(digest)
            except IntegrityError:
                # only the copy rotted: fetch it again
                (self.cache.root / blob_key(digest)).unlink(missing_ok=True)
        self._fetch(digest)
        return self.cache.path(digest)

    def _note_use(self, digest: str) -> None:
        """Note that the path of a copy is handed out, so that nobody who makes room removes it soon."""
        modified = self.cache.modified(digest)
        # not each time: a file that was touched is hashed again by who knew it by its times
        if modified is not None and time.time() - modified > HANDED_OUT_SECONDS / 2:
            touch(self.cache.root / blob_key(digest))

    def read(self, digest: str) -> bytes:
        """Return the bytes, hashed just now; errors as in `path`."""
        return self.path(digest).read_bytes()

    def exists(self, digest: str) -> bool:
        """Say whether something is stored under the digest, unverified."""
        return self.size(digest) is not None

    def size(self, digest: str) -> int | None:
        """Return how many bytes the remote store has under the digest, null if nothing."""
        return self._size(self._key(digest))

    def rehash(self, digest: str) -> str:
        """Return the digest of the bytes in the remote store; the cache is not asked."""
        sha = hashlib.sha256()
        with self._reached():
            try:
                with self.system.open(self._key(digest), "rb") as file:
                    while chunk := file.read(CHUNK):
                        sha.update(chunk)
            except FileNotFoundError as error:
                raise _missing(digest) from error
        return "sha256:" + sha.hexdigest()

    def digests(self) -> Iterator[str]:
        """Yield the digest of every blob in its place."""
        yield from (digest for name in self._names() if (digest := digest_of_key(name)) is not None)

    def modified(self, digest: str) -> float | None:
        """Return when the bytes were last uploaded, in seconds since the epoch; null if the store does not say."""
        return self._modified(self._key(digest))

    def remove(self, digest: str) -> None:
        """Remove the bytes under the digest, if they are there, and this machine's copy of them."""
        self.guard()
        self._remove(self._key(digest))
        self.cache.remove(digest)

    def strays(self) -> Iterator[str]:
        """Yield the name of every file under the root that is not a blob in its place."""
        yield from (name for name in self._names() if digest_of_key(name) is None and name != MARK_FILE)

    def stray_size(self, name: str) -> int | None:
        """Return how many bytes a stray file has, null if it is not there."""
        return self._size(self._stray(name))

    def stray_modified(self, name: str) -> float | None:
        """Return when a stray file was last written, in seconds since the epoch; null if the store does not say."""
        return self._modified(self._stray(name))

    def remove_stray(self, name: str) -> None:
        """Remove a file that `strays` named, if it is still there.

        Raises:
            IntegrityError: The name is a blob's, or lies outside the store.
        """
        self.guard()
        self._remove(self._stray(name))

    def read_mark(self) -> bytes | None:
        """Return the owner's mark, null if there is none."""
        with self._reached():
            try:
                return bytes(self.system.cat_file(f"{self.root}/{MARK_FILE}"))
            except FileNotFoundError:
                return None

    def write_mark(self, data: bytes, *, over: bool) -> None:
        """Write the owner's mark; no object store is asked for more than it can do, so it is read back.

        Raises:
            ConflictError: There is one, and `over` is false.
        """
        if not over and self.read_mark() is not None:
            raise ConflictError(f"{self.root}/{MARK_FILE} is there already.", "run the command again")
        with self._reached():
            if self.has_folders:
                self.system.makedirs(self.root, exist_ok=True)
            self.system.pipe_file(f"{self.root}/{MARK_FILE}", data)
        if self.read_mark() != data:
            raise ConflictError(f"{self.root} was marked by another home meanwhile.", "run the command again")

    def remove_mark(self) -> None:
        """Remove the owner's mark."""
        self._remove(f"{self.root}/{MARK_FILE}")

    def guarded(self, check: Callable[[], None]) -> RemoteBlobs:
        """Check before the first upload or removal: what is only read needs no network for this."""
        return replace(self, guard=_Once(check))

    def _key(self, digest: str) -> str:
        return f"{self.root}/{blob_key(digest)}"

    def _stray(self, name: str) -> str:
        if digest_of_key(check_stray(name)) is not None:
            raise IntegrityError(f"{name!r} is no stray file of the blob store.", "limpet verify")
        return f"{self.root}/{name}"

    def _size(self, key: str) -> int | None:
        with self._reached():
            try:
                return int(self.system.size(key))
            except FileNotFoundError:
                return None

    def _modified(self, key: str) -> float | None:
        with self._reached():
            try:
                when: datetime = self.system.modified(key)
            except (FileNotFoundError, NotImplementedError):
                return None
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()

    def _remove(self, key: str) -> None:
        with self._reached(), suppress(FileNotFoundError):
            self.system.rm_file(key)

    def _upload(self, blob: Blob) -> None:
        self.guard()
        # also over an object that is there: only fetching it would tell whether it is whole, and sending makes it new
        key = self._key(blob.digest)
        with self._reached():
            # where there are no folders, this would make a bucket of a mistyped name
            if self.has_folders:
                self.system.makedirs(key.rpartition("/")[0], exist_ok=True)
            self.system.put_file(str(self.cache.path(blob.digest)), key)
        if self.size(blob.digest) != blob.size:
            raise UnavailableError(f"The blob store kept {blob.digest} incomplete.", "run the command again")

    def _fetch(self, digest: str) -> None:
        with self._reached(), tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            try:
                self.system.get_file(self._key(digest), str(copy))
            except FileNotFoundError as error:
                raise _missing(digest) from error
            actual = digest_file(copy)
            if actual != digest:
                raise IntegrityError(f"The bytes stored as {digest} hash to {actual}.", "limpet verify")
            make_room(self.cache.put(copy).size)

    def _names(self) -> list[str]:
        with self._reached():
            names = self.system.find(self.root)
        prefix = self.system._strip_protocol(self.root).rstrip("/") + "/"
        return sorted(str(name).removeprefix(prefix) for name in names)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except LimpetError:
            raise
        except Exception as error:
            # each file system raises exceptions of its own, few of them an OSError
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise LimpetError(
                    f"No copy from the blob store {self.root} can be kept on this machine: {error}.", "df -h"
                ) from error
            why = str(error).strip().rstrip(".") or type(error).__name__
            raise UnavailableError(
                f"The blob store {self.root} can't be reached: {why}.",
                "check its address, the credentials and the network, then run the command again",
            ) from error


class _Once:
    """A check that is not done again once it has passed."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check: Callable[[], None] | None = check

    def __call__(self) -> None:
        if self._check is not None:
            self._check()
            self._check = None


def _missing(digest: str) -> IntegrityError:
    return IntegrityError(f"The file {digest} is missing, though the registry has it.", "limpet verify")
