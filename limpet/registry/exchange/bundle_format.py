"""The `.limpet` format: one version in one file, the same bytes for the same content.

A bundle is a ustar archive that `tar tf` lists, but it is not read as one. The first entry, `bundle.json`, lists
every other entry with its digest and size, so every byte of every header is known in advance: the reader compares,
and never does what a header says. Then come the entries in order of their names, and two blocks of zeros; nothing
follows.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from limpet.errors import ConflictError, IntegrityError, LimpetError, NotFoundError, UsageError
from limpet.names import case_twins, check_name
from limpet.registry.formats.canonical import CHUNK, canonical_json, check_digest, digest_bytes
from limpet.registry.formats.strict_json import read_json
from limpet.registry.system.atomic_files import sync_file
from limpet.registry.values import FileEntry

__all__ = [
    "INDEX_FILE",
    "LARGEST_BUNDLE",
    "LARGEST_ENTRY",
    "LARGEST_JSON",
    "MOST_ENTRIES",
    "SUFFIX",
    "Index",
    "pack",
    "unpack",
]

SUFFIX = ".limpet"
INDEX_FILE = "bundle.json"
FORMAT = "limpet-bundle"

MOST_ENTRIES = 64
LARGEST_INDEX = 64 << 10
LARGEST_JSON = 16 << 20
LARGEST_BUNDLE = 64 << 30
# eleven octal digits are what a ustar header has for a size
LARGEST_ENTRY = (8 << 30) - 1

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,90}\.(json|jsonl|safetensors)")
_SIZE = re.compile(rb"[0-7]{11}\0")
_SIZE_FIELD = slice(124, 136)


@dataclass(frozen=True)
class Index:
    """What a bundle says that it holds: the version, and every entry by name, digest and size."""

    task: str
    digest: str
    entries: tuple[FileEntry, ...]


def pack(path: Path, task: str, digest: str, *, contents: Mapping[FileEntry, Path | bytes]) -> Path:
    """Write a bundle, whole and durable or not at all.

    Args:
        path: The file to make; its folder is made if need be.
        task: The version's task.
        digest: The version's identity.
        contents: What each entry holds: bytes, or a file to take them from.

    Returns:
        The path, absolute.

    Raises:
        ConflictError: There is something at `path` already.
        UsageError: An entry's name or size can't be in a bundle, or there are too many.
        IntegrityError: A file does not hold the bytes of its entry.
        LimpetError: The file can't be written.
    """
    target = path.absolute()
    _refuse_existing(target)
    entries = tuple(sorted(contents, key=lambda entry: entry.name))
    raw = _index_bytes(Index(task, digest, entries))
    try:
        _check_entries(entries, len(raw))
    except IntegrityError as error:
        raise UsageError(f"This version does not fit into a bundle: {error.message}", _FOLDER_HINT) from error
    with _typed_os_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                _write(file, FileEntry(INDEX_FILE, digest_bytes(raw), len(raw)), raw)
                for entry in entries:
                    _write(file, entry, contents[entry])
                file.write(_END)
                file.flush()
                os.fsync(file.fileno())
            # a rename replaces what is there, so it is looked for again
            _refuse_existing(target)
            temporary.rename(target)
            try:
                sync_file(target.parent)
            except OSError:
                # a power cut may take it away, and the next try finds the name free
                target.unlink(missing_ok=True)
                raise
        finally:
            # a bundle that is whole is not refused because this fails
            with suppress(OSError):
                temporary.unlink()
    return target


def unpack(path: Path, folder: Path) -> tuple[Index, dict[str, Path]]:
    """Check every byte of a bundle and copy its entries into an empty folder, under names that limpet chooses.

    Args:
        path: The bundle.
        folder: Where the copies go; what is in it after a refusal is of no use.

    Returns:
        What the bundle lists, and the copy of each entry by the entry's name.

    Raises:
        NotFoundError: There is no such file.
        IntegrityError: The file is not, byte for byte, a bundle that limpet could have written.
        LimpetError: It can't be read, or the folder can't be written.
    """
    with _typed_os_errors(path), _opened(path) as file:
        size = _plausible_size(file)
        index = _read_index(file, size)
        copies = {}
        for number, entry in enumerate(index.entries):
            copies[entry.name] = folder / f"entry-{number:02}"
            with copies[entry.name].open("xb") as copy:
                _read_entry(file, entry, copy)
        if file.read(len(_END) + 1) != _END:
            raise _bad("it does not end with two blocks of zeros")
    return index, copies


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise ConflictError(f"There is {target} already.", "choose a new file")


def _index_bytes(index: Index) -> bytes:
    return canonical_json(
        {
            "schema": 1,
            "format": FORMAT,
            "version": {"task": index.task, "digest": index.digest},
            "entries": [asdict(entry) for entry in index.entries],
        }
    )


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    # the defaults are said here, because they are the format
    info.size, info.mode, info.mtime, info.uid, info.gid, info.uname, info.gname = size, 0o644, 0, 0, 0, "", ""
    info.type = tarfile.REGTYPE
    return info.tobuf(format=tarfile.USTAR_FORMAT)


def _padding(size: int) -> int:
    return -size % _BLOCK


def _write(file: IO[bytes], entry: FileEntry, content: Path | bytes) -> None:
    file.write(_header(entry.name, entry.size))
    if isinstance(content, bytes):
        file.write(content)
    else:
        _copy_exactly(content, entry, file)
    file.write(bytes(_padding(entry.size)))


def _copy_exactly(source: Path, entry: FileEntry, target: IO[bytes]) -> None:
    sha, left = hashlib.sha256(), entry.size
    with source.open("rb") as file:
        while left and (chunk := file.read(min(CHUNK, left))):
            sha.update(chunk)
            target.write(chunk)
            left -= len(chunk)
        if left or file.read(1) or "sha256:" + sha.hexdigest() != entry.digest:
            raise IntegrityError(f"{entry.name} was changed while it was packed.", "limpet verify")


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        # a pipe would make the program wait for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no file {path}.", f"ls -l {path.parent}") from error
    except ValueError as error:
        raise NotFoundError(f"There is no file {str(path)!r}: {error}.", "limpet adapter import FILE") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _bad("it is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _plausible_size(file: IO[bytes]) -> int:
    """Return the file's size after it alone has shown that the file can be a bundle."""
    size = os.fstat(file.fileno()).st_size
    if size > LARGEST_BUNDLE:
        raise _bad(f"it has {size} bytes, more than {LARGEST_BUNDLE}")
    if size % _BLOCK or size < 4 * _BLOCK:
        raise _bad(f"it has {size} bytes, and a bundle is made of blocks of {_BLOCK}")
    return size


