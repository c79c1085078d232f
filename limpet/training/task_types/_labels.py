"""Labels as cells have them."""

from __future__ import annotations

from limpet.errors import DataError
from limpet.registry.formats.json_values import JsonValue

__all__ = ["read_label", "relabelled"]


def relabelled(label: JsonValue, own: tuple[str, ...], wanted: tuple[str, ...]) -> JsonValue:
    """Return the id under another label map of a label that is an id under its own; else its name."""
    if not isinstance(label, int) or not 0 <= label < len(own):
        return label
    return wanted.index(own[label]) if own[label] in wanted else own[label]


def read_label(value: object) -> str | None:
    """Return a label as text, null where there is none: `3`, `3.0` and `"3"` are the same label.

    Raises:
        DataError: It is a fraction, or no single value.
    """
    if value is None:
        return None
    if isinstance(value, float):
        if value != value:  # NaN is how a missing number arrives
            return None
        if not value.is_integer():
            raise DataError(
                f"The label {value!r} is a fraction, and classes are names or whole numbers.",
                "name another column with --label COL",
            )
        value = int(value)
    if not isinstance(value, (str, int)):
        raise DataError(
            f"A label is a {type(value).__name__} ({str(value)[:60]!r}), not one name or number.",
            "name another column with --label COL",
        )
    return str(value).strip() or None
