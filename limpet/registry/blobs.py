"""Content-addressed files: written once, durable before they are named, verified before they are read."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from limpet.errors import IntegrityError, LimpetError, NotFoundError
from limpet.registry.canonical import CHUNK, check_digest, digest_bytes, digest_file
from limpet.registry.durable import sync_file
from limpet.registry.failpoints import reach

__all__ = ["Blob", "BlobStore", "LocalBlobs", "blob_key", "open_blobs"]


@dataclass(frozen=True)
class Blob:
    """What was stored: the digest of the bytes and their number."""

    digest: str
    size: int


class BlobStore(Protocol):
    """Where bytes are kept by their digest."""

    def put(self, path: Path) -> Blob:
        """Store a file's bytes durably; bytes that are there already are left alone."""

    def put_bytes(self, data: bytes) -> str:
        """Store `data` durably and return its digest."""

    def path(self, digest: str) -> Path:
        """Return a local file with these bytes, hashed just now; IntegrityError if missing or other."""

    def read(self, digest: str) -> bytes:
        """Return the bytes, hashed just now; IntegrityError if they are missing or differ."""

    def exists(self, digest: str) -> bool:
        """Say whether something is stored under the digest, unverified."""

    def size(self, digest: str) -> int | None:
        """Return how many bytes are stored under the digest, null if nothing is."""

    def rehash(self, digest: str) -> str:
        """Return the digest of the bytes that are stored under `digest`, which differs if they rotted."""

    def digests(self) -> Iterator[str]:
        """Yield the digest of everything stored."""

    def strays(self) -> Iterator[str]:
        """Yield the name of every file in the store that is not a blob in its place."""


def blob_key(digest: str) -> str:
    """Return the place of a digest inside a store: `sha256/ab/cdef...`."""
    hexadecimal = check_digest(digest).removeprefix("sha256:")
    return f"sha256/{hexadecimal[:2]}/{hexadecimal[2:]}"


def open_blobs(url: str | None, default: Path, cache: Path) -> BlobStore:
    """Open the store at a folder or an fsspec URL; `default` is the folder when there is no URL.

    Args:
        url: A folder, `file://...`, or another fsspec URL such as `s3://bucket/prefix`.
        default: The folder to use without a URL; a relative folder is taken from its parent.
        cache: Where verified local copies of remote blobs are kept.
    """
    if url is None:
        return LocalBlobs(default)
    if url.startswith("file://") or "://" not in url:
        return LocalBlobs(default.parent / Path(url.removeprefix("file://")).expanduser())
    from limpet.registry.remote_blobs import open_remote

    return open_remote(url, cache)