def _read_index(file: IO[bytes], size: int) -> Index:
    header = file.read(_BLOCK)
    field = header[_SIZE_FIELD]
    length = int(field[:-1], 8) if _SIZE.fullmatch(field) else -1
    if length < 0 or header != _header(INDEX_FILE, length):
        raise _bad(f"it does not begin with {INDEX_FILE}")
    if not 0 < length <= min(LARGEST_INDEX, size):
        raise _bad(f"its {INDEX_FILE} claims {length} bytes, more than {LARGEST_INDEX}")
    raw = file.read(length)
    _check_padding(file, length)
    index = _parse_index(read_json(raw, INDEX_FILE, canonical=True))
    # before an entry is read, the sizes must add up to the file's
    if size != (due := _check_entries(index.entries, length)):
        raise _bad(f"it has {size} bytes, and its entries need {due}")
    return index


def _parse_index(content: object) -> Index:
    if not isinstance(content, dict) or set(content) != {"schema", "format", "version", "entries"}:
        raise _bad(f"{INDEX_FILE} has not exactly schema, format, version and entries")
    if type(content["schema"]) is not int or content["schema"] != 1 or content["format"] != FORMAT:
        raise _bad(f"{INDEX_FILE} is not of schema 1, format {FORMAT}")
    version, entries = content["version"], content["entries"]
    if not isinstance(version, dict) or set(version) != {"task", "digest"}:
        raise _bad(f"{INDEX_FILE} names no version")
    if not isinstance(version["task"], str) or not isinstance(version["digest"], str):
        raise _bad(f"{INDEX_FILE} names no version")
    if not isinstance(entries, list) or len(entries) > MOST_ENTRIES:
        raise _bad(f"{INDEX_FILE} has not a list of at most {MOST_ENTRIES} entries")
    try:
        check_name("task", version["task"])
    except UsageError as error:
        raise _bad(error.message.rstrip(".")) from error
    return Index(version["task"], check_digest(version["digest"]), tuple(_parse_entry(entry) for entry in entries))


