"""What `training.py` and `evaluation.py` share: sides in processes of their own, a home to begin with, statistics."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from _peer import Examples

__all__ = ["Side", "environment", "half_width", "home_of", "make_home", "paired", "spread"]


class Side:
    """One side of a comparison: a process that stays, so that it starts once and has a peak of memory of its own."""

    def __init__(self, threads: int) -> None:
        self._process = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_begin, initargs=(threads,)
        )

    def do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Let the process work, and wait for what it gives."""
        return self._process.submit(work, *arguments).result()

    def end(self) -> None:
        """Let the process go."""
        self._process.shutdown()


def _begin(threads: int) -> None:
    """Begin a process: what libraries print is none of the benchmark's output; mistakes come back as exceptions."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    import torch

    from limpet.cli.terminal.quiet_libraries import silence

    silence()
    torch.set_num_threads(threads)


def make_home(folder: Path, tasks: Sequence[str], train_size: int, *, eval_size: int, max_length: int) -> None:
    """Make a home with some sample tasks, and give the peer the same examples and the same base."""
    from limpet.home import init
    from limpet.training.base import locate
    from limpet.training.data.stored_splits import read_split

    home = init(folder / "home", base="sample:minilm", mlflow="off")
    (folder / "base").symlink_to(locate.check(home.store, home.base.show()))
    for name in tasks:
        task = home.task.add(
            name, f"sample:{name}", train_size=train_size, eval_size=eval_size, max_length=max_length
        )
        train, evaluation = (
            [(example.text, example.target) for example in read_split(home.store, task, split)]
            for split in ("train", "evaluation")
        )
        Examples(len(task.labels), train, evaluation).write(folder / f"{name}.json")


@cache
def home_of(folder: Path) -> Any:
    """Open the home once for a process, which keeps its base in memory."""
    from limpet.home import open_home

    return open_home(folder / "home")


def environment(threads: int) -> str:
    """One line about where this runs."""
    from limpet.training.base.precision import resolve_dtype

    names = " ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    return f"{threads} threads, {resolve_dtype('auto')}, load average {os.getloadavg()[0]:.1f}; {names}"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, least and most."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times theirs ours is, repetition by repetition: median, least and most."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)], 2)


def half_width(values: Sequence[float]) -> float | None:
    """Half of the 95 % t-interval of a mean; null for a single value."""
    from limpet.forgetting.metrics.intervals import t_interval

    interval = t_interval(values)
    return None if interval is None else (interval[1] - interval[0]) / 2
