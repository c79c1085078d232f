"""`home.stream`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import InterruptedRunError, UsageError
from limpet.home.public import public
from limpet.registry.records import streams
from limpet.registry.settings import DEFAULT_BASE

if TYPE_CHECKING:
    from limpet.forgetting.report.values import Report
    from limpet.home.context import HomeContext
    from limpet.registry.values import StreamRecord
    from limpet.training.progress import Progress

__all__ = ["Streams"]


@public("home.stream")
class Streams:
    """`home.stream`: sequential task training by several arms."""

    def __init__(self, context: HomeContext) -> None:
        self._context = context

    def run(
        self, file: str | Path, *, mirror: bool = True, progress: Progress | None = None
    ) -> tuple[Report, tuple[str, ...]]:
        """Run a stream file, or go on where an earlier run had stopped.

        Args:
            file: The stream file.
            mirror: Let a process of its own bring the MLflow mirror up to date at the end; without it,
                `home.mirror()` does so later.
            progress: Receives every step.

        Returns:
            The report, and warnings about what could not be done beside it.
        """
        from limpet.forgetting.report.build import build_report
        from limpet.forgetting.stream.run import run_stream
        from limpet.forgetting.stream.stream_file import read_stream
        from limpet.home import additions
        from limpet.training.progress import SILENT

        context, progress = self._context, progress or SILENT
        spec = read_stream(Path(file))
        for note in spec.notes:
            progress.note(note)
        if spec.base and spec.base != (context.store.settings.base or DEFAULT_BASE):
            raise UsageError(
                f"The stream is for the base {spec.base!r}, but this home's is {context.store.settings.base!r}.",
                f"limpet init --home FOLDER --base {spec.base}",
            )
        try:
            run_stream(context.store, context.backbone(progress), spec, progress=progress)
        except InterruptedRunError as error:
            error.hint = f"limpet stream run {file}"
            raise
        return build_report(context.store, spec.name), additions.mirror(context.store, wait=False) if mirror else ()

    def list(self) -> tuple[StreamRecord, ...]:
        """All streams, oldest first."""
        return streams.list_all(self._context.store)

    def show(self, name: str) -> StreamRecord:
        """Return one stream."""
        return streams.get(self._context.store, name)
