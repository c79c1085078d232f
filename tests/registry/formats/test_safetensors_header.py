from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save, save_file

from limpet.errors import IntegrityError
from limpet.registry.formats.safetensors_header import check_header, read_header

SOUND = save({"a": numpy.arange(6, dtype="float32").reshape(2, 3), "b": numpy.ones(3, dtype="uint8")})


def write(path: Path, header: Any, buffer: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + buffer)
    return path


def entry(dtype: str = "U8", shape: Any = (4,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_files_of_the_library_are_sound_for_every_dtype(tmp_path: Path) -> None:
    dtypes = [
        "float64",
        "float32",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint64",
        "uint32",
        "uint16",
        "uint8",
        "bool",
    ]
    tensors = {dtype: numpy.ones((2, 3), dtype=dtype) for dtype in dtypes}
    tensors |= {"scalar": numpy.array(1.0), "empty": numpy.ones((0, 5), dtype="float32")}
    save_file(tensors, tmp_path / "file", metadata={"format": "pt"})
    header = check_header(tmp_path / "file")
    assert {name: shape for name, (_, shape) in header.items()} == {
        name: tensor.shape for name, tensor in tensors.items()
    }
    assert header["float32"] == ("F32", (2, 3))


def test_offsets_point_at_the_bytes_of_each_tensor(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(SOUND)
    _, _, start, stop = read_header(tmp_path / "file")["a"]
    assert SOUND[start:stop] == numpy.arange(6, dtype="float32").tobytes()


@pytest.mark.parametrize(
    ("header", "buffer"),
    [
        ({"a": entry(), "b": entry(offsets=(5, 9))}, b"x" * 9),
        ({"a": entry(), "b": entry(offsets=(3, 7))}, b"x" * 7),
        ({"a": entry(), "b": entry()}, b"x" * 4),
        ({"a": entry(offsets=(1, 5))}, b"x" * 5),
        ({"a": entry()}, b"x" * 5),
        ({"a": entry()}, b"x" * 3),
        ({}, b"x"),
        ({"a": entry(shape=(5,))}, b"x" * 4),
        ({"a": entry(dtype="F32")}, b"x" * 4),
        ({"a": entry(dtype="OBJECT")}, b"x" * 4),
        ({"a": entry(dtype=["U8"])}, b"x" * 4),
        ({"a": entry(shape=(-4, -1))}, b"x" * 4),
        ({"a": entry(shape=(True, 4))}, b"x" * 4),
        ({"a": entry(shape=4)}, b"x" * 4),
        ({"a": entry(shape=(2**62, 2**62, 0), offsets=(0, 4))}, b"x" * 4),
        ({"a": entry(offsets=(4, 0))}, b"x" * 4),
        ({"a": entry(offsets=(0, 4, 4))}, b"x" * 4),
        ({"a": entry(offsets=(0.0, 4.0))}, b"x" * 4),
        ({"a": entry() | {"extra": 1}}, b"x" * 4),
        ({"a": [1]}, b"x" * 4),
        ({"__metadata__": {"a": 1}}, b""),
        ({"__metadata__": "text"}, b""),
        (b'{"a":1,"a":1}', b""),
        (b"[]", b""),
        (b'{"a":NaN}', b""),
        (b"{" * 100_000, b""),
        (b'{"\xff":1}', b""),
        (b" {}", b""),
    ],
    ids=str,
)
def test_an_unsound_header_is_refused(tmp_path: Path, header: Any, buffer: bytes) -> None:
    with pytest.raises(IntegrityError):
        check_header(write(tmp_path / "file", header, buffer))


@pytest.mark.parametrize("length", [3, 2**63, 100_000_001, 2**64 - 1])
def test_a_length_that_lies_is_refused_before_reading(tmp_path: Path, length: int) -> None:
    with pytest.raises(IntegrityError):
        check_header(write(tmp_path / "file", {}, length=length))


def test_short_and_missing_files_are_refused(tmp_path: Path) -> None:
    for size in range(8):
        (tmp_path / "file").write_bytes(b"\0" * size)
        with pytest.raises(IntegrityError):
            check_header(tmp_path / "file")
    with pytest.raises(IntegrityError):
        check_header(tmp_path / "absent")


@settings(max_examples=400, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, len(SOUND)),
    whole=st.booleans(),
)
def test_what_passes_here_passes_the_library_too(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int]], cut: int, whole: bool
) -> None:
    data = bytearray(SOUND)
    for place, value in edits:
        data[place] = value
    file = tmp_path_factory.getbasetemp() / "fuzzed"
    file.write_bytes(data if whole else data[:cut])
    try:
        header = check_header(file)
    except IntegrityError:
        return
    try:
        read = deserialize(file.read_bytes())
    except SafetensorError as error:
        pytest.fail(f"accepted here, refused there: {error}")
    assert {name: tuple(tensor["shape"]) for name, tensor in read} == {
        name: shape for name, (_, shape) in header.items()
    }
