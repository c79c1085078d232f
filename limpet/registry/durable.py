"""Files that are whole or not there, and those that survive a power cut."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["sync_file", "whole_file"]


def sync_file(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk.

    Raises:
        OSError: The disk could not take them.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield where to write a file of a cache; it gets its name, with its folders, when the block ends well.

    Others may read it meanwhile, or write the same. A power cut may still take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # not by the process's number: processes of several machines and containers may write to one folder
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
