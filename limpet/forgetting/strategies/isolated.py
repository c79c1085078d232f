"""An adapter for each task, learned from the untouched base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from limpet.forgetting.strategies._lesson import Context, stage
from limpet.registry.values import Role

if TYPE_CHECKING:
    from limpet.training.learn import Staged, Start

__all__ = ["STRATEGY", "Isolated"]


class Isolated:
    """Nothing is shared but the base, so nothing can be forgotten."""

    name = "isolated"
    summary = "an adapter of its own for each task, from the untouched base"
    role: Role = "adapter"
    shares_state = False
    method: str | None = None
    measures: Literal["baseline", "joint"] | None = None
    learns_all = False
    settings: Mapping[str, Any] = {}

    def check(self, settings: Mapping[str, Any]) -> None:
        """There is nothing to check."""

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """See `Strategy.stage`."""
        return (stage(context, index),)


STRATEGY = Isolated()
