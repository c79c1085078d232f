"""bitsandbytes, where it is installed."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

from limpet.errors import UnavailableError

__all__ = ["bitsandbytes"]


@cache
def bitsandbytes(what: str = "A quantised base") -> ModuleType:
    """Return the package.

    Args:
        what: What needs it, for the message.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise UnavailableError(
            f"{what} needs the package bitsandbytes, which can't be imported: {error}",
            "pip install 'limpet[quantised]'",
        ) from error
