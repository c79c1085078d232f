"""What one call of the program was asked for everywhere: which home, which form of output, how much talk."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from limpet.loading import loading
from limpet.names import renamed_method

if TYPE_CHECKING:
    from limpet.cli.terminal.progress import TerminalProgress
    from limpet.home import Home

__all__ = ["Invocation", "pass_invocation"]


@dataclass
class Invocation:
    """The global options; each may be typed before or after the command, so they are gathered one by one."""

    home: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    _started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """How long ago the call was made."""
        return time.perf_counter() - self._started

    def open(self) -> Home:
        """Open the home that this call is about.

        Raises:
            NotFoundError: There is none.
        """
        self.hush()
        with loading():
            from limpet.home import open_home

            return open_home(self.home)

    def hush(self) -> None:
        """Keep libraries from talking; must come before they are imported."""
        if not self.verbose:
            from limpet.cli.terminal.quiet_libraries import silence

            silence()

    def note(self, text: str) -> None:
        """Say something beside the output, where notes are wanted."""
        if not (self.quiet or self.json):
            click.echo(text, err=True)

    def note_renamed(self, *methods: str) -> None:
        """Say of methods that were named as they were called before what they are called now."""
        for method in methods:
            if note := renamed_method(method):
                self.note(note)

    def progress(self) -> AbstractContextManager[TerminalProgress]:
        """Return the progress to hand to a home, as a context: whatever happens, the terminal is left clean."""
        from limpet.cli.terminal.progress import TerminalProgress

        return TerminalProgress(silent=self.quiet or self.json)


pass_invocation = click.make_pass_decorator(Invocation)
