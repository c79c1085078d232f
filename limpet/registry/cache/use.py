"""What a process uses stays: it holds a lock on a folder of the cache, which whoever removes the folder asks for.

The lock belongs to the open folder, and ends with the process however that dies. Files need none: whoever has one
open reads it to its end.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["hold", "remove_unused", "take_away"]

_held: dict[Path, int] = {}


def hold(folder: Path) -> bool:
    """Keep a folder from being removed while this process lives; false where it is not there.

    Raises:
        OSError: It can't be opened.
    """
    if folder in _held and _is_at(folder, _held[folder]):
        return True
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    # some network file systems have no locks on folders, and there nothing is removed
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    # it may have been removed while this process waited
    if not _is_at(folder, descriptor):
        os.close(descriptor)
        return False
    if (former := _held.pop(folder, None)) is not None:
        os.close(former)
    _held[folder] = descriptor
    return True


def remove_unused(folder: Path, dry_run: bool = False) -> bool:
    """Remove a folder that no process uses, or only say that none does; false where one does, or may.

    Raises:
        OSError: It can't be removed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    try:
        if not dry_run:
            take_away(folder)
    finally:
        os.close(descriptor)
    return True


def take_away(folder: Path) -> None:
    """Remove a folder also from under those who use it; the files that they have open stay open.

    Raises:
        OSError: It can't be removed.
    """
    away = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
    with suppress(FileNotFoundError):
        folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def _is_at(folder: Path, descriptor: int) -> bool:
    """Tell whether an open folder is the one at a path."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
