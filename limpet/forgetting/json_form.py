"""Frozen values as the JSON that is promised of them, and JSON as values that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from limpet.registry.formats.json_values import JsonObject, JsonValue

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["as_json", "as_tuples"]


def as_json(value: DataclassInstance) -> JsonObject:
    """Return a frozen value as a JSON object: its fields by name, tuples as lists."""
    return {key: list(field) if isinstance(field, tuple) else field for key, field in asdict(value).items()}


def as_tuples(values: Sequence[JsonValue]) -> tuple[JsonValue, ...]:
    """Return a list of JSON as a tuple, and lists in it too: tuples can be compared and told apart."""
    return tuple(as_tuples(value) if isinstance(value, list) else value for value in values)
