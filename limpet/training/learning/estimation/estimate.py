"""Peak memory and seconds of a training, from a few steps on the first layers of its base.

Layers of a language model are alike: what one more of them takes is the difference between two measurements, and the
base as it is takes that as many times as it has more. So a base is never loaded in full.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

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
    progress.start("measure", 2)
    pairs = [pair for pair in _pairs(whole) if pair[-1] < whole]
    for pair in [*pairs, (whole,)]:
        try:
            taken = []
            for done, layers in enumerate(pair, 1):
                taken.append(_measured(store, task, settings, layers=layers))
                progress.advance(done, f"{layers} of {whole} layers")
            break
        except UsageError:
            # too few layers for the method's settings, unless it is so with all of them
            if pair == (whole,):
                raise
    progress.finish()
    measured = [depth(shortened(config, layers)) for layers in pair]
    epochs = int(taken[0]["epochs"])
    phases = {name: _reckoned(name, taken, measured, total=total, epochs=epochs) for name in PHASES}
    return Estimate(
        task=task.name,
        method=settings.method,
        base=record.name,
        peak_memory_bytes=max(phase.bytes for phase in phases.values()),
        available_memory_bytes=memory_here(),
        base_bytes=record.size,
        seconds=sum(phase.seconds for phase in phases.values()),
        steps=epochs * int(taken[0]["steps"]),
        phases=phases,
        layers=whole,
        measured_layers=pair,
    )


def _pairs(whole: int) -> tuple[tuple[int, ...], ...]:
    """Return with how many layers to measure; more of them where a small error would be multiplied more."""
    second = _SECOND if whole <= _SHALLOW else _DEEP
    return ((_FIRST, second), (2 * _FIRST, 2 * second))


def _reckoned(name: str, taken: list[JsonObject], measured: list[int], *, total: int, epochs: int) -> Phase:
    times = epochs if name in ("train", "validation") else 1
    whole = {}
    for figure in ("bytes", "seconds"):
        values = [float(one[name][figure]) for one in taken]
        more = 0.0
        if len(values) > 1:
            more = max(0.0, (values[-1] - values[0]) / (measured[-1] - measured[0])) * (total - measured[-1])
        whole[figure] = values[-1] + more
    return Phase(int(whole["bytes"]), times * whole["seconds"])


def _measured(store: Store, task: TaskRecord, settings: TrainingSettings, *, layers: int) -> JsonObject:
    """Measure in a process of its own: peak memory is that of a whole process."""
    asked = {"home": str(store.path.absolute()), "task": task.name, "settings": settings.recorded(), "layers": layers}
    done = subprocess.run(
        # -P: what lies in the current folder is never taken for a library
        [sys.executable, "-P", "-m", "limpet.training.learning.estimation.first_layers"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | as_variables(store.path, store.settings),
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
