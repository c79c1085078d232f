"""bitsandbytes, without what it says to everybody who imports it."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

from limpet.errors import UnavailableError

__all__ = ["bitsandbytes"]

# peft imports it too where it is installed, and it tells everybody of optional kernels that it did not find
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@cache
def bitsandbytes() -> ModuleType:
    """Return the package.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        import bitsandbytes as package
    except ImportError as error:
        raise UnavailableError(
            f"A quantised base needs the package bitsandbytes, which can't be imported: {error}",
            "pip install 'limpet[quantised]'",
        ) from error
    return package
