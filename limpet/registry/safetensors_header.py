"""A strict reading of a safetensors header, before a byte of a tensor is trusted."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from limpet.errors import IntegrityError

__all__ = ["LARGEST_HEADER", "check_header", "read_header"]

LARGEST_HEADER = 100_000_000
_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32,
    "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_LARGEST_COUNT = 2**63 - 1


def check_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return each tensor's dtype and shape, after the whole header was found sound.

    Args:
        path: A safetensors file.

    Raises:
        IntegrityError: The header is too large, is not JSON of the right form, has a tensor whose bytes do
            not fit its shape, or leaves a hole, an overlap or a rest in the buffer.
    """
    return {name: (dtype, shape) for name, (dtype, shape, _, _) in read_header(path).items()}


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Return each tensor's dtype, shape, and the offsets in the file where its bytes begin and end, checked.

    Raises:
        IntegrityError: As in `check_header`.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(8)
            if len(head) < 8:
                raise _bad(path, f"it has {size} bytes, too few for a header")
            (length,) = struct.unpack("<Q", head)
            if length > LARGEST_HEADER:
                raise _bad(path, f"its header claims {length} bytes, more than {LARGEST_HEADER}")
            if length > size - 8:
                raise _bad(path, f"its header claims {length} bytes, but only {size - 8} follow")
            raw = file.read(length)
    except OSError as error:
        raise _bad(path, f"it can't be read ({error.strerror})") from error
    tensors = [(name, *_entry(path, name, value)) for name, value in _parse(path, raw).items()]
    _check_cover(path, tensors, size - 8 - length)
    return {name: (dtype, shape, 8 + length + a, 8 + length + b) for name, dtype, shape, a, b in tensors}


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise _bad(path, "its header does not begin with '{'")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_twins, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is not JSON ({error})") from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _bad(path, "its __metadata__ is not a table of texts")
    return dict(header)


def _entry(path: Path, name: str, value: Any) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _bad(path, f"tensor {name!r} has not exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _bad(path, f"tensor {name!r} has the unknown dtype {dtype!r}")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise _bad(path, f"tensor {name!r} has a shape or offsets that are not counts")
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        raise _bad(path, f"tensor {name!r} of shape {shape} and dtype {dtype} does not fit its offsets {offsets}")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _counts(value: Any) -> bool:
    # a bool is an int to Python
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _LARGEST_COUNT for item in value)


def _check_cover(path: Path, tensors: list[tuple[str, str, tuple[int, ...], int, int]], size: int) -> None:
    end = 0
    for name, _, _, start, stop in sorted(tensors, key=lambda tensor: tensor[3:]):
        if start != end:
            raise _bad(path, f"tensor {name!r} begins at {start}, where {end} was due: a hole or an overlap")
        end = stop
    if end != size:
        raise _bad(path, f"its tensors cover {end} bytes of a buffer of {size}")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key occurs twice")
    return table


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _bad(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is not a sound safetensors file: {why}.",
        "download or write the file again; nothing was loaded",
    )
