"""`--set KEY=VALUE`."""

from __future__ import annotations

from limpet.errors import UsageError

__all__ = ["parse_settings"]


def parse_settings(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return the settings of `--set`, each given once.

    Raises:
        UsageError: One has another form, or stands twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise UsageError(f"--set takes KEY=VALUE, not {pair!r}.", "--set r=8")
        if key in settings:
            raise UsageError(f"--set {key} stands twice.", f"--set {pair}")
        settings[key] = value
    return settings
