"""Files of the blob store whose digests were checked by this process, as long as they are the same files.

A file is hashed when it is first asked for. Afterwards its device, inode, size, time of writing and time of change
stand for its bytes: whoever writes into a file, replaces it or puts its time of writing back changes one of them,
and the time of change can't be set. A disk that rots under an unchanged file is found by `limpet verify`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from limpet.registry.blobs.protocol import BlobStore

__all__ = ["VerifiedFiles"]

# a file that changed within the same tick of the file system's clock could keep its time stamps
_CLOCK_TICK_NS = 50_000_000


@dataclass(frozen=True)
class _Identity:
    device: int
    inode: int
    size: int
    written_ns: int
    changed_ns: int


@dataclass(frozen=True)
class _Known:
    """A file that was hashed; one that was written in that very moment is not settled, and hashed again next time."""

    path: Path
    identity: _Identity | None
    settled: bool


class VerifiedFiles:
    """Paths of blobs by their digests, each hashed once in its life on disk.

    Args:
        blobs: Where the files are.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._known: dict[str, _Known] = {}

    def path(self, digest: str) -> Path:
        """Return the file with these bytes, hashed now or unchanged since it was.

        Raises:
            IntegrityError: The file is missing, or its bytes are not those of the digest.
        """
        known = self._known.pop(digest, None)
        if known is None or not known.settled or _identity(known.path) != known.identity:
            started = time.time_ns()
            path = self._blobs.path(digest)
            identity = _identity(path)
            settled = identity is not None and identity.changed_ns < started - _CLOCK_TICK_NS
            known = _Known(path, identity, settled)
        self._known[digest] = known
        return known.path

    def unchanged(self, digest: str) -> bool:
        """Say whether the file is still the one that was hashed when it was last asked for."""
        known = self._known.get(digest)
        return known is not None and known.identity is not None and _identity(known.path) == known.identity


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
