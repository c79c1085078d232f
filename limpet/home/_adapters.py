"""`home.adapter`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet.registry import aliases, exchange, tasks, versions

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.home._results import Trained
    from limpet.registry.values import AliasEvent, Page, VersionRecord
    from limpet.training.progress import Progress

__all__ = ["Adapters"]


class Adapters:
    """`home.adapter`: the versions, and the aliases that point at them."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def register(
        self, task: str, folder: str | Path, *, promote: str | None = None, progress: Progress | None = None
    ) -> Trained:
        """Register an adapter that was trained elsewhere, in peft's format; see `limpet.training.adopt`."""
        from limpet.forgetting.gate import GateRules
        from limpet.forgetting.monitor import add_version, check_growth
        from limpet.training.adopt import adopt
        from limpet.training.progress import SILENT

        home, progress = self._home, progress or SILENT
        if promote is not None:
            aliases.check_unprotected(home.store, task, promote)
        record = tasks.get(home.store, task)
        backbone = home.backbone(progress)
        check_growth(home.store, backbone)
        with adopt(home.store, backbone, record, Path(folder), progress) as (draft, files):
            added = add_version(home.store, backbone, draft, files, progress)
        return home.after_addition(added, True, promote, GateRules(), progress)

    def list(
        self,
        task: str | None = None,
        method: str | None = None,
        alias: str | None = None,
        where: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[VersionRecord]:
        """One page of versions, newest first."""
        return versions.find(self._home.store, task, method, alias, where, limit, cursor)

    def show(self, reference: str) -> VersionRecord:
        """Return one version: `task`, `task@3`, `task@alias`."""
        return versions.resolve(self._home.store, reference)

    def promote(self, reference: str, alias: str, *, expect: str | None = None, reason: str = "") -> AliasEvent:
        """Move an alias to a version, if it stands at `expect` (`task@2` or `none`)."""
        return aliases.promote(self._home.store, reference, alias, expect=expect, reason=reason)

    def rollback(self, task: str, alias: str, *, expect: str | None = None, reason: str = "") -> AliasEvent:
        """Move an alias back to the version before, if it stands at `expect` (`task@2`)."""
        return aliases.rollback(self._home.store, task, alias, reason=reason, expect=expect)

    def history(self, task: str, alias: str | None = None) -> tuple[AliasEvent, ...]:
        """Every move of a task's aliases, oldest first."""
        return aliases.history(self._home.store, task, alias)

    def export(self, reference: str, folder: str | Path) -> Path:
        """Write a version's files into a new folder that plain peft loads."""
        return exchange.export(self._home.store, reference, Path(folder))
