from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.registry.system.lines import split_lines

INSIDE = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""What `str.splitlines` takes for the end of a line, and no file of lines does."""


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\nb", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("\n\n", ["", ""]),
        ("a\rb\n", ["a\rb"]),
        (f"a{INSIDE}b\nc", [f"a{INSIDE}b", "c"]),
    ],
)
def test_a_line_ends_with_a_line_feed_and_with_nothing_else(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))))
def test_lines_that_were_joined_come_back(lines: list[str]) -> None:
    for end in ("\n", "\r\n"):
        assert split_lines("".join(f"{line}{end}" for line in lines)) == lines
