"""Libraries loaded and left quicker: without a look at every object for what could be thrown away."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["keep_what_is_loaded", "leave_it_loaded", "loading"]

_keeps = False
# below so many new modules nothing was loaded to speak of, and whatever lies about is not to be kept
_MANY = 50


def keep_what_is_loaded() -> None:
    """Say that this process is limpet's alone: what `loading` loads is never looked through again.

    In somebody else's process it would be wrong: what they throw away later would stay.
    """
    global _keeps
    _keeps = True


def leave_it_loaded(program: Callable[[], object]) -> None:
    """Run a program that ends with `sys.exit`, and then this process, without taking the libraries apart first.

    Python ends as it always does, with threads joined and everything run that was registered for the end; but the
    half a million objects of torch and transformers go with the process, and not one by one. In somebody else's
    process it would be wrong: what they registered before would not be run.

    Args:
        program: Called once; an exit code of its `sys.exit` that is no number, or any other end, is left to Python.
    """
    code: int | None = None

    def leave() -> None:
        if code is not None:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)

    # what was registered first is run last
    atexit.register(leave)
    try:
        program()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else None
        raise


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
