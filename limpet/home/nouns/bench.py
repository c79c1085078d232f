"""`home.bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from limpet.errors import InterruptedRunError, UsageError
from limpet.home.public import public
from limpet.names import recorded_method
from limpet.registry.records import tasks

if TYPE_CHECKING:
    from limpet.forgetting.bench.values import Bench
    from limpet.home.context import HomeContext
    from limpet.training.progress import Progress

__all__ = ["BenchOptions", "Benches"]

_LOOP_NUMBERS: dict[str, type] = {"lr": float, "epochs": int, "batch_size": int, "max_length": int}


class BenchOptions(TypedDict, total=False):
    """What `home.bench.methods` takes beside the task and the methods.

    Every method learns once under each of `seeds` (by default 0 alone), in `epochs` (by default 3) passes over the
    training examples, unless it has its own. `settings` are, by method, settings of it, and `lr`, `epochs`,
    `batch_size`, `max_length`, `dtype` of the loop. With `register`, every result is kept as a version with the role
    `baseline`. With `resume`, what an interrupted benchmark of the task has measured is kept. `progress` receives
    every run and every step.
    """

    seeds: Sequence[int]
    epochs: int
    settings: Mapping[str, Mapping[str, Any]] | None
    register: bool
    resume: bool
    progress: Progress | None


@public("home.bench")
class Benches:
    """`home.bench`: comparisons on one task."""

    def __init__(self, context: HomeContext) -> None:
        self._context = context

    def methods(self, task: str, methods: Sequence[str] | None = None, **options: Unpack[BenchOptions]) -> Bench:
        """Let every method learn a task under every seed, and measure scores and cost.

        See `limpet.forgetting.bench.run`.

        Args:
            task: The task's name.
            methods: Which; by default all that have a module of their own.
            **options: See `BenchOptions`.

        Raises:
            NotFoundError: There is no such task.
            UsageError: There is no such method, or a setting makes no sense.
            InterruptedRunError: A signal came; `resume` goes on.
        """
        from limpet.forgetting.bench.run import BenchSpec, run_bench
        from limpet.training.progress import SILENT

        context, progress = self._context, options.get("progress") or SILENT
        record = tasks.get(context.store, task)
        spec = BenchSpec(
            methods=tuple(methods) if methods else None,
            seeds=tuple(options.get("seeds", (0,))),
            epochs=options.get("epochs", 3),
            settings={
                recorded_method(name): _numbers(name, values)
                for name, values in (options.get("settings") or {}).items()
            },
            register=options.get("register", False),
        )
        # before the base is loaded: a name mistyped is answered at once
        spec.names()
        try:
            return run_bench(
                context.store,
                context.backbone(progress),
                record,
                spec=spec,
                resume=options.get("resume", False),
                progress=progress,
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
