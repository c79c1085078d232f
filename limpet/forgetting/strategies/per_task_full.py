"""A copy of the whole model for each task: what isolation costs without adapters, and what the storage buys."""

from __future__ import annotations

from limpet.forgetting.strategies.isolated import Isolated
from limpet.registry.values import Role

__all__ = ["STRATEGY", "PerTaskFull"]


class PerTaskFull(Isolated):
    """Every weight of a copy is trained, and a copy is kept for each task."""

    name = "per-task-full"
    summary = "a fully trained copy of the base for each task"
    role: Role = "baseline"
    method = "full"


STRATEGY = PerTaskFull()
