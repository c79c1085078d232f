"""`home.study`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from limpet.home.public import public
from limpet.registry.records import tasks

if TYPE_CHECKING:
    from limpet.forgetting.bench.icl_order_study import IclStudy
    from limpet.home.context import HomeContext
    from limpet.training.progress import Progress

__all__ = ["Studies"]


@public("home.study")
class Studies:
    """`home.study`: what a result depends on, measured; nothing is registered."""

    def __init__(self, context: HomeContext) -> None:
        self._context = context

    def icl(
        self,
        task: str,
        *,
        orders: int = 8,
        limit: int | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> IclStudy:
        """Score a task in context over prompt orders, with right and random labels, and without demonstrations.

        Args:
            task: A classification task.
            orders: How many orders of the demonstrations.
            limit: How many evaluation examples, the first of the split; null takes all.
            seed: Decides which demonstrations are shown, and the random labels.
            settings: Those of the method `icl`.
            progress: Receives every prompt.

        Raises:
            UsageError: The task or the base is none that can be learned in context.
        """
        from limpet.forgetting.bench.icl_order_study import IclStudyPlan, study_icl
        from limpet.training.progress import SILENT

        plan = IclStudyPlan(orders, limit, seed, settings or {})
        record = tasks.get(self._context.store, task)
        told = progress or SILENT
        backbone = self._context.backbone(told)
        return study_icl(self._context.store, backbone, record, plan=plan, progress=told)
