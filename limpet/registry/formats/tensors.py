"""Tensors read from safetensors files by the strict header alone, in pieces, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from limpet.errors import IntegrityError
from limpet.registry.formats.safetensors_header import read_header

if TYPE_CHECKING:
    from numpy import float32, number
    from numpy.typing import NDArray

    _Numbers = NDArray[number]

__all__ = ["are_finite", "first_not_finite", "is_readable", "read_tensor"]

_PIECE = 1 << 20
# numpy's types for the bytes; bfloat16, which numpy lacks, is the upper half of a float32
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "C64": "<f4",
    "F8_E5M2": "u1", "F8_E4M3": "u1", "F8_E8M0": "u1", "F8_E4M3FNUZ": "u1", "F8_E5M2FNUZ": "u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
    "BOOL": "u1",
}  # fmt: skip
_FLOATS = ("F64", "F32", "F16", "BF16")
# which bits say that a value is NaN or infinite: those under the mask, if they are equal to the pattern
_SPECIAL = {
    "BF16": (0x7F80, 0x7F80),
    "F8_E5M2": (0x7C, 0x7C),
    "F8_E4M3": (0x7F, 0x7F),
    "F8_E8M0": (0xFF, 0xFF),
    "F8_E4M3FNUZ": (0xFF, 0x80),
    "F8_E5M2FNUZ": (0xFF, 0x80),
}


def is_readable(dtype: str) -> bool:
    """Say whether `read_tensor` knows a dtype: float64, float32, float16 and bfloat16."""
    return dtype in _FLOATS


def read_tensor(path: Path, dtype: str, shape: tuple[int, ...], *, start: int, stop: int) -> NDArray[float32]:
    """Return a tensor as float32.

    Args:
        path: A safetensors file.
        dtype: As the header says, one that `is_readable`.
        shape: As the header says.
        start: Where its bytes begin, as `read_header` says.
        stop: Where they end.

    Raises:
        IntegrityError: The file ends too early.
    """
    import numpy as np

    with path.open("rb") as file:
        pieces = list(_pieces(file, dtype, start, stop=stop))
    raw = np.concatenate(pieces) if pieces else np.empty(0, _TYPES[dtype])
    values = (raw.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else raw.astype(np.float32)
    return values.reshape(shape)


def first_not_finite(path: Path, name: str = "") -> str | None:
    """Return the name of the first tensor that has a NaN or infinite value; null if all are finite.

    Args:
        path: A safetensors file.
        name: What to call it in an error; its path if empty.

    Raises:
        IntegrityError: The header is not sound.
    """
    header = read_header(path, name)
    with path.open("rb") as file:
        for tensor, (dtype, _, start, stop) in header.items():
            if any(_has_special(piece, dtype) for piece in _pieces(file, dtype, start, stop=stop)):
                return tensor
    return None


def are_finite(raw: bytes, dtype: str) -> bool:
    """Tell whether whole numbers of a dtype, as they lie in a file, are all finite."""
    import numpy as np

    return dtype not in _TYPES or not _has_special(np.frombuffer(raw, np.dtype(_TYPES[dtype])), dtype)


def _pieces(file: BinaryIO, dtype: str, start: int, *, stop: int) -> Iterator[_Numbers]:
    import numpy as np

    if dtype not in _TYPES:
        return  # four- and six-bit floats: every pattern of theirs is a number
    kind = np.dtype(_TYPES[dtype])
    file.seek(start)
    left = (stop - start) // kind.itemsize
    while left:
        raw = file.read(min(left, _PIECE) * kind.itemsize)
        if len(raw) % kind.itemsize or not raw:
            raise IntegrityError(f"{file.name} ends too early.", "limpet verify")
        left -= len(raw) // kind.itemsize
        yield np.frombuffer(raw, kind)


def _has_special(piece: _Numbers, dtype: str) -> bool:
    import numpy as np

    if dtype in _SPECIAL:
        mask, pattern = _SPECIAL[dtype]
        return bool((np.bitwise_and(piece, mask) == pattern).any())
    return piece.dtype.kind == "f" and not bool(np.isfinite(piece).all())
