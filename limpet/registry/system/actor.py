"""Who acts: for the histories that the registry keeps."""

from __future__ import annotations

import getpass
import os

from limpet.registry.system.text_checks import check_text

__all__ = ["current_actor"]

_LONGEST = 256


def current_actor() -> str:
    """Return who runs this: `LIMPET_ACTOR` where a service has set it, else the user.

    Raises:
        UsageError: The name is no text that can be shown.
    """
    if name := os.environ.get("LIMPET_ACTOR", "").strip():
        return check_text("name in LIMPET_ACTOR", name, _LONGEST)
    try:
        return check_text("user's name", getpass.getuser(), _LONGEST)
    except (OSError, KeyError):
        # a container may run as a number that has no name
        return f"uid {os.getuid()}"
