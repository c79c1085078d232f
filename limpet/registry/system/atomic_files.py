"""Files that are whole or not there, and those that survive a power cut."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["place_folder", "sync_file", "whole_file", "write_file"]


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


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that even after a power cut it is as it was before, or whole."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(data)
        sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_file(path.parent)


def place_folder(folder: Path, target: Path) -> None:
    """Give a folder its name: even after a power cut it is there with every byte in it, or not there.

    Raises:
        OSError: The disk could not take it, or there is something at `target` that is no empty folder.
    """
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_file(Path(path, name))
        sync_file(Path(path))
    folder.rename(target)
    sync_file(target.parent)


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
