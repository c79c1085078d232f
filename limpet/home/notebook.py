"""Progress in a notebook: one bar below the cell, and nothing of it is left when the work has ended."""

from __future__ import annotations

import importlib
import sys
import time
from html import escape
from typing import Protocol

__all__ = ["NotebookProgress", "in_notebook"]

_SECONDS_BETWEEN = 0.1


class _Handle(Protocol):
    def update(self, shown: object) -> None:
        """Show something else in the same place."""


class NotebookProgress:
    """Draws what `limpet.training.progress.Progress` is told below the cell of a notebook."""

    def __init__(self) -> None:
        self._handle: _Handle | None = None
        self._description, self._total, self._drawn_at = "", 0, 0.0

    def start(self, description: str, total: int) -> None:
        """Work of `total` steps begins."""
        self._description, self._total = description, total
        self._draw(0, "")

    def advance(self, done: int, detail: str = "") -> None:
        """`done` steps are behind; drawn ten times a second at most."""
        if time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN:
            self._draw(done, detail)

    def finish(self) -> None:
        """The work has ended: the bar goes."""
        if self._handle is not None:
            self._handle.update(_html(""))
            self._handle = None

    def note(self, text: str) -> None:
        """Print one line."""
        sys.stdout.write(f"{text}\n")

    def _draw(self, done: int, detail: str) -> None:
        self._drawn_at = time.monotonic()
        shown = _html(
            f'{escape(self._description)} <progress value="{int(done)}" max="{max(1, self._total)}"></progress> '
            f"{int(done)}/{self._total} {escape(detail)}"
        )
        if self._handle is None:
            self._handle = importlib.import_module("IPython.display").display(shown, display_id=True)
        else:
            self._handle.update(shown)


def in_notebook() -> bool:
    """Tell whether this is a notebook's kernel; a console of IPython is none."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


def _html(text: str) -> object:
    return importlib.import_module("IPython.display").HTML(text)
