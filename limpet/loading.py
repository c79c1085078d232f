"""Libraries loaded and left quicker: without a look at every object for what could be thrown away."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType

__all__ = ["keep_what_is_loaded", "leave_it_loaded", "loading"]

_keeps = False
# below so many new modules nothing was loaded to speak of, and whatever lies about is not to be kept
_MANY = 50
# transformers imports them for losses of object detection, a quarter of a second of every command that loads a base
_DEFERRED = ("scipy.optimize", ("linear_sum_assignment",))


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
        with _deferring():
            yield
    finally:
        if was_awake:
            if _keeps and len(sys.modules) >= before + _MANY:
                gc.freeze()
            gc.enable()


class _Deferred(ModuleType):
    """Stands for a module until something of it is used that is not a function known beforehand."""

    def __init__(self, name: str, functions: tuple[str, ...]) -> None:
        super().__init__(name)
        for function in functions:
            setattr(self, function, self._later(function))

    def __getattr__(self, attribute: str) -> object:
        if attribute == "__path__":
            # asked for by every import from here, and by those of modules inside
            return _search_path(self.__name__)
        if attribute.startswith("__"):
            # whoever goes through all modules asks where they come from
            raise AttributeError(attribute)
        return getattr(self._real(), attribute)

    def _later(self, function: str) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            result: object = getattr(self._real(), function)(*arguments, **options)
            return result

        return call

    def _real(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)


def _search_path(name: str) -> list[str] | None:
    """Return where the modules inside a package lie, without importing it or what it stands in."""
    parent, _, _ = name.rpartition(".")
    spec = PathFinder.find_spec(name, _search_path(parent) if parent else None)
    return None if spec is None else spec.submodule_search_locations


@contextmanager
def _deferring() -> Iterator[None]:
    """Let a block import `_DEFERRED` when it is first used, and not before; in a process of limpet's own alone."""
    name, functions = _DEFERRED
    if not _keeps or name in sys.modules:
        yield
        return
    module = sys.modules[name] = _Deferred(name, functions)
    try:
        yield
    finally:
        # only what was imported meanwhile has it
        if sys.modules.get(name) is module:
            del sys.modules[name]
