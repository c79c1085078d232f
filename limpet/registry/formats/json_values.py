"""The types of JSON: what a document may hold, and an object whose form was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["JsonObject", "JsonValue"]

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
"""Whatever JSON can say: of a document that somebody else wrote, nothing more is known before it is looked at."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object whose fields are those that its document has: limpet wrote it, or its form was checked."""
