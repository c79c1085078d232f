"""bitsandbytes, where it is installed."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

from limpet.errors import UnavailableError

__all__ = ["bitsandbytes"]


@cache
def bitsandbytes() -> ModuleType:
    """Return the package.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise UnavailableError(
            f"A quantised base needs the package bitsandbytes, which can't be imported: {error}",
            "pip install 'limpet[quantised]'",
        ) from error
