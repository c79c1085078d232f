"""Peak memory and seconds of a training, from a few steps on the first layers of its base.

Layers of a language model are alike: what one more of them takes is the difference between two measurements, and the
base as it is takes that as many times as it has more. So a base is never loaded in full.

glibc keeps some of what is freed, how much differs from run to run, and the difference of two measurements would have
that many times over. So memory is measured once more with an allocator that gives all of it back: from this is
reckoned what one more layer takes, and from the other by how much more memory is taken than is in use.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from limpet import errors
from limpet.errors import LimpetError, UsageError
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import bases
from limpet.registry.settings import as_variables
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training import methods
from limpet.training.base import locate
from limpet.training.base.pretrained import depth, load_config, shortened
from limpet.training.learning.estimation.first_layers import PHASES
from limpet.training.learning.estimation.memory_here import memory_here
from limpet.training.learning.settings import TrainingSettings
from limpet.training.progress import Progress

__all__ = ["Estimate", "Phase", "estimate"]

_FIRST, _SECOND, _DEEP = 2, 4, 6
_SHALLOW = 8
_EXACT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 18), "MALLOC_TRIM_THRESHOLD_": str(1 << 18)}


@dataclass(frozen=True)
class Phase:
    """What a part of a training takes: peak memory of the process in bytes, and seconds."""

    bytes: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a training takes, in one process on this machine.

    `phases` are `load`, `train`, `validation`, `evaluation` and `check`, with the seconds of all epochs. `fits` tells
    whether `peak_memory_bytes`, the largest of their peaks, is no more than the memory that is free now. `layers` are
    those of the base, and `measured_layers` with how many it was measured.
    """

    task: str
    method: str
    base: str
    peak_memory_bytes: int
    available_memory_bytes: int
    base_bytes: int
    seconds: float
    steps: int
    phases: Mapping[str, Phase]
    layers: int
    measured_layers: tuple[int, ...]

    @property
    def fits(self) -> bool:
        """Whether there is as much memory now."""
        return self.peak_memory_bytes <= self.available_memory_bytes


def estimate(store: Store, task: TaskRecord, settings: TrainingSettings, *, progress: Progress) -> Estimate:
    """Measure a few steps on the first layers of the home's base, and reckon what all layers take.

    Args:
        store: The home's registry; nothing is written to it.
        task: The task.
        settings: How it is to be learned.
        progress: Receives each measurement.

    Raises:
        UsageError: The settings make no sense for this task and base.
        LimpetError: The process that measures has ended; most often it had no memory for these few layers.
    """
    record = bases.get(store)
    methods.check_task_type(methods.get_for(settings.method, record), task, record)
    config = load_config(locate.locate(record))
    whole, total = int(config.num_hidden_layers), depth(config)
    pairs = [pair for pair in _pairs(whole) if pair[-1] < whole]
    for pair in [*pairs, (whole,)]:
        try:
            taken = _measure_all(store, task, settings, pair=pair, progress=progress)
            break
        except UsageError:
            # too few layers for the method's settings, unless it is so with all of them
            if pair == (whole,):
                raise
    measured = [depth(shortened(config, layers)) for layers in pair]
    steps, epochs = (int(taken.usual[0][name]) for name in ("steps", "epochs"))
    times = {name: epochs if name in ("train", "validation") else 1 for name in PHASES}
    phases = {name: taken.reckon(name, measured, total=total, times=times[name]) for name in PHASES}
    return Estimate(
        task=task.name,
        method=settings.method,
        base=record.name,
        peak_memory_bytes=max(phase.bytes for phase in phases.values()),
        available_memory_bytes=memory_here(),
        base_bytes=record.size,
        seconds=sum(phase.seconds for phase in phases.values()),
        steps=epochs * steps,
        phases=phases,
        layers=whole,
        measured_layers=pair,
    )


def _pairs(whole: int) -> tuple[tuple[int, ...], ...]:
    """Return with how many layers to measure; more of them where a small error would be multiplied more."""
    second = _SECOND if whole <= _SHALLOW else _DEEP
    return ((_FIRST, second), (2 * _FIRST, 2 * second))


@dataclass(frozen=True)
class _Taken:
    """What the first layers took, with the usual allocator and with one that gives all freed memory back."""

    usual: tuple[JsonObject, ...]
    exact: tuple[JsonObject, ...]

    def reckon(self, name: str, measured: Sequence[int], *, total: int, times: int) -> Phase:
        """Return what a phase takes that is gone through so many times, on `total` layers."""
        before, added = (_further(measured, self.exact, name, figure, total=total) for figure in ("before", "added"))
        usual, exact = (float(one[-1][name]["added"]) for one in (self.usual, self.exact))
        kept = max(1.0, usual / exact) if exact else 1.0
        seconds = times * _further(measured, self.usual, name, "seconds", total=total)
        return Phase(int(before + kept * added), seconds)


def _further(measured: Sequence[int], taken: Sequence[JsonObject], *where: str, total: int) -> float:
    """Return a figure of `total` layers by the line through those that were measured; it never falls."""
    phase, figure = where
    values = [float(one[phase][figure]) for one in taken]
    if len(values) == 1:
        return values[0]
    slope = (values[-1] - values[0]) / (measured[-1] - measured[0])
    return values[-1] + max(0.0, slope) * (total - measured[-1])


def _measure_all(
    store: Store, task: TaskRecord, settings: TrainingSettings, *, pair: tuple[int, ...], progress: Progress
) -> _Taken:
    taken: dict[bool, list[JsonObject]] = {True: [], False: []}
    progress.start("measure", 2 * len(pair))
    for done, (layers, timed) in enumerate(product(pair, taken)):
        progress.advance(done, f"{layers} layers")
        taken[timed].append(_measured(store, task, settings, layers=layers, timed=timed))
    progress.finish()
    return _Taken(tuple(taken[True]), tuple(taken[False]))


def _measured(store: Store, task: TaskRecord, settings: TrainingSettings, *, layers: int, timed: bool) -> JsonObject:
    """Measure in a process of its own: peak memory is that of a whole process."""
    asked = {
        "home": str(store.path.absolute()),
        "task": task.name,
        "settings": settings.recorded(),
        "layers": layers,
        "timed": timed,
    }
    done = subprocess.run(
        # -P: what lies in the current folder is never taken for a library
        [sys.executable, "-P", "-m", "limpet.training.learning.estimation.first_layers"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | as_variables(store.path, store.settings) | ({} if timed else _EXACT),
        check=False,
    )
    if done.returncode:
        said = [*done.stderr.strip().splitlines(), f"exit code {done.returncode}"]
        why = f"{signal.Signals(-done.returncode).name} ended it" if done.returncode < 0 else said[-2:][0]
        raise LimpetError(
            f"The process that measured {layers} layers has ended: {why}",
            "a smaller --batch-size or --max-length takes less memory; --checkpointing too",
        )
    answer: JsonObject = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise getattr(errors, str(answer["error"]))(answer["message"], answer["hint"])
    return answer
