"""`home.stream`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import InterruptedRunError, UsageError
from limpet.registry.records import streams
from limpet.registry.settings import DEFAULT_BASE

if TYPE_CHECKING:
    from limpet.forgetting.report.values import Report
    from limpet.home import Home
    from limpet.registry.values import StreamRecord
    from limpet.training.progress import Progress

__all__ = ["Streams"]


class Streams:
    """`home.stream`: sequential task training by several arms."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def run(
        self, file: str | Path, *, mirror: bool = True, progress: Progress | None = None
    ) -> tuple[Report, tuple[str, ...]]:
        """Run a stream file, or go on where an earlier run had stopped.

        Args:
            file: The stream file.
            mirror: Bring the MLflow mirror up to date at the end; without it, `home.mirror()` does so later.
            progress: Told of every step.

        Returns:
            The report, and warnings about what could not be done beside it.
        """
        from limpet.forgetting.stream.run import run_stream
        from limpet.forgetting.stream.spec import read_stream
        from limpet.training.progress import SILENT

        home, progress = self._home, progress or SILENT
        spec = read_stream(Path(file))
        if spec.base and spec.base != (home.store.settings.base or DEFAULT_BASE):
            raise UsageError(
                f"The stream is for the base {spec.base!r}, but this home's is {home.store.settings.base!r}.",
                f"limpet init --home FOLDER --base {spec.base}",
            )
        try:
            run_stream(home.store, home.backbone(progress), spec, progress=progress)
        except InterruptedRunError as error:
            error.hint = f"limpet stream run {file}"
            raise
        return home.report(spec.name), home.mirror() if mirror else ()

    def list(self) -> tuple[StreamRecord, ...]:
        """All streams, oldest first."""
        return streams.list_all(self._home.store)

    def show(self, name: str) -> StreamRecord:
        """Return one stream."""
        return streams.get(self._home.store, name)
