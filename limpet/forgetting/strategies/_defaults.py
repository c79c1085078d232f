"""What most strategies have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from limpet.registry.values import Role

__all__ = ["StrategyDefaults"]


class StrategyDefaults:
    """A strategy for any method, without settings, whose tasks keep their weights and which nothing is measured by.

    What it lacks to be a `Strategy` is its name, its summary and its steps.
    """

    role: Role = "baseline"
    shares_state = False
    method: str | None = None
    measures: Literal["baseline", "joint"] | None = None
    learns_all = False
    task_types: frozenset[str] | None = None
    settings: Mapping[str, Any] = {}

    def check(self, settings: Mapping[str, Any]) -> None:
        """There is nothing to check; see `Strategy.check`."""
