"""Blobs in a folder: written once, durable before they are named, verified before they are read."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from limpet.errors import ConflictError, IntegrityError, LimpetError, NotFoundError
from limpet.registry.blobs.protocol import MARK_FILE, Blob, blob_key, check_stray, digest_of_key
from limpet.registry.formats.canonical import CHUNK, digest_bytes, digest_file
from limpet.registry.system.atomic_files import sync_file
from limpet.registry.system.failpoints import reach

__all__ = ["LocalBlobs"]

_LARGEST_MARK = 10_000


@dataclass(frozen=True)
class LocalBlobs:
    """Blobs in a folder on this machine: `sha256/ab/cdef...`, with `tmp/` beside it."""

    root: Path

    def put(self, path: Path) -> Blob:
        """Store a file's bytes durably.

        Raises:
            NotFoundError: There is no such file.
            LimpetError: The store can't be written, for example because the disk is full.
        """
        return self.put_all((path,))[0]

    def put_all(self, paths: Sequence[Path]) -> tuple[Blob, ...]:
        """Store the bytes of several files durably; raises as `put`."""
        blobs: list[Blob] = []
        for path in paths:
            with _opened(path) as source, _typed_os_errors(self.root):
                blobs.append(self._write(source))
        self._sync_folders(blobs)
        return tuple(blobs)

    def put_bytes(self, data: bytes) -> str:
        """Store `data` durably and return its digest.

        Raises:
            LimpetError: The store can't be written.
        """
        return self.put_stream(io.BytesIO(data)).digest

    def put_stream(self, source: IO[bytes]) -> Blob:
        """Store what is left to read of a file durably; raises as `put_bytes`."""
        with _typed_os_errors(self.root):
            blob = self._write(source)
        self._sync_folders([blob])
        return blob

    def path(self, digest: str) -> Path:
        """Return the file with these bytes, hashed just now.

        Raises:
            IntegrityError: The file is missing, or its bytes are not those of the digest.
        """
        if (actual := self.rehash(digest)) != digest:
            raise _differs(digest, actual)
        return self.root / blob_key(digest)

    def read(self, digest: str) -> bytes:
        """Return the bytes, hashed just now.

        Raises:
            IntegrityError: The file is missing, or its bytes are not those of the digest.
        """
        try:
            data = self._file(digest).read_bytes()
        except OSError as error:
            raise _unreadable(digest, error) from error
        if (actual := digest_bytes(data)) != digest:
            raise _differs(digest, actual)
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
            return digest_file(self._file(digest))
        except OSError as error:
            raise _unreadable(digest, error) from error

    def digests(self) -> Iterator[str]:
        """Yield the digest of every blob in its place."""
        yield from (digest for name in self._names("") if (digest := self._digest_of(name)) is not None)

    def modified(self, digest: str) -> float | None:
        """Return when the bytes were last stored, in seconds since the epoch; null if nothing is there."""
        status = _status(self.root / blob_key(digest))
        return None if status is None else status.st_mtime

    def remove(self, digest: str) -> None:
        """Remove the bytes under the digest, if they are there.

        Raises:
            IntegrityError: A folder on the way to them is a link: what is behind it may be another's.
            LimpetError: The file can't be removed.
        """
        key = Path(blob_key(digest))
        if (self.root / key.parent).resolve() != self.root.resolve() / key.parent:
            raise IntegrityError(f"{self.root / key.parent} leads out of the blob store.", "limpet verify")
        _remove(self.root / key)

    def strays(self) -> Iterator[str]:
        """Yield every file that is not a blob in its place, as a path inside the store."""
        yield from (name for name in self._names("") if self._digest_of(name) is None and name != MARK_FILE)

    def stray_size(self, name: str) -> int | None:
        """Return how many bytes a stray file has, null if it is not there."""
        status = _status(self._stray(name))
        return None if status is None else status.st_size

    def stray_modified(self, name: str) -> float | None:
        """Return when a stray file was last written, in seconds since the epoch; null if nothing is there."""
        status = _status(self._stray(name))
        return None if status is None else status.st_mtime

    def remove_stray(self, name: str) -> None:
        """Remove a file that `strays` named, if it is still there; of a link, the link itself.

        Raises:
            IntegrityError: The name is a blob's, or lies outside the store.
            LimpetError: The file can't be removed.
        """
        _remove(self._stray(name))

    def read_mark(self) -> bytes | None:
        """Return the owner's mark, null if there is none.

        Raises:
            LimpetError: It can't be read.
        """
        try:
            with open(self.root / MARK_FILE, "rb", opener=_open_no_link) as file:
                return file.read(_LARGEST_MARK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LimpetError(f"{self.root / MARK_FILE} can't be read: {error.strerror}.", _ls(self.root)) from error

    def write_mark(self, data: bytes, *, over: bool) -> None:
        """Write the owner's mark durably.

        Raises:
            ConflictError: There is one, and `over` is false.
            LimpetError: The store can't be written.
        """
        target, temporary = self.root / MARK_FILE, self.root / "tmp" / secrets.token_hex(16)
        with _typed_os_errors(self.root):
            _make_folder(temporary.parent)
            try:
                with open(temporary, "xb", opener=_open_read_only) as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                if over:
                    temporary.replace(target)
                else:
                    # of two homes that mark one store at the same time, one does
                    os.link(temporary, target)
            except FileExistsError as error:
                raise ConflictError(f"{target} is there already.", "run the command again") from error
            finally:
                temporary.unlink(missing_ok=True)
            sync_file(self.root)

    def remove_mark(self) -> None:
        """Remove the owner's mark, and the folders if nothing else is in them."""
        _remove(self.root / MARK_FILE)
        with suppress(OSError):
            (self.root / "tmp").rmdir()

    def guarded(self, check: Callable[[], None]) -> LocalBlobs:
        """Check at once: reading one small file costs nothing."""
        check()
        return self

    def _names(self, folder: str) -> Iterator[str]:
        path = self.root / folder
        if not path.is_dir():
            return
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            # a link is never followed: what it points at is not the store's
            if entry.is_dir(follow_symlinks=False):
                yield from self._names(f"{folder}{entry.name}/")
            else:
                yield f"{folder}{entry.name}"

    def _file(self, digest: str) -> Path:
        file = self.root / blob_key(digest)
        # a pipe in its place would be waited for, for ever
        if file.exists() and not file.is_file():
            raise IntegrityError(f"In the place of {digest} is something that is no file.", "limpet verify")
        return file

    def _digest_of(self, name: str) -> str | None:
        digest = digest_of_key(name)
        return None if digest is None or (self.root / name).is_symlink() else digest

    def _stray(self, name: str) -> Path:
        file = self.root / check_stray(name)
        if self._digest_of(name) is not None or not file.parent.resolve().is_relative_to(self.root.resolve()):
            raise IntegrityError(f"{name!r} is no stray file of the blob store.", "limpet verify")
        return file

    def _write(self, source: IO[bytes]) -> Blob:
        """Put a source's bytes in their place, durable but for the folder's entry."""
        _make_folder(self.root / "tmp")
        temporary = self.root / "tmp" / secrets.token_hex(16)
        try:
            with open(temporary, "xb", opener=_open_read_only) as file:
                reach("blob.opened")
                blob = _copy(source, file)
                if self._renew(blob):
                    return blob
                file.flush()
                reach("blob.filled")
                os.fsync(file.fileno())
            reach("blob.synced")
            target = self.root / blob_key(blob.digest)
            _make_folder(target.parent)
            temporary.replace(target)
            reach("blob.renamed")
        finally:
            temporary.unlink(missing_ok=True)
        return blob

    def _renew(self, blob: Blob) -> bool:
        """Say whether the very bytes are there already, hashed just now; if so, they count as stored now."""
        file = self.root / blob_key(blob.digest)
        status = _status(file)
        # neither the name nor the size says that the bytes are still good; a link or a pipe is not even read
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != blob.size:
            return False
        try:
            if digest_file(file) != blob.digest:
                return False
            os.utime(file)
        except OSError:
            # a gc was quicker, the file is another user's, or the disk can't read it: a new file takes its place
            return False
        return True

    def _sync_folders(self, blobs: Iterable[Blob]) -> None:
        with _typed_os_errors(self.root):
            for folder in {(self.root / blob_key(blob.digest)).parent for blob in blobs}:
                sync_file(folder)
        reach("blob.kept")


def _ls(folder: Path) -> str:
    return f"ls -la {folder}"


def _open_no_link(name: str, flags: int) -> int:
    # nor a pipe, which would be waited for
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


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


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        source = path.open("rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(f"There is no file {path}.", f"ls -l {path.parent}") from error
    except OSError as error:
        raise LimpetError(f"{path} can't be read: {error.strerror}.", f"ls -l {path}") from error
    with source:
        yield source


def _status(file: Path) -> os.stat_result | None:
    try:
        return file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise LimpetError(f"{file} can't be removed: {error.strerror}.", f"ls -ld {file.parent}") from error


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    try:
        # the entry of a new folder is lost by a power cut unless its parent is synced
        sync_file(folder.parent)
    except OSError:
        # else the next try would find the folder, and trust it
        with suppress(OSError):
            folder.rmdir()
        raise


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


def _differs(digest: str, actual: str) -> IntegrityError:
    return IntegrityError(
        f"The bytes stored as {digest} hash to {actual}: the file was changed or the disk is failing.",
        "limpet verify",
    )
