"""Figures that others published on a stream's tasks, kept in the stream file with their source, and never ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limpet.errors import UsageError
from limpet.registry.formats.json_values import JsonValue

__all__ = ["Published", "published_figures"]

_TEXTS = ("arm", "base", "metric", "source")


@dataclass(frozen=True)
class Published:
    """One figure: what was done, on which base, the metric's value, and where it stands; `note` says what differs."""

    arm: str
    base: str
    metric: str
    value: float
    source: str
    note: str = ""


def published_figures(spec: Mapping[str, Any]) -> tuple[Published, ...]:
    """Return the published figures of a stream file.

    Raises:
        UsageError: A figure lacks its source, or says something else than the fields of `Published`.
    """
    listed = spec.get("published") or []
    if not isinstance(listed, list):
        raise _wrong("published must be a list of figures.")
    return tuple(_figure(item) for item in listed)


def _figure(item: JsonValue) -> Published:
    if not isinstance(item, dict) or set(item) - {*_TEXTS, "value", "note"}:
        raise _wrong(f"{item!r} is no published figure.")
    for key in _TEXTS:
        if not isinstance(item.get(key), str) or not item[key]:
            raise _wrong(f"a published figure has no {key!r}: {item!r}.")
    value = item.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"the value of a published figure must be a number, not {value!r}.")
    return Published(value=float(value), note=str(item.get("note", "")), **{key: item[key] for key in _TEXTS})


def _wrong(message: str) -> UsageError:
    return UsageError(
        f"The stream file is wrong: {message}", "{arm: ..., base: ..., metric: ..., value: ..., source: ...}"
    )
