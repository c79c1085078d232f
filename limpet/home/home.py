"""A home as people use it: the nouns and verbs of the command line, typed.

Everything heavy is imported by the verb that needs it, so opening a home and reading its registry is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet.errors import InterruptedRunError, NotFoundError, UsageError
from limpet.home.nouns.adapter import Adapters
from limpet.home.nouns.base import Bases, describe
from limpet.home.nouns.bench import Benches
from limpet.home.nouns.policy import Policies
from limpet.home.nouns.stream import Streams
from limpet.home.nouns.study import Studies
from limpet.home.nouns.task import Tasks, cut_warnings
from limpet.home.results import MethodInfo, Move, Trained, method_info
from limpet.loading import loading
from limpet.registry import versions
from limpet.registry.cleanup.gc import DAY, collect
from limpet.registry.records import alarms, bases, gate_refusals, log, streams, tasks
from limpet.registry.records.alarms import check_no_alarm
from limpet.registry.records.rows import PRODUCTION
from limpet.registry.settings import DEFAULT_BASE, SETTINGS_FILE, load_settings
from limpet.registry.store import (
    HOME_FOLDER,
    Store,
    adopt_store,
    check_free,
    find_home,
    new_store,
    open_store,
)
from limpet.registry.system.text_checks import check_reason
from limpet.registry.versions import aliases

if TYPE_CHECKING:
    from limpet.forgetting.gate.rules import GateRules
    from limpet.forgetting.mlflow_mirror.sync import MirrorReport
    from limpet.forgetting.monitor.monitor import Added
    from limpet.forgetting.report.values import Report
    from limpet.home.verification import Verification
    from limpet.registry.cleanup.gc import Collection
    from limpet.registry.values import BaseRecord, EvaluationRecord, LogEvent, Page, StepRecord
    from limpet.training.base.backbone import Backbone
    from limpet.training.evaluation.predict_texts import Prediction
    from limpet.training.learning.settings import TrainingSettings
    from limpet.training.progress import Progress
    from limpet.training.serving import Server

__all__ = ["Home", "MethodInfo", "Move", "Trained", "init", "open_home"]


def init(
    path: str | Path | None = None,
    *,
    base: str | None = None,
    db: str | None = None,
    blobs: str | None = None,
    mlflow: str | None = None,
    adopt: bool = False,
    progress: Progress | None = None,
) -> Home:
    """Make a home and open it; what fails leaves nothing.

    Args:
        path: The folder; by default `.limpet` here.
        base: A base SPEC, fetched and fingerprinted at once; by default `sample:minilm`, fetched when first needed.
        db: A database URL; by default SQLite in the home.
        blobs: An fsspec URL; by default a folder in the home.
        mlflow: A tracking URI, or `off`; by default SQLite in the home.
        adopt: Take a blob store that is not empty, or is another home's, for this home's own; also of a home that
            there is already, if nothing else is given.
        progress: Told what goes on.

    Raises:
        ConflictError: There is a home already; or the database has an older schema, or is another program's or
            another home's; or the blob store is not empty or another home's.
    """
    folder = Path(path) if path else Path.cwd() / HOME_FOLDER
    settings = load_settings(folder, base=base, db=db, blobs=blobs, mlflow=mlflow)
    if adopt and (db, blobs, base, mlflow) == (None,) * 4 and (folder / SETTINGS_FILE).is_file():
        return Home(adopt_store(folder))
    check_free(folder)
    # before a home is made for it: a base that can't be one leaves nothing
    record = None if base is None else describe(base, progress)
    with new_store(folder, replace(settings, base=settings.base or DEFAULT_BASE), adopt=adopt) as store:
        if record is not None:
            bases.add(store, record)
    return Home(store)


def open_home(path: str | Path | None = None, **settings: str | None) -> Home:
    """Open a home: the one at `path`, else at `LIMPET_HOME`, else the nearest `.limpet/` upward.

    Args:
        path: The home's folder.
        **settings: `base`, `db`, `blobs` or `mlflow`, over the environment and `limpet.toml`.

    Raises:
        NotFoundError: There is no home.
    """
    return Home(open_store(Path(path) if path else find_home(Path.cwd()), **settings))


class Home:
    """An open home. Nouns are attributes (`home.task.add(...)`), the rest are verbs (`home.train(...)`)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.base = Bases(self)
        self.task = Tasks(self)
        self.adapter = Adapters(self)
        self.stream = Streams(self)
        self.study = Studies(self)
        self.bench = Benches(self)
        self.policy = Policies(self)
        self._backbone: Backbone | None = None

    @property
    def path(self) -> Path:
        """The home's folder."""
        return self.store.path

    def train(
        self,
        task: str,
        settings: TrainingSettings | None = None,
        *,
        start_from: str | None = None,
        resume: bool = False,
        monitor: bool = True,
        promote: str | None = None,
        max_forgetting: float | None = None,
        mirror: bool = True,
        progress: Progress | None = None,
    ) -> Trained:
        """Learn a task, register the version, and evaluate every earlier task again.

        Args:
            task: The task's name.
            settings: How to learn; with `resume`, None takes those of the interrupted run.
            start_from: A version whose tensors training begins with.
            resume: Go on from the newest checkpoint of the task.
            monitor: Evaluate the other tasks' current versions, and keep the row.
            promote: An alias to move to the new version, if the gate lets it.
            max_forgetting: The gate's limit on `forgetting_max`.
            mirror: Bring the MLflow mirror up to date at the end; without it, `mirror` does so later.
            progress: Told of every step.

        Raises:
            ConflictError: The alias to move is protected.
            GateError: The limit was crossed; the version is kept, and its promotion refused.
            InterruptedRunError: A signal came; `resume` goes on from the checkpoint.
            IntegrityError: The base is not the one on record, or was changed.
        """
        with loading():
            from limpet.forgetting.gate.parse import read_rules
            from limpet.forgetting.monitor.monitor import add_version, check_growth
            from limpet.training import methods
            from limpet.training.base.precision import resolve_dtype
            from limpet.training.learning.learn import learn
            from limpet.training.learning.run import TrainingRun
            from limpet.training.learning.run_folder import Start, discard, unfinished_run
            from limpet.training.learning.settings import TrainingSettings
            from limpet.training.model.fast_paths import describe
            from limpet.training.progress import SILENT

        progress = progress or SILENT
        rules = read_rules(self.path)
        if max_forgetting is not None:
            rules = replace(rules, max_forgetting=max_forgetting)
        _check_gate(monitor, max_forgetting, promote, rules=rules)
        if promote is not None:
            aliases.check_unprotected(self.store, task, promote)
        record = tasks.get(self.store, task)
        if resume:
            settings, start_from = self._resumed(task, settings, start_from, find=unfinished_run, progress=progress)
        backbone = self.backbone(progress)
        check_growth(self.store, backbone)
        start = Start.from_version(self.store, backbone, start_from) if start_from else None
        settings = settings or TrainingSettings()
        try:
            run = TrainingRun(self.store, backbone, record, settings, start=start, progress=progress)
            staged = learn(run, resume=resume)
        except InterruptedRunError as error:
            error.hint = f"limpet train {task} --resume"
            raise
        method = methods.get(settings.method)
        if not isinstance(method, methods.OwnHead):
            config = staged.draft.config["method"]
            progress.note(describe(method, config, resolve_dtype(settings.dtype), without=settings.without))
        added = add_version(self.store, backbone, staged.draft, files=staged.files, progress=progress)
        discard(staged)
        return self.after_addition(added, monitor, promote, rules=rules, mirror=mirror, progress=progress)

    def evaluate(
        self,
        references: Sequence[str] = (),
        *,
        audit: bool = False,
        drift: float | None = None,
        confidence: float | None = None,
        progress: Progress | None = None,
    ) -> tuple[EvaluationRecord, ...]:
        """Evaluate versions on their tasks' evaluation splits; without references, every task's current version.

        Each is held against the evaluation made when it was registered. A version that answers otherwise has an alarm
        from then on, which no later evaluation takes away; see `accept`.

        Args:
            references: The versions.
            audit: Check a random sample, where nothing that it depends on has changed since; see
                `limpet.forgetting.monitor.audit`.
            drift: The share of changed examples that an audit finds; by default 1 %.
            confidence: The probability of finding it; by default 99 %.
            progress: Told of every batch.

        Raises:
            NotFoundError: There is no such version, or no version at all.
            IntegrityError: A version has an open alarm: it does not answer as recorded, or once did not.
        """
        with loading():
            from limpet.forgetting.monitor import audit as audits
            from limpet.forgetting.monitor import monitor
            from limpet.forgetting.monitor.drift import hold_against_reference
            from limpet.forgetting.monitor.kept_predictions import read_contents
            from limpet.training.progress import SILENT

        chosen = [versions.resolve(self.store, reference) for reference in references]
        chosen = chosen or list(versions.current(self.store))
        if not chosen:
            raise NotFoundError("This home has no version yet.", "limpet train TASK")
        backbone = self.backbone(progress)
        told = progress or SILENT
        wanted = (audits.DRIFT if drift is None else drift, audits.CONFIDENCE if confidence is None else confidence)
        found = []
        for version in chosen:
            if audit:
                found.append(
                    audits.audit(self.store, backbone, version, drift=wanted[0], confidence=wanted[1], progress=told)
                )
                continue
            found.append(monitor.evaluate(self.store, backbone, version, progress=told, anew=True))
            if note := hold_against_reference(self.store, found[-1], read_contents(self.store)):
                told.note(note)
        # after the last one, so that no alarm hides another
        check_no_alarm(self.store, [version.reference for version in chosen])
        return tuple(found)

    def accept(self, reference: str, reason: str, *, progress: Progress | None = None) -> EvaluationRecord:
        """Resolve a version's alarm: evaluate it in full, and hold it against that evaluation from here on.

        Args:
            reference: The version.
            reason: Why what it answers now is right; the log keeps it.
            progress: Told of every batch.

        Raises:
            ConflictError: The version has no open alarm.
            NotFoundError: There is no such version.
            UsageError: There is no reason.
        """
        version = versions.resolve(self.store, reference)
        if alarms.open_alarm(self.store, version.reference) is None:
            raise alarms.nothing_to_accept(version.reference)
        check_reason(reason, needed=True)
        with loading():
            from limpet.forgetting.monitor import monitor
            from limpet.training.progress import SILENT

            backbone = self.backbone(progress)
        now = monitor.evaluate(self.store, backbone, version, progress=progress or SILENT, anew=True)
        alarms.accept(self.store, version.reference, evaluation=now.id, reason=reason)
        return now

    def predict(self, task: str, texts: Sequence[str]) -> tuple[Prediction, ...]:
        """Classify texts with a version of a task: `task`, `task@3` or `task@alias`.

        Raises:
            NotFoundError: There is no such version.
            IntegrityError: A file is corrupt, or the base is another.
        """
        version = versions.resolve(self.store, task)
        with loading():
            from limpet.training.evaluation.predict_texts import predict

            backbone = self.backbone()
        return predict(self.store, backbone, version, texts=texts)

    def serve(self, memory: int | None = None) -> Server:
        """Make a server on the home's base: it answers texts of many tasks at once, and keeps their adapters ready.

        Args:
            memory: Bytes of adapters that are kept ready; see `limpet.training.serving.Server`.

        Raises:
            IntegrityError: The base's files are not those of the fingerprint.
        """
        with loading():
            from limpet.training.serving import MEMORY, Server

            backbone = self.backbone()
        return Server(self.store, backbone, MEMORY if memory is None else memory)

    def report(self, stream: str | None = None) -> Report:
        """Gather what is known of a stream; by default of the one that moved last.

        Raises:
            NotFoundError: There is no such stream.
        """
        from limpet.forgetting.report.build import build_report

        return build_report(self.store, stream)

    def gate(
        self, stream: str | None = None, rules: GateRules | None = None, progress: Progress | None = None
    ) -> Report:
        """Hold a stream's isolated arms against the rules; where it has none, all its arms.

        In the home's own growth, each version that answers is held against the one that it replaced, and the newest
        addition as if it answered already; what somebody accepted on purpose is not held against them.

        Args:
            stream: The stream; by default the one that moved last.
            rules: By default those of `[gate]` in the home's `limpet.toml`.
            progress: Told which rule could not be judged.

        Raises:
            GateError: A rule was crossed.
            IntegrityError: No rule was crossed, but a version that the report is about has an open alarm.
            NotFoundError: There is no such stream, or no task that a rule names: a misspelt one would let all pass.
        """
        from limpet.forgetting.gate.parse import read_rules
        from limpet.home import gate as _gate

        rules = read_rules(self.path) if rules is None else rules
        for task in rules.tasks:
            tasks.get(self.store, task)
        report, judgement = _gate.judge_stream(self, stream, rules)
        if progress is not None:
            for note in judgement.notes:
                progress.note(note)
        if judgement.crossings:
            raise _gate.refusal("The gate is crossed", judgement, f"limpet report {report.stream}")
        check_no_alarm(self.store, [alarm.version for alarm in report.alarms])
        return report

    def methods(self, progress: Progress | None = None) -> tuple[MethodInfo, ...]:
        """Every method with what it can do, and whether it works on this home's base.

        That was tried before on the architectures that limpet knows. On another one it is tried now, on a small
        model made from the base's configuration.
        """
        from limpet.training import methods

        try:
            base = bases.get(self.store)
        except NotFoundError:
            base = None
        everything = [methods.get(name) for name in methods.names()]
        if base is None:
            return tuple(method_info(method, methods.works_on(method), None, nearest=None) for method in everything)
        if methods.was_tried(base):
            reasons = {method.name: methods.obstacle(method, base) for method in everything}
        else:
            reasons = self._try_methods(base, progress)
        return tuple(
            method_info(
                method, methods.works_on(method), reasons[method.name], nearest=_first(method.alternatives, reasons)
            )
            for method in everything
        )

    def verify(self, *, deep: bool = False, probe: bool = False, progress: Progress | None = None) -> Verification:
        """Re-read every file of the home's bases and registry, and name what is wrong; nothing is changed.

        Args:
            deep: Also check what the bytes say; see `limpet.registry.verification.verify`.
            probe: Also let every version answer its probe again; see `limpet.training.evaluation.reference_outputs`.
            progress: Told of every file and version.
        """
        from limpet.home.verification import verify_home
        from limpet.training.progress import SILENT

        return verify_home(self, deep, probe, progress=progress or SILENT)

    def gc(
        self,
        grace_seconds: int = DAY,
        *,
        dry_run: bool = True,
        today: str | None = None,
        progress: Progress | None = None,
    ) -> Collection:
        """Say what nothing needs any more; without `dry_run`, remove it; see `limpet.registry.cleanup.gc.collect`."""
        from limpet.training.progress import SILENT

        told = progress or SILENT

        def tell(done: int, total: int) -> None:
            if not done:
                told.start("remove files", total)
            told.advance(done)

        report = collect(self.store, grace_seconds, dry_run, progress=tell, today=today)
        told.finish()
        return report

    def log(self, subject: str | None = None, limit: int = 50, cursor: str | None = None) -> Page[LogEvent]:
        """One page of the home's log, newest first: who did what to what."""
        return log.read(self.store, subject, limit, cursor=cursor)

    def mirror(self) -> tuple[str, ...]:
        """Bring the MLflow mirror up to date after an addition, whatever happens to the tracking server.

        Returns:
            Warnings about what could not be done; the next time catches up. It takes a minute at the most.
        """
        from limpet.forgetting.mlflow_mirror.sync import sync_after

        warning = sync_after(self.store)
        return (warning,) if warning else ()

    def sync(self, *, again: bool = False) -> MirrorReport:
        """Bring the MLflow mirror up to date; with `again`, look everything up and restore what was deleted there.

        Raises:
            UnavailableError: The tracking server can't be reached.
        """
        from limpet.forgetting.mlflow_mirror import sync as mirror

        return mirror.sync(self.store, again=again)

    def backbone(self, progress: Progress | None = None) -> Backbone:
        """Load the home's base, once; it is checked against its fingerprint every time it is asked for.

        Raises:
            IntegrityError: The files are not those of the fingerprint.
        """
        with loading():
            from limpet.training.base import locate as base_files
            from limpet.training.base.backbone import load_backbone

        record = self.base.ensure(progress)
        if self._backbone is None or self._backbone.record.digest != record.digest:
            with loading():
                self._backbone = load_backbone(self.store, record, self.store.settings.evaluation_dtype or "auto")
        else:
            base_files.check(self.store, record)
        return self._backbone

    def loaded(self, digest: str) -> Backbone | None:
        """Return the base of this fingerprint if it is in memory."""
        backbone = self._backbone
        return backbone if backbone is not None and backbone.record.digest == digest else None

    def _try_methods(self, base: BaseRecord, progress: Progress | None) -> dict[str, str]:
        from limpet.training.base import locate as base_files
        from limpet.training.base.pretrained import load_config
        from limpet.training.learning.method_compatibility import try_all, twin
        from limpet.training.progress import SILENT

        (progress or SILENT).note(f"no method was tried on {base.architecture} models yet: trying all of them")
        return try_all(twin(load_config(base_files.check(self.store, base))))

    def _resumed(
        self,
        task: str,
        settings: TrainingSettings | None,
        start_from: str | None,
        *,
        find: Any,
        progress: Progress,
    ) -> tuple[TrainingSettings | None, str | None]:
        try:
            found, parent = find(self.store, task)
        except NotFoundError:
            progress.note(f"{task} has no unfinished run; it begins anew")
            return settings, start_from
        if settings is not None and settings != found:
            raise UsageError(
                f"The interrupted run of {task!r} had other settings: {_describe_difference(found, settings)}.",
                f"limpet train {task} --resume, with no other options",
            )
        return found, parent

    def after_addition(
        self,
        added: Added,
        monitored: bool,
        promote: str | None,
        *,
        rules: GateRules,
        mirror: bool,
        progress: Progress,
    ) -> Trained:
        """Evaluate the others, hold the gate, promote, mirror: what follows every addition."""
        from limpet.forgetting.gate.rules import GateRules
        from limpet.forgetting.monitor import monitor
        from limpet.home import gate as _gate

        version = added.version
        row = {version.task: added.evaluation.score}
        if monitored:
            step: StepRecord = monitor.after_addition(self.store, self.backbone(), added, progress=progress)
            row = {task: evaluation.score for task, evaluation in step.row.items()}
            judgement = _gate.judge_addition(self, version, rules, alias=promote, progress=progress)
        else:
            judgement = _gate.judge_move(self, version, GateRules(), alias=promote or PRODUCTION, progress=progress)
        for crossing in judgement.crossings:
            gate_refusals.record(self.store, version.reference, crossing.rule, detail=crossing.detail)
        promoted = None
        if promote and not judgement.crossings:
            judged = aliases.Judged(judgement.stands)
            promoted = aliases.promote(
                self.store, version.reference, promote, reason="train --promote", judged=judged
            )
            version = versions.resolve(self.store, version.reference)
        standing = [alarm.sentence() for alarm in alarms.open_alarms(self.store)] if monitored else []
        warnings = (*judgement.notes, *standing, *(self.mirror() if mirror else ()))
        if judgement.crossings:
            hint = f"limpet report {streams.HOME_STREAM}"
            raise _gate.refusal(f"{version.reference} is kept, but may not be promoted", judgement, hint)
        answers = versions.resolve(self.store, version.task).reference == version.reference
        replaced = judgement.outcome(promoted is not None or (promote is None and answers))
        warnings = (*cut_warnings(self, version), *warnings)
        baseline = self.task.majority_baseline(version.task)
        return Trained(version, added.created, row, promoted, warnings, replaced, baseline)


def _first(names: Sequence[str], reasons: Mapping[str, str]) -> str | None:
    """Return the first method that nothing speaks against."""
    return next((name for name in names if not reasons[name]), None)


def _check_gate(monitor: bool, max_forgetting: float | None, promote: str | None, *, rules: GateRules) -> None:
    from limpet.forgetting.gate.parse import has_rule

    if max_forgetting is not None and not monitor:
        raise UsageError("A limit on forgetting needs the monitor.", "leave out --no-monitor")
    if promote is not None and not monitor and has_rule(rules):
        raise UsageError("The gate of this home's limpet.toml needs the monitor.", "leave out --no-monitor")


def _describe_difference(found: Any, given: Any) -> str:
    names = [name for name in vars(found) if getattr(found, name) != getattr(given, name)]
    return ", ".join(f"{name} {getattr(found, name)!r}, not {getattr(given, name)!r}" for name in names)
