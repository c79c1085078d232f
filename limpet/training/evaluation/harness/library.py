"""lm-eval, where it is installed: it draws no bars here, keeps nothing, and its templates run no code."""

from __future__ import annotations

import importlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import version
from types import ModuleType

from limpet.errors import UnavailableError

__all__ = ["check_installed", "contained", "part", "release"]

_LOGGERS = ("lm_eval", "evaluate", "datasets")


def check_installed() -> None:
    """Refuse to go on without lm-eval.

    Raises:
        UnavailableError: It is not installed.
    """
    part("lm_eval")


@cache
def part(name: str) -> ModuleType:
    """Return a module of lm-eval.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnavailableError(
            f"Task files of the evaluation harness need the package lm-eval, which can't be imported: {error}",
            "pip install 'limpet[harness]'",
        ) from error


def release() -> str:
    """Return the library's name and version."""
    return f"lm-eval {version('lm_eval')}"


@contextmanager
def contained() -> Iterator[str]:
    """Keep lm-eval quiet and to itself for the length of a `with` block; yield a folder for what it writes.

    Its templates are rendered in a sandbox, as transformers does with chat templates: a task file is data, and its
    Jinja could otherwise call whatever Python has.
    """
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    utils, tqdm = part("lm_eval.utils"), part("tqdm").tqdm
    templates = ImmutableSandboxedEnvironment(
        loader=utils.env.loader, undefined=utils.env.undefined, keep_trailing_newline=True
    )
    templates.filters["regex_replace"] = utils.regex_replace
    draw = tqdm.__init__

    def draw_nothing(bar: object, *arguments: object, **options: object) -> None:
        draw(bar, *arguments, **{**options, "disable": True})

    with ExitStack() as stack:
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        for owner, attribute, value in ((utils, "env", templates), (tqdm, "__init__", draw_nothing)):
            stack.callback(setattr, owner, attribute, getattr(owner, attribute))
            setattr(owner, attribute, value)
        yield stack.enter_context(tempfile.TemporaryDirectory(prefix="limpet-harness-"))
