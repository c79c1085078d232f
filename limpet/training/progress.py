"""How long work shows that it goes on; the command line draws it, the library is silent."""

from __future__ import annotations

from typing import Protocol

__all__ = ["SILENT", "Progress"]


class Progress(Protocol):
    """Receives the steps of one piece of work at a time."""

    def start(self, description: str, total: int) -> None:
        """Work of `total` steps begins."""

    def advance(self, done: int, detail: str = "") -> None:
        """`done` steps are behind; `detail` is a short text such as the loss."""

    def finish(self) -> None:
        """The work has ended."""

    def note(self, text: str) -> None:
        """One line about what has just been done."""


class _Silent:
    def start(self, description: str, total: int) -> None:
        pass

    def advance(self, done: int, detail: str = "") -> None:
        pass

    def finish(self) -> None:
        pass

    def note(self, text: str) -> None:
        pass


SILENT: Progress = _Silent()
