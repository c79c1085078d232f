"""Folders of the cache, such as an unpacked model: made whole, known by the digests of their files."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from limpet.registry.cache.entries import keep, recall
from limpet.registry.cache.folder import needed, touch
from limpet.registry.cache.space import MARK, make_room
from limpet.registry.cache.use import hold, take_away
from limpet.registry.formats.canonical import canonical_json, digest_file
from limpet.registry.system.atomic_files import sync_file

__all__ = ["open_folder"]


def open_folder(folder: Path, make: Callable[[Path], None], checked: bool = False) -> Path:
    """Return a folder of the cache, made if it is not there; it stays while this process lives.

    Args:
        folder: Where it is.
        make: Fills an empty folder with its files; other processes see all of them or none.
        checked: Read every byte, and make the folder again if they are not those that were made.

    Raises:
        LimpetError: The cache can't be used.
    """
    with needed(folder.parent):
        if checked and folder.exists() and not _is_intact(folder):
            take_away(folder)
        while not hold(folder):
            with _new_folder(folder) as temporary:
                make(temporary)
        touch(folder)
    return folder


def _is_intact(folder: Path) -> bool:
    """Tell whether the files are those that were made; where no digests were noted, they are not known to be."""
    content = recall(folder / MARK)
    return content is not None and bytes(content) == _digests(folder, folder.name)


def _digests(folder: Path, name: str) -> bytes:
    """Return the name that the folder has, or will have, and the digest of every file in it."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.name != MARK}
    digests = {file: digest_file(path) for file, path in files.items() if path.is_file()}
    return canonical_json({"folder": name, "files": digests})


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` when the block ends well, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        keep(temporary / MARK, _digests(temporary, folder.name))
        files = [path for path in temporary.rglob("*") if path.is_file()]
        for file in files:
            sync_file(file)
        size = sum(file.stat().st_size for file in files)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            # another process was faster, and its folder is as good as ours
        make_room(size)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