def _parse_entry(entry: object) -> FileEntry:
    if not isinstance(entry, dict) or set(entry) != {"name", "digest", "size"}:
        raise _bad("an entry has not exactly name, digest and size")
    name, digest, size = entry["name"], entry["digest"], entry["size"]
    if not isinstance(name, str) or not isinstance(digest, str) or type(size) is not int:
        raise _bad("an entry's name, digest or size is of another type")
    return FileEntry(name, check_digest(digest), size)


def _check_entries(entries: Sequence[FileEntry], index_size: int) -> int:
    """Hold entries against the limits; return how many bytes the bundle must have."""
    if len(entries) > MOST_ENTRIES:
        raise _bad(f"it has {len(entries)} entries, more than {MOST_ENTRIES}")
    names = [entry.name for entry in entries]
    if names != sorted(set(names)):
        raise _bad("its entries are not in the order of their names, each once")
    if twins := case_twins({*names, INDEX_FILE}):
        raise _bad(f"the names {twins[0][:100]!r} and {twins[1][:100]!r} are one on many disks")
    total = 2 * _BLOCK + _room(index_size)
    for entry in entries:
        if not _NAME.fullmatch(entry.name) or entry.name == INDEX_FILE:
            raise _bad(f"the name {entry.name[:100]!r} can't be in a bundle")
        most = LARGEST_JSON if entry.name.endswith(".json") else LARGEST_ENTRY
        if not 0 <= entry.size <= most:
            raise _bad(f"{entry.name} has {entry.size} bytes, not 0 to {most}")
        total += _room(entry.size)
    if total > LARGEST_BUNDLE:
        raise _bad(f"it needs {total} bytes, more than {LARGEST_BUNDLE}")
    return total


def _room(size: int) -> int:
    return _BLOCK + size + _padding(size)


def _read_entry(file: IO[bytes], entry: FileEntry, copy: IO[bytes]) -> None:
    if file.read(_BLOCK) != _header(entry.name, entry.size):
        raise _bad(f"the header of {entry.name} is not the one that limpet writes")
    sha, left = hashlib.sha256(), entry.size
    while left:
        if not (chunk := file.read(min(CHUNK, left))):
            raise _bad(f"it ends inside {entry.name}")
        sha.update(chunk)
        copy.write(chunk)
        left -= len(chunk)
    if (found := "sha256:" + sha.hexdigest()) != entry.digest:
        raise _bad(f"{entry.name} hashes to {found}, not {entry.digest}")
    _check_padding(file, entry.size)


def _check_padding(file: IO[bytes], size: int) -> None:
    if file.read(_padding(size)) != bytes(_padding(size)):
        raise _bad("the padding behind an entry is not zeros")


def _bad(why: str) -> IntegrityError:
    return IntegrityError(
        f"This is not a sound {SUFFIX} bundle: {why}. Nothing was kept.", "limpet adapter export TASK@V FILE.limpet"
    )


_FOLDER_HINT = "export it to a folder: limpet adapter export TASK@V FOLDER"


@contextmanager
def _typed_os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room, then run the command again: df -h" if full else f"ls -ld {path.absolute().parent}"
        where = error.filename or path
        raise LimpetError(f"{where} can't be read or written: {error.strerror}.", hint) from error
