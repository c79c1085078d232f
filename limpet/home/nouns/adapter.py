"""`home.adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from limpet.errors import UsageError
from limpet.home.public import public
from limpet.registry import versions
from limpet.registry.records import alarms, evaluations, tasks
from limpet.registry.settings import MonitorMode
from limpet.registry.versions import VersionQuery, alias_history, costs, deletion, lineage, notes, tags

if TYPE_CHECKING:
    from limpet.forgetting.monitor.version_errors import VersionErrors
    from limpet.home.context import HomeContext
    from limpet.home.results import Move, Trained
    from limpet.registry.formats.json_values import JsonObject
    from limpet.registry.records.alarms import Alarm
    from limpet.registry.values import AliasEvent, Page, TaskRecord, VersionRecord
    from limpet.registry.versions.diff import VersionDifference
    from limpet.registry.versions.lineage import Lineage
    from limpet.registry.versions.notes import Note
    from limpet.training.progress import Progress

__all__ = ["Adapters", "ListOptions", "RegisterOptions"]


class ListOptions(TypedDict, total=False):
    """What `home.adapter.list` takes beside the task, the method and the alias.

    `where` has comparisons such as `score >= 0.9 and tag.owner = ada`. The page has `limit` (by default 50) versions,
    newest first or by `sort`, such as `-score`, and begins behind `cursor`, which the page before has. With
    `deleted`, those deleted are listed too.
    """

    where: str | None
    limit: int
    cursor: str | None
    sort: str | None
    deleted: bool


class RegisterOptions(TypedDict, total=False):
    """What `home.adapter.register` takes beside the task, the folder, the labels of its head's rows and an alias.

    `initial` is the adapter as it was before training, where its beginning changed the base (PiSSA, OLoRA, CorDA).
    `from_model` is a whole fine-tuned copy of the base, in the place of the folder, and `rank` that of the LoRA that
    is made of it; below 1, the share of each layer's change that its rank must keep. `monitor` says what is done
    about the earlier tasks, as for `Home.train`. Without `mirror`, the MLflow mirror is left for later.
    """

    initial: str | Path | None
    from_model: str | Path | None
    rank: float | None
    monitor: MonitorMode | bool | None
    mirror: bool
    progress: Progress | None


@public("home.adapter")
class Adapters:
    """`home.adapter`: the versions, and the aliases that point at them."""

    def __init__(self, context: HomeContext) -> None:
        self._context = context

    def register(
        self,
        task: str,
        folder: str | Path | None = None,
        *,
        labels: Sequence[str] | None = None,
        promote: str | None = None,
        **options: Unpack[RegisterOptions],
    ) -> Trained:
        """Register an adapter that was trained elsewhere, in peft's format; see `RegisterOptions`."""
        from limpet.home.additions import AdditionTerms, monitor_mode, register_adopted
        from limpet.training.adoption.source import source_of
        from limpet.training.progress import SILENT

        source = source_of(
            folder,
            labels=labels,
            initial=options.get("initial"),
            from_model=options.get("from_model"),
            rank=options.get("rank"),
        )
        mode = monitor_mode(self._context, options.get("monitor"))
        terms = AdditionTerms(monitor=mode, promote=promote, mirror=options.get("mirror", True))
        return register_adopted(self._context, task, source, terms=terms, progress=options.get("progress") or SILENT)

    def list(
        self,
        task: str | None = None,
        method: str | None = None,
        alias: str | None = None,
        **options: Unpack[ListOptions],
    ) -> Page[VersionRecord]:
        """One page of versions: all of them, or those of a task, a method, under an alias; see `ListOptions`."""
        query = VersionQuery(
            task,
            method,
            alias,
            where=options.get("where"),
            sort=options.get("sort"),
            deleted=options.get("deleted", False),
        )
        limit, cursor = options.get("limit", 50), options.get("cursor")
        return versions.find(self._context.store, query, limit=limit, cursor=cursor)

    def show(self, reference: str) -> VersionRecord:
        """Return one version, `task`, `task@3`, `task@alias`; by its number also one that was deleted."""
        return versions.look_up(self._context.store, reference)

    def cost(self, reference: str) -> JsonObject:
        """Return what a version cost, also against full fine-tuning; see `limpet.registry.versions.costs`."""
        return costs.summary(self._context.store, self.show(reference))

    def served(self, reference: str) -> JsonObject | None:
        """Return how a version's served answers agree with the measured ones, and every example where they do not.

        Null for a version that was registered before this was measured, or whose evaluation has no answers.
        """
        version = self.show(reference).reference
        *_, first = [None, *evaluations.full(self._context.store, version, version)]
        content = {} if first is None else evaluations.predictions(self._context.store, first)
        return content.get("served")

    def errors(self, reference: str) -> VersionErrors:
        """Return what a version gets wrong: each label's precision and recall, which is taken for which, and the
        examples; see `limpet.forgetting.monitor.version_errors`.

        Raises:
            NotFoundError: There is no such version, or it was never evaluated.
        """
        from limpet.forgetting.monitor.kept_predictions import read_predictions
        from limpet.forgetting.monitor.version_errors import version_errors

        store = self._context.store
        return version_errors(store, self.show(reference), read=read_predictions(store))

    def learned_on(self, reference: str) -> TaskRecord:
        """Return the task that a version was learned on, in the revision that it was then."""
        return tasks.of_version(self._context.store, self.show(reference))

    def alarm(self, reference: str) -> Alarm | None:
        """Return the open alarm of a version: it does not answer as it did; null where it has none."""
        return alarms.open_alarm(self._context.store, self.show(reference).reference)

    def lineage(self, reference: str) -> Lineage:
        """Return where a version comes from: parent, data, steps of streams, its run in MLflow."""
        return lineage.get(self._context.store, reference)

    def tags(self, reference: str) -> dict[str, str]:
        """Return the tags of a version."""
        return tags.get(self._context.store, reference)

    def tag(self, reference: str, values: Mapping[str, str], remove: Sequence[str] = ()) -> dict[str, str]:
        """Set tags of a version, take others away, and return all that it has."""
        return tags.change(self._context.store, reference, values, remove=remove)

    def notes(self, reference: str) -> tuple[Note, ...]:
        """Return the notes on a version, oldest first."""
        return notes.get(self._context.store, reference)

    def note(self, reference: str, text: str) -> Note:
        """Leave a note on a version."""
        return notes.add(self._context.store, reference, text)

    def delete(self, reference: str, reason: str, *, dry_run: bool = False) -> VersionRecord:
        """Delete a version, `task@3`; with `dry_run`, only say what it would be or why it can't be deleted."""
        if dry_run:
            return deletion.check_deletable(self._context.store, reference, reason)
        return deletion.delete(self._context.store, reference, reason)

    def diff(self, a: str, b: str) -> VersionDifference:
        """What tells two versions apart, of one task or of two; see `limpet.registry.versions.diff`."""
        from limpet.registry.versions import diff

        return diff.compare(self._context.store, a, b)

    def promote(
        self,
        reference: str,
        alias: str,
        *,
        expect: str | None = None,
        reason: str = "",
        accept: bool = False,
        progress: Progress | None = None,
    ) -> Move:
        """Move an alias to a version, if it stands at `expect` (`task@2`, `none`) and no rule of the gate is crossed.

        Args:
            reference: The version.
            alias: The alias.
            expect: Where it must stand now.
            reason: Why, for the history.
            accept: Go on although a rule is crossed; the log keeps which, and the reason, which is needed then.
            progress: Receives every batch, where a version has to be evaluated first.

        Raises:
            ConflictError: The alias stands elsewhere, or is protected.
            GateError: By taking the place of the version under the alias, it crosses a rule of `[gate]`; its
                `outcome` is a `Refused`.
            UsageError: `accept` without a reason.
        """
        from limpet.home.judged_alias_moves import MoveTerms, promote

        return promote(self._context, reference, alias, terms=MoveTerms(expect, reason, accept), progress=progress)

    def rollback(
        self,
        task: str,
        alias: str,
        *,
        expect: str | None = None,
        reason: str = "",
        accept: bool = False,
        progress: Progress | None = None,
    ) -> Move:
        """Move an alias back to the version before, if it stands at `expect` (`task@2`), judged as in `promote`.

        One that was taken off is set again.

        Raises:
            ConflictError: There is nothing before it, or as in `promote`.
            GateError: As in `promote`.
            NotFoundError: There is no such alias.
            UsageError: `accept` without a reason.
        """
        from limpet.home.judged_alias_moves import MoveTerms, rollback

        return rollback(self._context, task, alias, terms=MoveTerms(expect, reason, accept), progress=progress)

    def unpromote(self, task: str, alias: str, *, reason: str, expect: str | None = None) -> Move:
        """Take an alias off, if it stands at `expect` (`task@2`): it is not set from then on.

        A rollback sets it again. Without `production`, the newest adapter answers for the task; `replaced` holds it
        against the one before.

        Args:
            task: The task.
            alias: The alias.
            reason: Why, for the history.
            expect: Where it must stand now.

        Raises:
            ConflictError: The alias stands elsewhere, or is protected and there is no `expect`.
            NotFoundError: There is no such task, or the alias is not set.
            UsageError: There is no reason.
        """
        from limpet.home.judged_alias_moves import MoveTerms, unpromote

        return unpromote(self._context, task, alias, terms=MoveTerms(expect, reason))

    def history(
        self, task: str, alias: str | None = None, limit: int = 50, *, cursor: str | None = None
    ) -> Page[AliasEvent]:
        """One page of the moves of a task's aliases, or of one of them, oldest first."""
        return alias_history.moves_page(self._context.store, task, alias, limit=limit, cursor=cursor)

    def export(
        self,
        reference: str,
        path: str | Path,
        *,
        data: bool = True,
        merged: bool = False,
        for_engine: str | None = None,
    ) -> Path:
        """Write a version's files into a new folder that plain peft loads, or into one bundle.

        Args:
            reference: The version.
            path: The folder; a path that ends in `.limpet` is a bundle.
            data: Whether a bundle brings the task's examples.
            merged: Write the base with the update merged in instead, for plain transformers; see
                `limpet.training.merging.export_merged`.
            for_engine: `peft` for a version that writes text: in the names of `AutoModelForCausalLM`, which plain
                peft and trainers load; see `limpet.training.adoption.export_for_peft`.

        Raises:
            UsageError: `data` is false for a folder, which never has them; what is to be merged can't be, or is
                to be a bundle; or nothing is known of such an engine.
        """
        from limpet.registry.exchange import export_import
        from limpet.registry.exchange.bundle_format import SUFFIX

        target = Path(path)
        if for_engine is not None:
            return self._export_for(for_engine, reference, target, plain=data and not merged)
        if merged:
            return self._export_merged(reference, target, data)
        if target.suffix == SUFFIX:
            return export_import.export_bundle(self._context.store, reference, target, data=data)
        if not data:
            raise UsageError(
                f"A folder never has the task's data; only a bundle can be without it, and {str(path)!r} is none.",
                f"limpet adapter export {reference} FILE{SUFFIX} --without-data",
            )
        return export_import.export(self._context.store, reference, target)

    def _export_for(self, engine: str, reference: str, target: Path, *, plain: bool) -> Path:
        from limpet.registry.exchange.bundle_format import SUFFIX
        from limpet.training.adoption.export_for_peft import check_exportable, export_for_peft

        if engine != "peft":
            raise UsageError(f"Nothing is exported for {engine!r}.", f"limpet adapter export {reference} FOLDER")
        if target.suffix == SUFFIX or not plain:
            raise UsageError(
                "What is exported for peft is a folder with an adapter, neither merged nor a bundle.",
                f"limpet adapter export {reference} FOLDER --for peft",
            )
        version = versions.resolve(self._context.store, reference)
        check_exportable(self._context.store, version)
        return export_for_peft(self._context.store, self._context.backbone(), version, folder=target)

    def _export_merged(self, reference: str, target: Path, data: bool) -> Path:
        from limpet.registry.exchange.bundle_format import SUFFIX
        from limpet.training.merging.export_merged import export_merged
        from limpet.training.merging.merge import check_mergeable

        if target.suffix == SUFFIX or not data:
            raise UsageError(
                "A merged model is a folder, and never a bundle.", f"limpet adapter export {reference} FOLDER"
            )
        version = versions.resolve(self._context.store, reference)
        # before the base is loaded
        check_mergeable(version.method)
        return export_merged(self._context.store, self._context.backbone(), version, folder=target)

    def import_bundle(self, path: str | Path, *, mirror: bool = True) -> tuple[VersionRecord, bool]:
        """Take a version in from a bundle, and say whether it was made now; nothing is evaluated.

        With `mirror`, the MLflow mirror is brought up to date at the end.
        """
        from limpet.home.additions import AdditionTerms, import_bundle

        joined = import_bundle(self._context, Path(path), terms=AdditionTerms(mirror=mirror))
        return joined.version, joined.created
