"""What a task may be learned along with: examples of other tasks, and a penalty on the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from limpet.registry.formats.canonical import digest_file, digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.values import TaskRecord

__all__ = ["ALONE", "Along", "Companion", "Penalty"]


@dataclass(frozen=True)
class Companion:
    """Training examples of another task, in batches of their own that pass that task's head.

    Args:
        task: The other task.
        indices: Which of its training examples, null for all.
        head: The files of its head, which stays as it is; null gives it a new head, which is learned along.
        draws: How many of these examples an epoch has, some of them more than once; null for each of them once.
    """

    task: TaskRecord
    indices: tuple[int, ...] | None
    head: Mapping[str, Path] | None
    draws: int | None = None

    @property
    def identity(self) -> JsonObject:
        """All that decides what is learned along."""
        head = {name: digest_file(path) for name, path in (self.head or {}).items() if name.startswith("head.")}
        drawn = {} if self.draws is None else {"draws": self.draws}
        return {
            **drawn,
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
class Along:
    """All that a task is learned along with."""

    companions: tuple[Companion, ...] = ()
    penalty: Penalty | None = None


ALONE = Along()
"""Nothing is learned along."""
