"""What kind of bytes a file has: UTF-8 text, or something else that can be named with the way out of it.

Every encoding but UTF-8 is refused: an encoding that is guessed gives wrong characters without a word.
"""

from __future__ import annotations

import codecs
import io
import shlex
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

__all__ = ["Fault", "fault_of_bytes", "fault_of_file"]

_CHUNK = 1 << 20
_SHOWN = 12
# marks are tried in this order: that of UTF-32 begins like that of UTF-16
_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_AS_CSV = "save it as CSV, in UTF-8, with the program that wrote it"
_FORMATS = (
    (b"\x1f\x8b", "a gzip archive", "gunzip -k {path}"),
    (b"BZh", "a bzip2 archive", "bunzip2 -k {path}"),
    (b"\xfd7zXZ\x00", "an xz archive", "unxz -k {path}"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unzstd {path}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x {path}"),
    (b"PAR1", "a Parquet file", "--data parquet:{path}"),
    (b"\xd0\xcf\x11\xe0", "a document of an older office program (such as .xls)", _AS_CSV),
    (b"%PDF", "a PDF document", _AS_CSV),
    (b"SQLite format 3", "an SQLite database", 'sqlite3 -header -csv {path} "select ..." > data.csv'),
)
_OFFICE = (("xl/", "an Excel workbook"), ("word/", "a Word document"), ("mimetype", "an OpenDocument file"))


class Fault(NamedTuple):
    """Why bytes are no UTF-8 text (`message` follows the file's name), and what to do about it."""

    message: str
    hint: str


def fault_of_file(path: Path) -> Fault | None:
    """Say what is wrong with a file's bytes; null where they are UTF-8 text."""
    with path.open("rb") as file:
        start = file.read(_CHUNK)
        if fault := _other_format(file, start, str(path)) or _wide(start, str(path)):
            return fault
        file.seek(len(start))
        decoder = codecs.getincrementaldecoder("utf-8")()
        done, chunk = 0, start
        while True:
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return _narrow(error.object, error.start, done - pending + error.start, name=str(path))
            if not chunk:
                return None
            done += len(chunk)
            chunk = file.read(_CHUNK)


def fault_of_bytes(content: bytes, name: str) -> Fault | None:
    """Say what is wrong with bytes of a file that is called `name`; null where they are UTF-8 text."""
    if fault := _other_format(io.BytesIO(content), content, name) or _wide(content, name):
        return fault
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return _narrow(content, error.start, error.start, name=name)
    return None


def _other_format(file: IO[bytes], start: bytes, name: str) -> Fault | None:
    if start.startswith(b"PK\x03\x04"):
        return _of_zip(file, name)
    for mark, what, hint in _FORMATS:
        if start.startswith(mark):
            return Fault(f"is {what}, not a text file", hint.format(path=shlex.quote(name)))
    return None


def _of_zip(file: IO[bytes], name: str) -> Fault:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        members = []
    for prefix, what in _OFFICE:
        if any(member.startswith(prefix) for member in members):
            return Fault(f"is {what}, not a text file", _AS_CSV)
    return Fault("is a zip archive, not a text file", f"unzip {shlex.quote(name)}")


def _wide(start: bytes, name: str) -> Fault | None:
    """Find encodings whose characters have two or four bytes each."""
    for mark, encoding in _ORDER_MARKS:
        if start.startswith(mark):
            return Fault(f"is {encoding}, as its first bytes say, and not UTF-8", _convert(encoding, name))
    at = start.find(0)
    if at < 0:
        return None
    halves = start[0::2].count(0), start[1::2].count(0)
    if max(halves) > len(start) // 4 and min(halves) * 8 < max(halves):
        encoding = "UTF-16BE" if halves[0] > halves[1] else "UTF-16LE"
        return Fault(f"is {encoding}: every second byte is zero; it is not UTF-8", _convert(encoding, name))
    return Fault(f"is not text: it has a zero byte at offset {at}", "name a text file")


def _narrow(content: bytes, place: int, offset: int, *, name: str) -> Fault:
    """Say which encoding of one byte for each character fits, and how the text would read in it."""
    fault = f"is not UTF-8: byte 0x{content[place]:02x} at offset {offset} can't be decoded"
    encoding = _one_byte_encoding(content)
    if encoding is None:
        return Fault(
            f"{fault}, and its bytes do not tell which encoding it has instead",
            f"{_convert('ENCODING', name)}, with the encoding that it was saved in",
        )
    line = content[max(0, place - _SHOWN) : place + _SHOWN].decode(encoding)
    before, after = line[: min(place, _SHOWN)], line[min(place, _SHOWN) :]
    # nothing of the lines before and after
    shown = before.replace("\r", "\n").rpartition("\n")[2] + after.replace("\r", "\n").partition("\n")[0]
    return Fault(f"{fault}; as {encoding} it reads {shown!r}", _convert(encoding, name))


def _one_byte_encoding(content: bytes) -> str | None:
    beyond = [byte for byte in content if byte >= 0x80]
    letters = sum(content.count(byte) for byte in range(0x41, 0x7B))
    # in a Latin script most letters are ASCII; elsewhere one encoding can't be told from another by its bytes
    if len(beyond) > letters:
        return None
    controls = {byte for byte in beyond if byte < 0xA0}
    if not controls:
        return "LATIN1"
    return None if controls & {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "CP1252"


def _convert(encoding: str, name: str) -> str:
    if name == "-":
        return f"iconv -f {encoding} -t UTF-8 FILE | limpet predict TASK --file -"
    path = Path(name)
    there = path.with_suffix(f".utf8{path.suffix}")
    return f"iconv -f {encoding} -t UTF-8 {shlex.quote(name)} > {shlex.quote(str(there))}"
