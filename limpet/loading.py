"""Libraries loaded quicker: without a look at every object, again and again, for what could be thrown away."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keep_what_is_loaded", "loading"]

_keeps = False
# below so many new modules nothing was loaded to speak of, and whatever lies about is not to be kept
_MANY = 50


def keep_what_is_loaded() -> None:
    """Say that this process is limpet's alone: what `loading` loads is never looked through again.

    In somebody else's process it would be wrong: what they throw away later would stay.
    """
    global _keeps
    _keeps = True


@contextmanager
def loading() -> Iterator[None]:
    """Let the garbage collector rest for the length of a `with` block that imports libraries or loads weights.

    Torch and transformers make half a million objects while they are imported, and nearly all of them stay. The
    collector, which wakes up by the number of new objects, took a quarter of the time of `limpet predict`.
    """
    was_awake, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if was_awake:
            if _keeps and len(sys.modules) >= before + _MANY:
                gc.freeze()
            gc.enable()
