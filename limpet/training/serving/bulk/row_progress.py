"""Progress over all rows of a file, whichever chunk they are in, with how many are answered in a second."""

from __future__ import annotations

import time

from limpet.training.progress import Progress

__all__ = ["RowProgress"]


class RowProgress:
    """Receives the steps of one chunk after the other, and hands them on as steps of the whole.

    Args:
        progress: Receives the whole.
        description: What is done.
        total: How many rows there are to be answered.
    """

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._done = 0
        self._started = time.monotonic()
        progress.start(description, total)

    def behind(self, rows: int) -> None:
        """A chunk of so many rows is written."""
        self._done += rows
        self._show(self._done)

    def start(self, description: str, total: int) -> None:
        """See `Progress.start`: a chunk begins, and the whole goes on."""

    def advance(self, done: int, detail: str = "") -> None:
        """See `Progress.advance`."""
        self._show(self._done + done)

    def finish(self) -> None:
        """See `Progress.finish`: a chunk has ended."""

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._progress.note(text)

    def _show(self, rows: int) -> None:
        seconds = max(time.monotonic() - self._started, 1e-9)
        self._progress.advance(rows, f"{rows / seconds:.0f} rows/s")
