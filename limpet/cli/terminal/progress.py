"""Progress on stderr: a bar on a terminal, lines for notes, nothing where silence was asked for."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from limpet.cli.terminal.sanitize import plain
from limpet.cli.terminal.style import paint
from limpet.redaction import hide_secrets

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["TerminalProgress"]


class TerminalProgress:
    """Draws what `limpet.training.progress.Progress` is told: a bar on a terminal, and notes on stderr.

    It is a context: `with limpet.TerminalProgress() as progress: home.train("news", progress=progress)`.

    Args:
        silent: Say nothing at all.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent
        self._draws = not silent and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def start(self, description: str, total: int) -> None:
        """Work of `total` steps begins."""
        self.finish()
        if self._draws:
            self._bar = _new_bar()
            self._task = self._bar.add_task(description, total=total, detail="")
            self._bar.start()

    def advance(self, done: int, detail: str = "") -> None:
        """`done` steps are behind."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, detail=detail)

    def finish(self) -> None:
        """The work has ended: the bar goes."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str) -> None:
        """Write one line."""
        if self._silent:
            return
        text = plain(hide_secrets(text))
        if self._bar is not None:
            from rich.text import Text

            self._bar.console.print(Text(text, style="dim"))
        else:
            click.echo(paint(text, dim=True), err=True)


def _new_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
        console=Console(stderr=True),
        transient=True,
    )
