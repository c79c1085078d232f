"""Values of options that have a form of their own: `--set KEY=VALUE`, numbers beside words."""

from __future__ import annotations

from limpet.errors import UsageError

__all__ = ["parse_settings", "whole_number"]


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


def whole_number(option: str, text: str, wanted: str) -> int:
    """Return the whole number that an option was given.

    Args:
        option: The option, such as `--replay`.
        text: What was typed.
        wanted: What it takes, for the message.

    Raises:
        UsageError: It is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{option} takes {wanted}, not {text!r}.", f"{option} 100")
    return int(text)
