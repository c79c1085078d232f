"""What a task may be learned jointly with: examples of other tasks, and a penalty on the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from limpet.registry.formats.canonical import digest_file, digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.values import TaskRecord

__all__ = ["NO_JOINT", "JointTask", "JointTraining", "Penalty"]


@dataclass(frozen=True)
class JointTask:
    """Training examples of another task, in batches of their own that pass that task's head.

    Args:
        task: The other task.
        indices: Which of its training examples, null for all.
        head: The files of its head, which stays as it is; null gives it a new head, which is trained too.
        draws: How many of these examples an epoch has, some of them more than once; null for each of them once.
    """

    task: TaskRecord
    indices: tuple[int, ...] | None
    head: Mapping[str, Path] | None
    draws: int | None = None

    @property
    def identity(self) -> JsonObject:
        """All that decides what these examples do to the weights."""
        head = {name: digest_file(path) for name, path in (self.head or {}).items() if name.startswith("head.")}
        draws = {} if self.draws is None else {"draws": self.draws}
        return {
            **draws,
            "task": self.task.name,
            "data": self.task.data_digest,
            "indices": None if self.indices is None else digest_json(list(self.indices)),
            "head": head or None,
        }


class Penalty(Protocol):
    """What is added to the loss of every step."""

    @property
    def identity(self) -> JsonObject:
        """All that decides it."""

    def __call__(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return a scalar for the trained parameters of a task model by name."""


@dataclass(frozen=True)
class JointTraining:
    """All that a task is learned jointly with."""

    tasks: tuple[JointTask, ...] = ()
    penalty: Penalty | None = None


NO_JOINT = JointTraining()
"""The task is learned by itself."""
