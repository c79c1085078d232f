"""What makes a file survive a power cut."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync_file"]


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
