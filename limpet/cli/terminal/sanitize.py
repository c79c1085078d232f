"""Text that others wrote, made safe to show: a terminal acts on control characters, and so does a reader's eye."""

from __future__ import annotations

import json
import re

__all__ = ["json_text", "plain"]

# controls, halves of surrogates, line separators, and the marks that turn the direction of writing
_MARKS = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_UNSAFE = re.compile(f"[\x00-\x1f\x7f-\x9f{_MARKS}]")
_UNSAFE_BUT_LINES = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_MARKS}]")
# what JSON leaves as it is
_UNSAFE_IN_JSON = re.compile(f"[\x7f-\x9f{_MARKS}]")


def plain(text: str, *, lines: bool = False) -> str:
    r"""Return a text with `\x1b` and its like written out.

    Args:
        text: What somebody typed, or a file said.
        lines: Whether line ends and tabs may stay.
    """
    pattern = _UNSAFE_BUT_LINES if lines else _UNSAFE
    return pattern.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def json_text(value: object, indent: int | None = None) -> str:
    """Return one JSON document that reads back as `value`, with nothing in it that a terminal acts on."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
