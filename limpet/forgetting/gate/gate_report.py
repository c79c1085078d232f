"""The report of a stream that the gate has judged; apart from other results, because a report is slow to import."""

from __future__ import annotations

from dataclasses import dataclass

from limpet.forgetting.gate.verdicts import Verdict
from limpet.forgetting.report.values import Report

__all__ = ["GateReport"]


@dataclass(frozen=True)
class GateReport(Report):
    """The report of a stream, with each rule of the gate that is set, what was measured, and the limit."""

    verdicts: tuple[Verdict, ...] = ()

    @property
    def crossed(self) -> bool:
        """Whether any rule is crossed."""
        return any(verdict.crossed for verdict in self.verdicts)
