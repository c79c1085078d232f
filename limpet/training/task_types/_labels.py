"""Labels as cells have them."""

from __future__ import annotations

from limpet.errors import DataError

__all__ = ["read_label"]


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
