"""How much the cache may take: what was used longest ago gives way, and all of it can be removed on purpose.

Only what is recognised as limpet's own goes, by its place and name; links are neither followed nor removed. Bytes
that a process has read stay with it, a folder that one uses is locked, and what is handed out by its path, copies of
blobs and wheels, stays for an hour after it was used.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from limpet.errors import UsageError
from limpet.registry.cache.folder import cache_folder, needed
from limpet.registry.cache.use import remove_unused

__all__ = ["HANDED_OUT_SECONDS", "MARK", "Emptied", "Part", "empty", "make_room", "size_limit"]

MARK = ".digests"
"""The entry in a folder of the cache that has the digests of its files."""
HANDED_OUT_SECONDS = 60 * 60
"""How long a file stays at least after its path was given away."""
_DEFAULT_LIMIT = "20GB"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
# a process that writes looks at the size of the cache at first, and then whenever it has added so much of the limit
_SHARE = 0.05
# so that there is room for a while
_FILLED = 0.9
# added since this process last looked; one that begins knows nothing
_unseen: float = float("inf")
_ABANDONED_SECONDS = 24 * 60 * 60
_KEY = r"[0-9a-f]{64}(\.(arrow|safetensors|json))?"
# an entry or folder, a download, an unpacked .gguf file; and what earlier releases left in the same places
_TEMPORARY = (
    r"\.[\w.-]+\.[0-9a-f]{16}\.tmp|\.(download|gguf)-[a-z0-9_]{8}"
    r"|[0-9a-f]{64}\.[0-9]+\.tmp|\.(\w+-[0-9.]+|[0-9a-f]{64})-[a-z0-9_]{8}"
)
_TEMPORARY_FINGERPRINT = rf"tmp[a-z0-9_]{{8}}|{_TEMPORARY}"
_WHERE = (
    ("token ids", "tokens", _KEY),
    ("features", "features", _KEY),
    ("fingerprints", "fingerprints/folders", _KEY),
    ("fingerprints", "fingerprints/tensors", _KEY),
    ("converted bases", "gguf", r"[0-9a-f]{64}"),
    ("sample bases", "bases", r"\w+-[\w.]+"),
    ("sample wheels", "wheels", r"\w+-[\w.]+-py3-none-any\.whl"),
)
_FOLDERS = ("converted bases", "sample bases")
_COPIES, _LEFT_OVER = "copies of blobs", "left by what died"
_HANDED_OUT = (_COPIES, "sample wheels")


@dataclass(frozen=True)
class _Item:
    """Something that can leave the cache alone: a file, or a folder made as a whole; `used` is when, at the last."""

    kind: str
    path: Path
    is_folder: bool
    bytes: int
    used: float


@dataclass(frozen=True)
class Part:
    """One kind of what is in the cache: how many items, their bytes, and how many of them a process uses."""

    items: int = 0
    bytes: int = 0
    in_use: int = 0


@dataclass(frozen=True)
class Emptied:
    """What left the cache `folder`, or would: items and bytes by kind, without those in use."""

    dry_run: bool
    folder: Path
    kinds: Mapping[str, Part]

    @property
    def bytes(self) -> int:
        """The bytes of all kinds."""
        return sum(part.bytes for part in self.kinds.values())


def size_limit() -> int:
    """Return how many bytes the cache may take: `LIMPET_CACHE_SIZE`, such as 20GB, 500MB or 0.

    Raises:
        UsageError: It is no size.
    """
    text = os.environ.get("LIMPET_CACHE_SIZE") or _DEFAULT_LIMIT
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?) ?([KMGT]?B)?", text.strip().upper())
    if match is None:
        raise UsageError(
            f"LIMPET_CACHE_SIZE is {text!r}, which is no size.", f"export LIMPET_CACHE_SIZE={_DEFAULT_LIMIT}"
        )
    return int(float(match[1]) * _UNITS[match[2] or ""])


def make_room(added: int) -> None:
    """Note that bytes were added, and let go of what was used longest ago where the cache is larger than its limit.

    Raises:
        UsageError: The limit is no size.
    """
    global _unseen
    limit = size_limit()
    _unseen += added
    if _unseen < _SHARE * limit:
        return
    _unseen = 0
    items = sorted(_items(cache_folder()), key=lambda item: item.used)
    total = sum(item.bytes for item in items)
    if total <= limit:
        return
    for item in items:
        with suppress(OSError):
            if not _is_in_use(item) and _remove(item):
                total -= item.bytes
        if total <= _FILLED * limit:
            return


def empty(dry_run: bool = True, unused_seconds: int = 0) -> Emptied:
    """Remove everything from the cache that no process uses, or with `dry_run` say what would go.

    Args:
        dry_run: Only look.
        unused_seconds: What was used within this time stays.

    Raises:
        LimpetError: Something can't be removed.
    """
    folder, kinds = cache_folder(), dict[str, Part]()
    with needed(folder):
        for item in _items(folder):
            if time.time() - item.used < unused_seconds:
                continue
            part = kinds.get(item.kind, Part())
            if _is_in_use(item) or not _remove(item, dry_run):
                kinds[item.kind] = Part(part.items, part.bytes, part.in_use + 1)
            else:
                kinds[item.kind] = Part(part.items + 1, part.bytes + item.bytes, part.in_use)
    return Emptied(dry_run, folder, kinds)


def _is_in_use(item: _Item) -> bool:
    """Tell whether a process may hold the path of an item; for folders their locks tell."""
    if item.kind not in _HANDED_OUT:
        return False
    # asked again: it may have been handed out since it was listed
    with suppress(OSError):
        return time.time() - _last_used(item.path.lstat()) < HANDED_OUT_SECONDS
    return False


def _remove(item: _Item, dry_run: bool = False) -> bool:
    if item.is_folder:
        return remove_unused(item.path, dry_run)
    if not dry_run:
        item.path.unlink(missing_ok=True)
    return True


def _items(cache: Path) -> Iterator[_Item]:
    """Everything in the cache that is limpet's own, by its place and name."""
    for kind, folder, name in _WHERE:
        pattern = re.compile(name)
        for entry in _entries(cache, folder):
            if pattern.fullmatch(entry.name):
                if kind != "sample bases" or (Path(entry.path) / MARK).is_file():
                    yield from _item(kind, entry)
            else:
                temporary = _TEMPORARY_FINGERPRINT if kind == "fingerprints" else _TEMPORARY
                yield from _left_over(entry, temporary)
    for store in _entries(cache, "blobs"):
        if re.fullmatch(r"[0-9a-f]{16}", store.name):
            yield from _copies(Path(store.path))
    for entry in _entries(cache, "."):
        yield from _left_over(entry, r"\.datasets-[a-z0-9_]{8}")


