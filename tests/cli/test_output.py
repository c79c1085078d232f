"""Values as JSON."""

from __future__ import annotations

import math
from pathlib import Path

from limpet.cli.terminal.output import size, to_json
from limpet.registry.values import FileEntry


def test_values_become_plain_json() -> None:
    entry = FileEntry("head.json", "sha256:00", 3)
    assert to_json({"files": (entry,), "path": Path("a/b"), 1: None}) == {
        "files": [{"name": "head.json", "digest": "sha256:00", "size": 3}],
        "path": "a/b",
        "1": None,
    }


def test_what_is_not_finite_is_null() -> None:
    assert to_json([math.nan, math.inf, 0.5, True]) == [None, None, 0.5, True]


def test_sizes_for_people() -> None:
    assert [size(value) for value in (0, 999, 1360000, 2_500_000_000)] == ["0 B", "999 B", "1.36 MB", "2.5 GB"]
