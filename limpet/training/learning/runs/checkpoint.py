"""Checkpoints of the loop: one safetensors file, replaced atomically, from which training goes on bit for bit.

The file holds the trained tensors, the best ones so far, the optimizer's state, and the loop's counters as JSON in
the header. No generator state is needed: the loop seeds torch anew at every step.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from limpet.errors import IntegrityError
from limpet.registry.system.atomic_files import sync_file
from limpet.training.learning.optimization.optimizers import kept_state, restore_state

__all__ = ["Checkpoint", "LoopState"]


@dataclass
class LoopState:
    """Where the loop is: epoch and batch to do next, steps done, the best score and the history of evaluations.

    `best_evaluation` is where the best stands in the history; null in a checkpoint from before there were any but
    after epochs.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    best_score: float | None = None
    best_epoch: int = 0
    best_evaluation: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


class Checkpoint:
    """The checkpoint file of one run, written at most every `interval` seconds unless asked.

    Args:
        path: The file; its folder exists.
        interval: Seconds between periodic checkpoints; 0 writes one after every step.
        writes: Whether this process writes it; else another one does, of the same training.
    """

    def __init__(self, path: Path, interval: float, *, writes: bool = True) -> None:
        self._path = path
        self._writes = writes
        self._interval = interval
        self._written = time.monotonic()

    def due(self) -> bool:
        """Tell whether the last one is older than the interval."""
        return self._writes and time.monotonic() - self._written >= self._interval

    def save(self, state: LoopState, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Write the file beside its old self, flush it to disk, and rename."""
        if not self._writes:
            return
        tensors = {f"parameter/{name}": tensor for name, tensor in parameters.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
        for name, parameter in parameters.items():
            kept = kept_state(optimizer.state.get(parameter, {}))
            tensors |= {f"optimizer.{key}/{name}": tensor for key, tensor in kept.items()}
        counters = asdict(state)
        del counters["best"]
        # clones: safetensors refuses tensors that share memory
        copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        temporary = self._path.with_suffix(".tmp")
        save_file(copies, temporary, metadata={"state": json.dumps(counters)})
        sync_file(temporary)
        temporary.replace(self._path)
        sync_file(self._path.parent)
        self._written = time.monotonic()

    def load(self, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> LoopState:
        """Restore tensors and optimizer in place; without a file, return the beginning.

        Raises:
            IntegrityError: The file can't be read, or belongs to another model.
        """
        if not self._path.exists():
            return LoopState()
        try:
            with safe_open(self._path, framework="pt") as file:
                counters: dict[str, Any] = json.loads(file.metadata()["state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            state = LoopState(**counters)
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(tensors[f"parameter/{name}"])
        except Exception as error:
            raise IntegrityError(f"The checkpoint can't be read: {error}", "train again without --resume") from error
        state.best = {key.removeprefix("best/"): tensor for key, tensor in tensors.items() if key.startswith("best/")}
        kept: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            if kind.startswith("optimizer."):
                kept[name][kind.removeprefix("optimizer.")] = tensor
        for name, tensors_of_one in kept.items():
            restore_state(optimizer, parameters[name], tensors_of_one)
        return state
