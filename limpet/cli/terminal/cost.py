"""What a version cost, in lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limpet.cli.terminal import output

__all__ = ["cost_lines"]

_NAMES = {
    "train_seconds": "training seconds",
    "examples_per_second": "examples/s",
    "peak_memory_bytes": "peak memory",
    "peak_memory_added_bytes": "memory added",
}


def cost_lines(cost: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Return names with values for `fields_table`; what is not known is left out, or a dash where nothing is."""
    latency = cost["latency"] or {}
    against = cost["against_full"]
    ratios = [f"{name} {against[key]:.2f}x" for key, name in _NAMES.items() if against[key] is not None]
    return [
        (
            "trained weights",
            _joined(_count(cost["trainable_parameters"]), _share(cost["trainable_share"], "the base")),
        ),
        ("size", _joined(_size(cost["bytes"]), _share(cost["bytes_share"], "a full checkpoint"))),
        ("training", _joined(_seconds(cost["train_seconds"]), _rate(cost["examples_per_second"]))),
        ("peak memory", _joined(_size(cost["peak_memory_bytes"]), _size(cost["peak_memory_added_bytes"], " added"))),
        ("against full", f"{against['version']}: {', '.join(ratios)}" if ratios else None),
        (
            "latency",
            _joined(
                _latency("", latency.get("milliseconds"), latency.get("ratio")),
                _latency("the base alone ", latency.get("base_milliseconds"), None),
                _latency("merged ", latency.get("merged_milliseconds"), latency.get("merged_ratio")),
            ),
        ),
        ("base unchanged", {True: "yes", False: "no", None: None}[cost["base_unchanged"]]),
    ]


def _joined(*parts: str | None) -> str | None:
    return ", ".join(part for part in parts if part) or None


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _share(value: float | None, of: str) -> str | None:
    return None if value is None else f"{value:.2%} of {of}"


def _size(value: float | None, suffix: str = "") -> str | None:
    return None if value is None else f"{output.size(value)}{suffix}"


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} s"


def _rate(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} examples/s"


def _latency(whose: str, milliseconds: float | None, ratio: float | None) -> str | None:
    if milliseconds is None:
        return None
    times = "" if ratio is None else f" ({ratio:.2f}x)"
    return f"{whose}{milliseconds:.2f} ms{times}"