@dataclass(frozen=True)
class LocalBlobs:
    """Blobs in a folder on this machine: `sha256/ab/cdef...`, with `tmp/` beside it."""

    root: Path

    def put(self, path: Path) -> Blob:
        """Store a file's bytes durably; bytes that are there already are left alone.

        Raises:
            NotFoundError: There is no such file.
            LimpetError: The store can't be written, for example because the disk is full.
        """
        try:
            source = path.open("rb")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFoundError(f"There is no file {path}.", f"ls -l {path.parent}") from error
        except OSError as error:
            raise LimpetError(f"{path} can't be read: {error.strerror}.", f"ls -l {path}") from error
        with source:
            return self._store(lambda file: _copy(source, file))

    def put_bytes(self, data: bytes) -> str:
        """Store `data` durably and return its digest.

        Raises:
            LimpetError: The store can't be written.
        """
        digest = digest_bytes(data)
        if self.size(digest) != len(data):
            self._store(lambda file: _write(data, file))
        return digest

    def path(self, digest: str) -> Path:
        """Return the file with these bytes, hashed just now.

        Raises:
            IntegrityError: The file is missing, or its bytes are not those of the digest.
        """
        if (found := self.rehash(digest)) != digest:
            raise _differs(digest, found)
        return self.root / blob_key(digest)

    def read(self, digest: str) -> bytes:
        """Return the bytes, hashed just now.

        Raises:
            IntegrityError: The file is missing, or its bytes are not those of the digest.
        """
        try:
            data = (self.root / blob_key(digest)).read_bytes()
        except OSError as error:
            raise _unreadable(digest, error) from error
        if (found := digest_bytes(data)) != digest:
            raise _differs(digest, found)
        return data

    def exists(self, digest: str) -> bool:
        """Say whether a file is stored under the digest, unverified."""
        return self.size(digest) is not None

    def size(self, digest: str) -> int | None:
        """Return the size in bytes of the file under the digest, null if there is none."""
        file = self.root / blob_key(digest)
        return file.stat().st_size if file.is_file() else None

    def rehash(self, digest: str) -> str:
        """Return the digest of the bytes that are stored under `digest`.

        Raises:
            IntegrityError: The file is missing or can't be read.
        """
        try:
            return digest_file(self.root / blob_key(digest))
        except OSError as error:
            raise _unreadable(digest, error) from error

    def digests(self) -> Iterator[str]:
        """Yield the digest of every blob in its place."""
        yield from (digest for file in self._files() if (digest := self._digest_of(file)) is not None)

    def strays(self) -> Iterator[str]:
        """Yield every file that is not a blob in its place, as a path inside the store."""
        yield from (str(file.relative_to(self.root)) for file in self._files() if self._digest_of(file) is None)

    def _files(self) -> list[Path]:
        return sorted(file for file in self.root.rglob("*") if file.is_symlink() or not file.is_dir())

    def _digest_of(self, file: Path) -> str | None:
        parts = file.relative_to(self.root).parts
        if len(parts) != 3 or parts[0] != "sha256" or file.is_symlink():
            return None
        digest = f"sha256:{parts[1]}{parts[2]}"
        try:
            return digest if blob_key(digest) == "/".join(parts) else None
        except IntegrityError:
            return None

    def _store(self, fill: Callable[[IO[bytes]], Blob]) -> Blob:
        with _typed_os_errors(self.root):
            _make_folder(self.root / "tmp")
            temporary = self.root / "tmp" / secrets.token_hex(16)
            try:
                with open(temporary, "xb", opener=_open_read_only) as file:
                    reach("blob.opened")
                    blob = fill(file)
                    file.flush()
                    reach("blob.filled")
                    os.fsync(file.fileno())
                reach("blob.synced")
                target = self.root / blob_key(blob.digest)
                # a file of another size is the remains of a broken disk: the good bytes replace it
                if self.size(blob.digest) != blob.size:
                    _make_folder(target.parent)
                    temporary.replace(target)
                    reach("blob.renamed")
                sync_file(target.parent)
                reach("blob.kept")
            finally:
                temporary.unlink(missing_ok=True)
        return blob


def _open_read_only(name: str, flags: int) -> int:
    # the mode guards against an editor, it is never taken as a proof that the bytes are right
    return os.open(name, flags, 0o444)


def _copy(source: IO[bytes], target: IO[bytes]) -> Blob:
    sha, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        sha.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return Blob("sha256:" + sha.hexdigest(), size)


def _write(data: bytes, target: IO[bytes]) -> Blob:
    target.write(data)
    return Blob(digest_bytes(data), len(data))


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    # the entry of a new folder is lost by a power cut unless its parent is synced
    sync_file(folder.parent)


@contextmanager
def _typed_os_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = f"make room, then run the command again: df -h {root}" if full else f"ls -ld {root}"
        raise LimpetError(f"Nothing was stored, because {root} can't be written: {error.strerror}.", hint) from error


def _unreadable(digest: str, error: OSError) -> IntegrityError:
    why = "missing" if isinstance(error, FileNotFoundError) else f"unreadable ({error.strerror})"
    return IntegrityError(f"The file {digest} is {why}, though the registry has it.", "limpet verify")


def _differs(digest: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"The bytes stored as {digest} hash to {found}: the file was changed or the disk is failing.",
        "limpet verify",
    )
