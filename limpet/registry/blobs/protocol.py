"""What a store of content-addressed files can do, and how it names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from limpet.errors import IntegrityError
from limpet.registry.formats.canonical import check_digest

__all__ = ["MARK_FILE", "Blob", "BlobStore", "blob_key", "check_stray", "digest_of_key"]

MARK_FILE = "limpet-home.json"
"""The file of a store that says whose it is; see `limpet.registry.store.ownership`."""


@dataclass(frozen=True)
class Blob:
    """What was stored: the digest of the bytes and their number."""

    digest: str
    size: int


class BlobStore(Protocol):
    """Where bytes are kept by their digest.

    What is there already counts as new from then on: a gc that waits out its grace period leaves it to whoever stored
    it last. It is never taken for good by its name or its size: bytes that rotted are replaced by the good ones.
    """

    def put(self, path: Path) -> Blob:
        """Store a file's bytes durably."""

    def put_all(self, paths: Sequence[Path]) -> tuple[Blob, ...]:
        """Store the bytes of several files durably."""

    def put_bytes(self, data: bytes) -> str:
        """Store `data` durably and return its digest."""

    def put_stream(self, source: IO[bytes]) -> Blob:
        """Store what is left to read of a file durably."""

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

    def modified(self, digest: str) -> float | None:
        """Return when the bytes were last stored, in seconds since the epoch; null if unknown or not there."""

    def remove(self, digest: str) -> None:
        """Remove the bytes under the digest, if they are there."""

    def strays(self) -> Iterator[str]:
        """Yield the name of every file in the store that is not a blob in its place, nor the owner's mark."""

    def stray_size(self, name: str) -> int | None:
        """Return how many bytes a stray file has, null if it is not there."""

    def stray_modified(self, name: str) -> float | None:
        """Return when a stray file was last written, in seconds since the epoch; null if unknown or not there."""

    def remove_stray(self, name: str) -> None:
        """Remove a file that `strays` named, if it is still there; IntegrityError for the name of a blob."""

    def read_mark(self) -> bytes | None:
        """Return the owner's mark, null if there is none."""

    def write_mark(self, data: bytes, *, over: bool) -> None:
        """Write the owner's mark durably; without `over`, ConflictError if there is one."""

    def remove_mark(self) -> None:
        """Remove the owner's mark, of a home that could not be made."""

    def guarded(self, check: Callable[[], None]) -> BlobStore:
        """Return the same store, in which nothing is changed before `check` has passed.

        A folder is checked at once; what is behind a network, before it is first written to or removed from.
        """


def digest_of_key(name: str) -> str | None:
    """Return the digest whose place inside a store is `name`, null if `name` is no blob's place."""
    digest = "sha256:" + name.removeprefix("sha256/").replace("/", "")
    try:
        return digest if blob_key(digest) == name else None
    except IntegrityError:
        return None


def check_stray(name: str) -> str:
    """Return `name` if it lies inside a store.

    Raises:
        IntegrityError: It lies outside.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise IntegrityError(f"{name!r} is no file of the blob store.", "limpet verify")
    return name


def blob_key(digest: str) -> str:
    """Return the place of a digest inside a store: `sha256/ab/cdef...`."""
    hexadecimal = check_digest(digest).removeprefix("sha256:")
    return f"sha256/{hexadecimal[:2]}/{hexadecimal[2:]}"
