"""Files of the blob store whose digests were checked by this process, as long as they are the same files.

A file is hashed when it is first asked for. Afterwards its device, inode, size, time of writing and time of change
stand for its bytes: whoever writes into a file, replaces it or puts its time of writing back changes one of them,
and the time of change can't be set. A disk that rots under an unchanged file is found by `limpet verify`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from limpet.registry.blobs import BlobStore

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


class VerifiedFiles:
    """Paths of blobs by their digests, each hashed once in its life on disk.

    Args:
        blobs: Where the files are.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._known: dict[str, tuple[Path, _Identity]] = {}

    def path(self, digest: str) -> Path:
        """Return the file with these bytes, hashed now or unchanged since it was.

        Raises:
            IntegrityError: The file is missing, or its bytes are not those of the digest.
        """
        if self.unchanged(digest):
            return self._known[digest][0]
        self._known.pop(digest, None)
        started = time.time_ns()
        path = self._blobs.path(digest)
        identity = _identity(path)
        # what was written just now is hashed again next time
        if identity and max(identity.written_ns, identity.changed_ns) < started - _CLOCK_TICK_NS:
            self._known[digest] = (path, identity)
        return path

    def unchanged(self, digest: str) -> bool:
        """Say whether the file was hashed before and is still the same one."""
        known = self._known.get(digest)
        return known is not None and _identity(known[0]) == known[1]


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
