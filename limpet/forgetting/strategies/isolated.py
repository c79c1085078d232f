"""An adapter for each task, learned from the untouched base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from limpet.forgetting.strategies._context import Context, stage
from limpet.forgetting.strategies._defaults import StrategyDefaults
from limpet.registry.values import Role

if TYPE_CHECKING:
    from limpet.training.learning.runs.run_folder import Staged, Start

__all__ = ["STRATEGY", "Isolated"]


class Isolated(StrategyDefaults):
    """Nothing is shared but the base, so nothing can be forgotten."""

    name = "isolated"
    summary = "an adapter of its own for each task, from the untouched base"
    role: Role = "adapter"

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """See `Strategy.stage`."""
        return (stage(context, index),)


STRATEGY = Isolated()
