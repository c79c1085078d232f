"""Where the cache is, and what is said where it can't be used."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from limpet.errors import LimpetError

__all__ = ["cache_folder", "default_cache", "needed", "scratch_file", "scratch_folder", "touch"]


def cache_folder() -> Path:
    """Return the folder of the cache: `LIMPET_CACHE`, else `limpet` in the user's cache folder.

    Raises:
        LimpetError: Neither is known.
    """
    own = os.environ.get("LIMPET_CACHE")
    if not own:
        return default_cache()
    try:
        return Path(own).expanduser().absolute()
    except RuntimeError as error:
        raise _unusable(own, str(error).rstrip(".")) from error


def default_cache() -> Path:
    """Return the user's cache folder for limpet, by the XDG rules.

    Raises:
        LimpetError: The user has no home folder.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "limpet"
    except RuntimeError as error:
        raise _unusable("of this user", "the user has no home folder") from error


@contextmanager
def needed(folder: Path) -> Iterator[None]:
    """Name the cache where the block can't read or write what it needs in `folder`.

    Raises:
        LimpetError: It could not.
    """
    try:
        yield
    except OSError as error:
        raise _unusable(str(folder), error.strerror or str(error)) from error


@contextmanager
def scratch_folder(prefix: str) -> Iterator[str]:
    """Give a folder for the length of a block: in the cache, or among the system's where that can't be written."""
    with ExitStack() as stack:
        try:
            cache_folder().mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=cache_folder(), prefix=prefix))
        except OSError:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix))
        yield folder


def scratch_file() -> IO[bytes]:
    """Return an empty file without a name, which is gone once it is closed; it lies where `scratch_folder` does."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        return cast("IO[bytes]", tempfile.TemporaryFile(dir=cache_folder()))
    except OSError:
        return cast("IO[bytes]", tempfile.TemporaryFile())


def touch(path: Path) -> None:
    """Note that something in the cache was used now; what was used longest ago gives way first."""
    with suppress(OSError):
        os.utime(path)


def _unusable(folder: str, why: str) -> LimpetError:
    return LimpetError(
        f"The cache folder {folder} can't be used: {why}.",
        "export LIMPET_CACHE=FOLDER names another one, limpet gc --cache shows what could leave this one",
    )
