"""`home.bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limpet.errors import InterruptedRunError, UsageError
from limpet.registry.records import tasks

if TYPE_CHECKING:
    from limpet.forgetting.bench.values import Bench
    from limpet.home.context import HomeContext
    from limpet.training.progress import Progress

__all__ = ["Benches"]

_LOOP_NUMBERS: dict[str, type] = {"lr": float, "epochs": int, "batch_size": int, "max_length": int}


class Benches:
    """`home.bench`: comparisons on one task."""

    def __init__(self, context: HomeContext) -> None:
        self._context = context

    def methods(
        self,
        task: str,
        methods: Sequence[str] | None = None,
        *,
        seeds: Sequence[int] = (0,),
        epochs: int = 3,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        register: bool = False,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> Bench:
        """Let every method learn a task under every seed, and measure scores and cost; see
        `limpet.forgetting.bench.run`.

        Args:
            task: The task's name.
            methods: Which; by default all that have a module of their own.
            seeds: Every method learns once under each.
            epochs: Passes over the training examples, unless a method has its own.
            settings: By method: settings of it, and `lr`, `epochs`, `batch_size`, `max_length`, `dtype` of the loop.
            register: Keep every result as a version with the role `baseline`.
            resume: Keep what an interrupted benchmark of the task has measured.
            progress: Receives every run and every step.

        Raises:
            NotFoundError: There is no such task.
            UsageError: There is no such method, or a setting makes no sense.
            InterruptedRunError: A signal came; `resume` goes on.
        """
        from limpet.forgetting.bench.run import BenchSpec, run_bench
        from limpet.training.progress import SILENT

        context, progress = self._context, progress or SILENT
        record = tasks.get(context.store, task)
        read = {name: _numbers(name, values) for name, values in (settings or {}).items()}
        spec = BenchSpec(tuple(methods) if methods else None, tuple(seeds), epochs, read, register)
        # before the base is loaded: a name mistyped is answered at once
        spec.names()
        try:
            return run_bench(
                context.store, context.backbone(progress), record, spec=spec, resume=resume, progress=progress
            )
        except InterruptedRunError as error:
            error.hint = f"limpet bench methods {task} --resume, with the same options"
            raise


def _numbers(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn settings of the loop, as typed, into numbers; those of the method it reads itself."""
    read = dict(values)
    for key, kind in _LOOP_NUMBERS.items():
        if key in read:
            try:
                read[key] = kind(read[key])
            except ValueError:
                raise UsageError(
                    f"{key} of {method!r} must be {kind.__name__}, not {read[key]!r}.",
                    f"--set {method}:{key}=<{kind.__name__}>",
                ) from None
    return read
