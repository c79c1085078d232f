"""A file that is being written: what is there of it after a death is known to the row, and goes on there.

Beside the file that was asked for stands a folder `NAME.partial` with the bytes so far and a record of whose they
are, how many rows they are and how many bytes were on the disk then. What lies beyond is cut off.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from limpet.errors import ConflictError, LimpetError
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.system.atomic_files import sync_file, write_file
from limpet.training.learning.runs.run_lock import alone_in

__all__ = ["Unfinished", "open_unfinished", "sweep"]

_STATE, _ROWS = "state.json", "rows"


@dataclass
class Unfinished:
    """The bytes so far, and what is known of them.

    Args:
        folder: Where they are.
        job: What they are the beginning of; whoever goes on must want the same.
        state: What the last one who wrote left to go on with; empty at the beginning.
    """

    folder: Path
    job: JsonObject
    file: BinaryIO
    state: JsonObject = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file with the bytes so far."""
        return self.folder / _ROWS

    def append(self, data: bytes, state: JsonObject) -> None:
        """Write some rows, and then what to go on with behind them."""
        self.file.write(data)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.state = state
        record = {"schema": 1, "job": self.job, "bytes": self.file.tell(), "state": state}
        write_file(self.folder / _STATE, json.dumps(record).encode())

    def place(self, made: Path, target: Path) -> None:
        """Give the whole file its name, and take the folder away.

        Raises:
            ConflictError: Somebody else wrote a file of that name meanwhile.
        """
        self.file.close()
        sync_file(made)
        if target.exists():
            raise ConflictError(f"{target} was written by somebody else meanwhile.", f"mv {made} ANOTHER_NAME")
        made.replace(target)
        sync_file(target.parent)
        shutil.rmtree(self.folder)


@contextmanager
def open_unfinished(target: Path, job: JsonObject) -> Iterator[Unfinished]:
    """Begin a file, or go on with one that the same job began.

    Args:
        target: The file that is asked for.
        job: What decides its bytes.

    Raises:
        ConflictError: Another job began it, or another process writes it just now.
        LimpetError: The folder can't be written into.
    """
    folder = _folder(target)
    try:
        folder.mkdir(exist_ok=True)
        with alone_in(folder, f"{target} is being written by another process."):
            size, state = _known(folder, target, job)
            with (folder / _ROWS).open("ab") as file:
                file.truncate(size)
                file.seek(size)
                yield Unfinished(folder, job, file, state)
    except OSError as error:
        raise LimpetError(
            f"{target} can't be written: {error.strerror or error}.",
            f"df -h {target.parent}; then the same command again, which goes on where this one stopped",
        ) from error


def sweep(target: Path, job: JsonObject) -> None:
    """Take away what a job left of a file that is whole."""
    folder = _folder(target)
    try:
        record = json.loads((folder / _STATE).read_bytes())
    except (OSError, ValueError):
        return
    if record["job"] == job:
        shutil.rmtree(folder, ignore_errors=True)


def _folder(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _known(folder: Path, target: Path, job: JsonObject) -> tuple[int, JsonObject]:
    """Return how many bytes of an unfinished file are good, and what to go on with.

    Raises:
        ConflictError: They are of another job.
    """
    path = folder / _STATE
    if not path.exists():
        if strangers := sorted(one.name for one in folder.iterdir() if one.name not in (_ROWS, "lock")):
            raise ConflictError(
                f"{folder} is no unfinished file of limpet: it has {strangers[0]!r} in it.", "--out ANOTHER_NAME"
            )
        return 0, {}
    record = json.loads(path.read_bytes())
    if record["job"] != job:
        differing = sorted(name for name in job if job[name] != record["job"].get(name))
        raise ConflictError(
            f"{folder} was begun by another command: {', '.join(differing)} "
            f"{'was' if len(differing) == 1 else 'were'} different.",
            f"rm -r {folder} to begin anew, or --out ANOTHER_NAME",
        )
    if (folder / _ROWS).stat().st_size < record["bytes"]:
        raise ConflictError(f"{folder} is damaged: it has fewer bytes than were written.", f"rm -r {folder}")
    return int(record["bytes"]), record["state"]
