"""Locks between processes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limpet.errors import ConflictError

__all__ = ["alone_in"]


@contextmanager
def alone_in(folder: Path, taken: str) -> Iterator[None]:
    """Hold a folder's lock for the length of a `with` block; a process that dies lets go of it.

    Args:
        folder: The folder; its file `lock` is the lock.
        taken: What to say where another process holds it.

    Raises:
        ConflictError: Another process holds it.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(taken, "wait for it to end") from None
        yield
