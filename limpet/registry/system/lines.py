"""Lines of text as programs write them: they end with a line feed, or with a carriage return and a line feed."""

from __future__ import annotations

__all__ = ["split_lines"]


def split_lines(text: str) -> list[str]:
    r"""Return the lines of a text without their ends.

    Only `\n` and `\r\n` end a line. `str.splitlines` also splits at form feeds, U+0085, U+2028 and U+2029, which
    stand inside texts, and inside the strings of JSON lines.
    """
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]
    return [line.removesuffix("\r") for line in lines]
