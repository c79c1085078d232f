"""A strict reading of a safetensors header, before a byte of a tensor is trusted."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from limpet.errors import IntegrityError
from limpet.registry.formats.strict_json import refuse_constant, without_twins

__all__ = ["LARGEST_HEADER", "check_header", "read_header"]

LARGEST_HEADER = 100_000_000
_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32,
    "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_LARGEST_COUNT = 2**63 - 1
# a million dimensions of 2**63 each would keep a processor busy for hours
_MOST_DIMENSIONS = 32


def check_header(path: Path, name: str = "") -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return each tensor's dtype and shape, after the whole header was found sound.

    Args:
        path: A safetensors file.
        name: What to call it in an error; its path if empty.

    Raises:
        IntegrityError: The header is too large, is not JSON of the right form, has a tensor whose bytes do
            not fit its shape, or leaves a hole, an overlap or a rest in the buffer.
    """
    return {name: (dtype, shape) for name, (dtype, shape, _, _) in read_header(path, name).items()}


def read_header(path: Path, name: str = "") -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Return each tensor's dtype, shape, and the offsets in the file where its bytes begin and end, checked.

    Raises:
        IntegrityError: As in `check_header`.
    """
    what = name or str(path)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(8)
            if len(head) < 8:
                raise _bad(what, f"it has {size} bytes, too few for a header")
            (length,) = struct.unpack("<Q", head)
            if length > LARGEST_HEADER:
                raise _bad(what, f"its header claims {length} bytes, more than {LARGEST_HEADER}")
            if length > size - 8:
                raise _bad(what, f"its header claims {length} bytes, but only {size - 8} follow")
            raw = file.read(length)
    except OSError as error:
        raise _bad(what, f"it can't be read ({error.strerror})") from error
    tensors = [(key, *_entry(what, key, value)) for key, value in _parse(what, raw).items()]
    _check_cover(what, tensors, size - 8 - length)
    return {key: (dtype, shape, 8 + length + a, 8 + length + b) for key, dtype, shape, a, b in tensors}


def _parse(what: str, raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise _bad(what, "its header does not begin with '{'")
    try:
        header = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=without_twins,
            parse_constant=refuse_constant,
            parse_int=_count,
        )
        # half a surrogate can be written in JSON, but is no text
        for name in header:
            name.encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise _bad(what, f"its header is not JSON ({error})") from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _bad(what, "its __metadata__ is not a table of texts")
    return dict(header)


def _count(digits: str) -> int:
    if digits.startswith("-"):
        raise ValueError(f"{digits[:20]} is negative")
    return int(digits)


def _entry(what: str, name: str, value: object) -> tuple[str, tuple[int, ...], int, int]:
    name = name[:100]
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _bad(what, f"tensor {name!r} has not exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _bad(what, f"tensor {name!r} has the unknown dtype {str(dtype)[:20]!r}")
    if not _counts(shape) or len(shape) > _MOST_DIMENSIONS or not _counts(offsets) or len(offsets) != 2:
        raise _bad(what, f"tensor {name!r} has a shape or offsets that are not counts")
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        raise _bad(what, f"tensor {name!r} of shape {shape} and dtype {dtype} does not fit its offsets {offsets}")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _counts(value: object) -> bool:
    # a bool is an int to Python
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _LARGEST_COUNT for item in value)


def _check_cover(what: str, tensors: list[tuple[str, str, tuple[int, ...], int, int]], size: int) -> None:
    end = 0
    for name, _, _, start, stop in sorted(tensors, key=lambda tensor: tensor[3:]):
        if start != end:
            raise _bad(what, f"tensor {name[:100]!r} begins at {start}, where {end} was due: a hole or an overlap")
        end = stop
    if end != size:
        raise _bad(what, f"its tensors cover {end} bytes of a buffer of {size}")


def _bad(what: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{what} is not a sound safetensors file: {why}.",
        "download or write the file again; nothing was loaded",
    )
