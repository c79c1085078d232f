"""Entries of the cache: bytes that were computed, behind a digest.

An entry is a file: the SHA-256 of its name and bytes, then the bytes. One that is damaged, half written, or under the
name of another is no entry, and what it was is computed again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from limpet.registry.cache.folder import touch
from limpet.registry.cache.space import make_room
from limpet.registry.system.atomic_files import whole_file

__all__ = ["keep", "recall"]

# raised with the form of entries, so that those of another release are no entries
_FORM = b"limpet cache entry 1\n"
_HEADER = len(_FORM) + hashlib.sha256().digest_size


def recall(path: Path) -> bytearray | None:
    """Return the bytes that `keep` wrote to `path`; null where there are none, or not the very same."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
            content = bytearray(max(0, os.fstat(file.fileno()).st_size - _HEADER))
            count = file.readinto(content)
    except OSError:
        return None
    if count != len(content) or header != _FORM + _digest(path, content):
        return None
    touch(path)
    return content


def keep(path: Path, *parts: bytes | memoryview) -> None:
    """Write an entry of one part after the other, whole or not at all; a cache that can't take it goes without.

    Raises:
        UsageError: The limit of the cache is no size.
    """
    with suppress(OSError):
        with whole_file(path) as temporary, temporary.open("xb") as file:
            file.writelines((_FORM + _digest(path, *parts), *parts))
        make_room(_HEADER + sum(map(len, parts)))


def _digest(path: Path, *parts: bytes | bytearray | memoryview) -> bytes:
    digest = hashlib.sha256(path.name.encode() + b"\n")
    for part in parts:
        digest.update(part)
    return digest.digest()