def _copies(store: Path) -> Iterator[_Item]:
    for two in _entries(store, "sha256"):
        for entry in _entries(Path(two.path), "."):
            if re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{62}", f"{two.name}/{entry.name}"):
                yield from _item(_COPIES, entry)
    for entry in _entries(store, "tmp"):
        yield from _left_over(entry, r"[0-9a-f]{32}")


def _left_over(entry: os.DirEntry[str], temporary: str) -> Iterator[_Item]:
    """What a process that died left half written, under a temporary name; one that lives is not as slow."""
    if re.fullmatch(temporary, entry.name):
        yield from (item for item in _item(_LEFT_OVER, entry) if time.time() - item.used > _ABANDONED_SECONDS)


def _item(kind: str, entry: os.DirEntry[str]) -> Iterator[_Item]:
    """An entry of a folder as an item; nothing where it is a link, no file of its kind, or gone meanwhile."""
    with suppress(OSError):
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.is_symlink() or (kind != _LEFT_OVER and is_folder != (kind in _FOLDERS)):
            return
        found = entry.stat(follow_symlinks=False)
        size = _size(Path(entry.path)) if is_folder else found.st_size
        # a folder is read whenever its size is asked; a file's bytes only by who uses it
        used = found.st_mtime if is_folder else _last_used(found)
        yield _Item(kind, Path(entry.path), is_folder, size, used)


def _last_used(status: os.stat_result) -> float:
    return max(status.st_atime, status.st_mtime)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _entries(folder: Path, below: str) -> list[os.DirEntry[str]]:
    """The entries of a folder below another; none where a part of the way is a link, no folder, or can't be read."""
    for part in Path(below).parts:
        folder = folder / part
        if folder.is_symlink():
            return []
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
