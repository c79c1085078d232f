"""A small real file system that can be filled and made read-only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["PAGE", "SmallDisk", "small_disk"]

PAGE = 4096


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory, mounted at `path`."""

    path: Path

    def fill(self, free: int = 0) -> None:
        """Leave so many bytes free."""
        self.drain()
        status = os.statvfs(self.path)
        size = status.f_bavail * status.f_frsize - free
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))

    def drain(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse every write to it, even root's."""
        _mount("-o", "remount,ro", self.path)
        try:
            yield
        finally:
            _mount("-o", "remount,rw", self.path)

    @contextmanager
    def read_only_file(self, file: Path) -> Iterator[None]:
        """Refuse every write to one file, even root's."""
        _mount("--bind", file, file)
        try:
            _mount("-o", "remount,bind,ro", file)
            yield
        finally:
            _unmount(file)

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[SmallDisk]:
    """Mount a small disk at a new folder."""
    path.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "limpet-test", path)
    try:
        yield SmallDisk(path)
    finally:
        _unmount(path)


def _mount(*words: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        # a user who may not mount may do so in a namespace of their own
        again = f"unshare --user --map-root-user --mount {Path(sys.executable).name} -m pytest"
        pytest.fail(
            f"{done.stderr.strip()}; run this test as root, or so: {again} "
            "tests/registry/blobs/test_storage_faults.py"
        )


def _unmount(path: Path) -> None:
    # lazily: a test that failed may have left a file open
    subprocess.run(["umount", "--lazy", str(path)], check=True)
