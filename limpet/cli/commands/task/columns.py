"""What `limpet task add` and `revise` are told about columns and labels."""

from __future__ import annotations

import csv
from typing import Any

from limpet.errors import UsageError

__all__ = ["given_columns", "listed"]


def given_columns(name: str, label: str | None, target: str | None, *, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, with the one column of the targets.

    Raises:
        UsageError: That column was named twice.
    """
    if label is not None and target is not None:
        raise UsageError("--label and --target name the same column.", f"limpet task add {name} --label {label}")
    given = {key: value for key, value in options.items() if value is not None}
    return given if (column := label or target) is None else {**given, "target_column": column}


def listed(labels: str) -> list[str]:
    """Return labels with commas between them; one that has a comma itself stands between quotes."""
    return [label.strip() for label in next(csv.reader([labels]), [])]
