"""Who acts: for the histories that the registry keeps."""

from __future__ import annotations

import getpass
import os

__all__ = ["current_actor"]


def current_actor() -> str:
    """Return who runs this: `LIMPET_ACTOR` where a service has set it, else the user."""
    if name := os.environ.get("LIMPET_ACTOR", "").strip():
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # a container may run as a number that has no name
        return f"uid {os.getuid()}"
