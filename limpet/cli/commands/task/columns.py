"""What `limpet task add` and `revise` are told about columns and labels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from limpet.errors import NotFoundError, UsageError

__all__ = ["given_columns", "listed", "read_template"]


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


def read_template(path: Path) -> str:
    """Return the text of a chat template's file.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {str(path)!r}.", "--chat-template FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read as a template: {error}.", "--chat-template FILE, in UTF-8") from error
