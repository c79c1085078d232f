"""A file that is not UTF-8 is named for what it is, and the hint turns it into what is wanted."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from limpet.training.data.reading.encodings import fault_of_bytes, fault_of_file

TEXT = "text,label\nfar boat n0 “quoted” don’t café,sea\nold star,sky\n"  # noqa: RUF001


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("cp1252", "CP1252"),
        ("utf-16", "UTF-16"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-32", "UTF-32"),
    ],
)
def test_the_hint_turns_the_file_into_utf_8(tmp_path: Path, encoding: str, named: str) -> None:
    path = tmp_path / "my data.csv"
    path.write_bytes(TEXT.encode(encoding))
    fault = fault_of_file(path)
    assert fault is not None
    assert named in fault.message
    assert fault == fault_of_bytes(path.read_bytes(), str(path))
    subprocess.run(["sh", "-c", fault.hint], check=True)
    assert (tmp_path / "my data.utf8.csv").read_text(encoding="utf-8-sig") == TEXT
    assert fault_of_file(tmp_path / "my data.utf8.csv") is None


def test_the_text_at_the_fault_is_shown_as_the_named_encoding_reads_it() -> None:
    fault = fault_of_bytes("caf\xe9,yes\nwater,no\n".encode("latin-1"), "f.csv")
    assert fault is not None
    assert fault.message == ("is not UTF-8: byte 0xe9 at offset 3 can't be decoded; as LATIN1 it reads 'café,yes'")
    assert fault.hint == "iconv -f LATIN1 -t UTF-8 f.csv > f.utf8.csv"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("это письмо о заказе", "cp1251"),  # noqa: RUF001
        ("배송이 너무 늦어요", "cp949"),
        ("申し訳ない", "shift_jis"),
    ],
)
def test_no_latin_encoding_is_named_for_another_script(text: str, encoding: str) -> None:
    fault = fault_of_bytes(f"text,label\n{text * 9},a\n".encode(encoding), "f.csv")
    assert fault is not None
    assert "do not tell" in fault.message
    assert "ENCODING" in fault.hint


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, TEXT)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "named", "hint"),
    [
        (gzip.compress(TEXT.encode()), "a gzip archive", "gunzip -k"),
        (bz2.compress(TEXT.encode()), "a bzip2 archive", "bunzip2 -k"),
        (lzma.compress(TEXT.encode()), "an xz archive", "unxz -k"),
        (zipped("data.csv"), "a zip archive", "unzip"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook", "save it as CSV, in UTF-8"),
        (b"PAR1" + bytes(8) + b"PAR1", "a Parquet file", "--data parquet:"),
        (b"\x00\x01binary", "not text: it has a zero byte at offset 0", "name a text file"),
    ],
    ids=["gz", "bz2", "xz", "zip", "xlsx", "parquet", "binary"],
)
def test_other_kinds_of_files_are_named(tmp_path: Path, content: bytes, named: str, hint: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    fault = fault_of_file(path)
    assert fault is not None
    assert named in fault.message
    assert hint in fault.hint
    assert fault == fault_of_bytes(content, str(path))


def test_a_file_behind_gzip_can_be_had_as_the_hint_says(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    fault = fault_of_file(path)
    assert fault is not None
    assert shutil.which("gunzip")
    subprocess.run(["sh", "-c", fault.hint], check=True)
    assert fault_of_file(tmp_path / "data.csv") is None


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_utf_8_has_no_fault(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(mark + TEXT.encode())
    assert fault_of_file(path) is None
    assert fault_of_bytes(path.read_bytes(), "-") is None
