"""What every public verb does before and around its work: arguments are checked, and libraries keep quiet."""

from __future__ import annotations

import functools
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from limpet.argument_types import check_arguments, option_names
from limpet.home.notebook import NotebookProgress, in_notebook

__all__ = ["public", "public_function", "quiet_libraries"]

Face = TypeVar("Face")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_LIBRARIES = r"(transformers|peft|accelerate|torch|datasets|huggingface_hub|mlflow|alembic|safetensors|tqdm)(\.|$)"
_lock = threading.Lock()
_inside = 0
_added: list[object] = []


def public(name: str) -> Callable[[type[Face]], type[Face]]:
    """Decorate a class whose methods are called from outside; `name` is how people reach it: `home.task`."""

    def decorate(face: type[Face]) -> type[Face]:
        for attribute, function in list(vars(face).items()):
            if inspect.isfunction(function) and not attribute.startswith("_"):
                setattr(face, attribute, public_function(f"{name}.{attribute}")(function))
        return face

    return decorate


def public_function(name: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorate a function that is called from outside, under the name `name`.

    Called with an argument of another type than its annotations say, it raises UsageError. As long as it runs,
    libraries that limpet uses do not warn of their own use; what the user has set for them stays as it is. In a
    notebook, what takes a `progress` shows it there without being asked.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        takes_progress = "progress" in option_names(function)

        @functools.wraps(function)
        def called(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
            bound = check_arguments(name, function, arguments=arguments, options=options)
            with quiet_libraries(), _progress_of_notebook(bound, takes_progress):
                return function(*bound.args, **bound.kwargs)

        return called

    return decorate


@contextmanager
def _progress_of_notebook(bound: inspect.BoundArguments, takes_progress: bool) -> Iterator[None]:
    """In a notebook, give a call that takes a progress and was given none the notebook's own."""
    if not takes_progress or bound.kwargs.get("progress") or bound.arguments.get("progress") or not in_notebook():
        yield
        return
    progress = NotebookProgress()
    given = (
        bound.arguments
        if "progress" in bound.signature.parameters
        else bound.arguments.setdefault(list(bound.signature.parameters)[-1], {})
    )
    given["progress"] = progress
    try:
        yield
    finally:
        progress.finish()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Ignore warnings that libraries raise about themselves, for the length of a `with` block, in any thread.

    The filter is put before those that there are, and only it is taken away again: what is set meanwhile stays.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            warnings.filterwarnings("ignore", module=_LIBRARIES)
            _added.append(warnings.filters[0])
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and (filter_ := _added.pop()) in warnings.filters:
                # what was ignored is not remembered as seen, so nothing else is to be undone
                warnings.filters.remove(filter_)  # type: ignore[attr-defined]
