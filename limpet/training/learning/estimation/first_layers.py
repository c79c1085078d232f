"""What a few steps on the first layers of a base take: measured in a process of its own, which this module is.

Peak memory is that of a whole process, so nothing else may have been done in it. What is to be measured is read from
the standard input as JSON, and what was is the last line of the standard output.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from limpet.errors import LimpetError
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import bases, tasks
from limpet.registry.store import open_store
from limpet.training.base.backbone import load_backbone
from limpet.training.base.precision import autocast
from limpet.training.batching.batches import on_device
from limpet.training.batching.encoded import Encoded
from limpet.training.data.stored_splits import read_split
from limpet.training.learning.fit_task import own_loss
from limpet.training.learning.learn import attached, computing
from limpet.training.learning.loop import Validation, fit
from limpet.training.learning.objectives import TaskLoss
from limpet.training.learning.runs import peak_memory
from limpet.training.learning.runs.checkpoint import Checkpoint
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model.activation_checkpointing import activation_checkpointing
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import SILENT

__all__ = ["PHASES", "measure"]

PHASES = ("load", "train", "validation", "evaluation", "check")
"""What a training consists of: the base is loaded, steps, what chooses an epoch, the score, the base's digest."""
_TIMED = 3


@dataclass(frozen=True)
class _Few:
    """An objective of chosen batches, which remembers when each step began."""

    loss: TaskLoss
    epochs: Sequence[Sequence[list[int]]]
    began: list[float] = field(default_factory=list)

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """See `Objective.batches`."""
        return list(self.epochs[epoch])

    def losses(self, model: nn.Module, batch: Sequence[int]) -> Iterator[Tensor]:
        """See `Objective.losses`."""
        self.began.append(time.perf_counter())
        yield from self.loss.losses(model, batch)


def measure(home: Path, task: str, settings: TrainingSettings, *, layers: int, timed: bool = True) -> JsonObject:
    """Load the first layers of a home's base, take a few steps on them, and evaluate a few texts.

    Args:
        home: The home's folder.
        task: The task's name.
        settings: How it is to be learned.
        layers: How many layers.
        timed: Measure seconds too, by steps and answers of the usual length; else only what the largest take.

    Returns:
        For each of `PHASES` the bytes in use at its beginning (`before`) and those that it `added` at its peak, that
        of the largest batch, and the `seconds` of all of it; `steps` is how many an epoch has, `epochs` how many
        there are.

    Raises:
        UsageError: The settings make no sense for this task, or for so few layers.
    """
    store = open_store(home)
    record = tasks.get(store, task)
    phases: dict[str, JsonObject] = {}
    mark, started = peak_memory.begin(), time.perf_counter()
    dtype = store.settings.evaluation_dtype or "auto"
    backbone = load_backbone(store, bases.get(store), dtype, first_layers=layers)
    phases["load"] = _phase(mark, time.perf_counter() - started)
    run = TrainingRun(store, backbone, record, settings)
    mark, steps = peak_memory.begin(), 0
    with attached(run) as model, computing(run, model):
        # what a lower layer gives may be kept, and every layer computes here: never less than it takes
        model.lower = None
        seconds, steps = _train(run, model, timed=timed)
        phases["train"] = _phase(mark, seconds)
        splits = {"validation": ["validation"], "evaluation": [part.name for part in record.evaluation_parts]}
        for name, parts in splits.items():
            mark = peak_memory.begin()
            phases[name] = _phase(mark, sum(_evaluate(run, model, part, timed=timed) for part in parts))
    mark, started = peak_memory.begin(), time.perf_counter()
    backbone.check_unchanged()
    phases["check"] = _phase(mark, time.perf_counter() - started)
    return {**phases, "steps": steps, "epochs": settings.epochs if steps else 0}


def _phase(mark: peak_memory.MemoryMark, seconds: float) -> JsonObject:
    peak, before = peak_memory.peak(mark), mark.in_use or 0
    return {"before": before, "added": (mark.highest if peak is None else peak.total) - before, "seconds": seconds}


def _train(run: TrainingRun, model: TaskModel, *, timed: bool) -> tuple[float, int]:
    """Take a few steps; return the seconds of an epoch and the number of its steps."""
    if not run.trains:
        return 0.0, 0
    if not any(parameter.requires_grad for parameter in model.module.parameters()):
        # the texts pass the base once, in whichever epoch; the head alone is trained on what it gives
        return _evaluate(run, model, "train", timed=timed) / run.settings.epochs, 1
    loss, settings = own_loss(run, model), run.settings
    batches = loss.batches(settings.accumulate * settings.batch_size, settings.seed, 0)
    tokens = [loss.tokens(batch) for batch in batches]
    order = sorted(range(len(batches)), key=tokens.__getitem__)
    usual, largest = batches[order[len(order) // 2]], batches[order[-1]]
    # in a second epoch, what is kept of the best one is in memory too
    few = _Few(loss, ((largest, *[usual] * (_TIMED if timed else 0)), (largest,)))
    loop = replace(run.loop, epochs=2, max_seconds=None, patience=None, evaluate_every=None)
    checkpointing = activation_checkpointing(model) if settings.checkpointing else nullcontext()
    with tempfile.TemporaryDirectory() as folder, checkpointing:
        fit(
            model,
            few,
            loop,
            validate=lambda: Validation(0.0, 0.0),
            checkpoint=Checkpoint(Path(folder) / "checkpoint.safetensors", math.inf, writes=False),
            progress=SILENT,
        )
    if not timed:
        return 0.0, len(batches)
    taken = (few.began[_TIMED] - few.began[1]) / (_TIMED - 1)
    return taken / loss.tokens(usual) * sum(tokens), len(batches)


def _evaluate(run: TrainingRun, model: TaskModel, split: str, *, timed: bool) -> float:
    """Answer the largest batch of a split and the usual one; return the seconds of all."""
    texts = model.encode(run.backbone.tokenizer, read_split(run.store, run.task, split), run.max_length)
    new = texts.writing.new_tokens if texts.writing else 0
    plan = list(zip(texts.plan.batches, texts.plan.lengths, strict=True))
    tokens = [len(batch) * (length + new) for batch, length in plan]
    order = sorted(range(len(plan)), key=tokens.__getitem__)
    largest, usual = order[-1], order[len(order) // 2]
    model.eval()
    _answer(run, model, texts, planned=plan[largest])
    if not timed:
        return 0.0
    started = time.perf_counter()
    _answer(run, model, texts, planned=plan[usual])
    return (time.perf_counter() - started) / tokens[usual] * sum(tokens)


def _answer(run: TrainingRun, model: TaskModel, texts: Encoded, *, planned: tuple[tuple[int, ...], int]) -> None:
    device = run.backbone.device
    with torch.inference_mode(), autocast(device, run.backbone.evaluation_dtype):
        # a tensor that reached the host has been computed
        for row in model.answer(on_device(texts.batch(*planned), device)):
            row.cpu()


def _main() -> None:
    """Measure what the standard input asks for; an error is an answer too."""
    asked: JsonObject = json.load(sys.stdin)
    try:
        settings = TrainingSettings.from_record(asked["settings"])
        home, layers, timed = Path(asked["home"]), asked["layers"], asked["timed"]
        answer = measure(home, asked["task"], settings, layers=layers, timed=timed)
    except LimpetError as error:
        answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main()
