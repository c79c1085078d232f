"""How a home grows: by a task learned here, an adapter learned elsewhere, or a version out of a bundle.

What was evaluated is judged and promoted if it may be; all three are mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import GateError, InterruptedRunError, NotFoundError, UsageError
from limpet.forgetting.gate.parse import has_rule, read_rules
from limpet.forgetting.gate.rules import GateRules
from limpet.home.judging import Judgement, judge_addition, judge_move, refusal
from limpet.home.results import Trained
from limpet.loading import loading
from limpet.registry import versions
from limpet.registry.records import alarms, gate_refusals, streams, tasks
from limpet.registry.records.rows import PRODUCTION
from limpet.registry.settings import MonitorMode, check_monitor_mode
from limpet.registry.values import UNREADABLE_ANSWERS
from limpet.registry.versions import aliases
from limpet.training.progress import SILENT

if TYPE_CHECKING:
    from limpet.forgetting.monitor.growth import Added
    from limpet.home.context import HomeContext
    from limpet.registry.store import Store
    from limpet.registry.values import VersionRecord
    from limpet.training.adoption.source import Source
    from limpet.training.learning.ranks.launched import Launched
    from limpet.training.learning.settings import TrainingSettings
    from limpet.training.progress import Progress

__all__ = [
    "AdditionTerms",
    "Beginning",
    "follow",
    "import_bundle",
    "mirror",
    "monitor_mode",
    "register_adopted",
    "train",
]


@dataclass(frozen=True)
class AdditionTerms:
    """On which terms a version joins a home.

    `monitor` says what is done about the other tasks' current versions: all is evaluated again (`full`), an audit
    carries their scores forward where nothing changed (`audit`), or nothing (`off`). `promote` is the alias
    to move to it, if the gate lets it; `max_forgetting` wins over the home's own limit on `forgetting_max`. With
    `mirror`, a process of its own brings the MLflow mirror up to date at the end.
    """

    monitor: MonitorMode = "full"
    promote: str | None = None
    max_forgetting: float | None = None
    mirror: bool = True

    def rules(self, home: Path) -> GateRules:
        """Return the rules of the home in this folder, as far as these terms leave them.

        Raises:
            UsageError: A rule needs more of the monitor than it is to do.
        """
        rules, instead = read_rules(home), "leave out --no-monitor, or say --monitor full or audit"
        if self.max_forgetting is not None:
            if self.monitor == "off":
                raise UsageError("A limit on forgetting needs the monitor, which is off.", instead)
            rules = replace(rules, max_forgetting=self.max_forgetting)
        if self.promote is not None and self.monitor == "off" and has_rule(rules):
            raise UsageError("The gate of this home's limpet.toml needs the monitor, which is off.", instead)
        if self.monitor == "audit" and rules.require_identical:
            raise UsageError(
                "The gate of this home's limpet.toml asks for every earlier prediction (require_identical), and an "
                "audit answers only a few inputs again.",
                "--monitor full",
            )
        return rules


def monitor_mode(context: HomeContext, asked: bool | str | None) -> MonitorMode:
    """Return the mode that was asked for, else that of the home's settings; True is `full`, and False is `off`.

    Raises:
        UsageError: There is no such mode.
    """
    if isinstance(asked, bool):
        return "full" if asked else "off"
    return check_monitor_mode(asked or context.store.settings.monitor or "full")


@dataclass(frozen=True)
class Beginning:
    """Where training begins: at the tensors of a version, or at the newest checkpoint of an interrupted run.

    It begins in so many `processes`; null for those that a launcher has started, and else for this one.
    """

    version: str | None = None
    resume: bool = False
    processes: int | None = None


def train(
    context: HomeContext,
    task: str,
    settings: TrainingSettings | None,
    *,
    start: Beginning,
    terms: AdditionTerms,
    progress: Progress,
) -> Trained:
    """Learn a task, and let the version join the home; see `limpet.home.Home.train`."""
    with loading():
        from limpet.forgetting.monitor.growth import check_growth, measure_and_register
        from limpet.training import methods
        from limpet.training.data.stored_splits import read_once
        from limpet.training.learning.learn import learn
        from limpet.training.learning.ranks.company import company
        from limpet.training.learning.runs.run_folder import Start, discard
        from limpet.training.learning.settings import TrainingSettings
        from limpet.training.learning.training_run import TrainingRun
        from limpet.training.model.fast_paths import describe

    rules = terms.rules(context.path)
    record = tasks.get(context.store, task)
    task = record.name
    _check_unprotected(context, task, terms)
    if start.version is not None:
        _check_beginning(context, task, start.version)
    if start.resume:
        settings, interrupted = _resumed(context, task, settings, progress=progress)
        start = start if interrupted is None else replace(interrupted, processes=start.processes)
    settings = settings or TrainingSettings()
    with read_once(record):
        with company(start.processes, context.store, task, progress=progress) as ranks:
            # before the others look for it
            context.base(progress)
            ranks.order({"task": task, "settings": settings.recorded(), "version": start.version})
            backbone = context.backbone(progress)
            check_growth(context.store, backbone)
            parent = Start.from_version(context.store, backbone, start.version) if start.version else None
            run = TrainingRun(context.store, backbone, record, settings, start=parent, progress=progress, ranks=ranks)
            try:
                staged = learn(run, resume=start.resume)
            except InterruptedRunError as error:
                error.hint = f"limpet train {task} --resume"
                raise
        if not isinstance(run.method, methods.TrainingFree):
            config = staged.draft.config["method"]
            progress.note(describe(run.method, config, run.dtype, disable=settings.disable))
        added = measure_and_register(context.store, backbone, staged.draft, files=staged.files, progress=progress)
        discard(staged)
        return _join(context, added, terms, rules=rules, progress=progress)


def follow(store: Store, launched: Launched) -> None:
    """Take part in a training of several processes in one that does not lead them; nothing is written or said.

    Raises:
        SystemExit: The training has ended before its end.
    """
    with loading():
        from limpet.home.context import HomeContext
        from limpet.training.data.stored_splits import read_once
        from limpet.training.learning.learn import learn_along
        from limpet.training.learning.ranks.company import following
        from limpet.training.learning.runs.run_folder import Start
        from limpet.training.learning.settings import TrainingSettings
        from limpet.training.learning.training_run import TrainingRun

    with following(launched) as ranks:
        order = ranks.read_order()
        if order is None:
            return
        record, version = tasks.get(store, order["task"]), order["version"]
        settings = TrainingSettings.from_record(order["settings"])
        with read_once(record):
            backbone = HomeContext(store).backbone()
            parent = Start.from_version(store, backbone, version) if version else None
            learn_along(TrainingRun(store, backbone, record, settings, start=parent, ranks=ranks))


def register_adopted(
    context: HomeContext,
    task: str,
    source: Source,
    *,
    terms: AdditionTerms,
    progress: Progress,
) -> Trained:
    """Let an adapter that was learned elsewhere join the home; see `limpet.home.nouns.adapter.Adapters.register`."""
    from limpet.forgetting.monitor.growth import check_growth, measure_and_register
    from limpet.training.adoption.adopt import adopt
    from limpet.training.data.stored_splits import read_once

    rules = terms.rules(context.path)
    _check_unprotected(context, task, terms)
    record = tasks.get(context.store, task)
    backbone = context.backbone(progress)
    check_growth(context.store, backbone)
    adopted = adopt(context.store, backbone, record, source=source, progress=progress)
    with read_once(record), adopted as (draft, files):
        added = measure_and_register(context.store, backbone, draft, files=files, progress=progress)
    return _join(context, added, terms, rules=rules, progress=progress)


def import_bundle(context: HomeContext, path: Path, *, terms: AdditionTerms) -> Trained:
    """Let a version out of a bundle join the home.

    Nothing is evaluated and no alias moves, so that there is nothing to judge yet; see
    `limpet.home.nouns.adapter.Adapters.import_bundle`.
    """
    from limpet.registry.exchange import export_import

    version, created = export_import.import_bundle(context.store, path)
    return Trained(version, created, warnings=mirror(context.store, wait=False) if terms.mirror else ())


def mirror(store: Store, *, wait: bool) -> tuple[str, ...]:
    """Bring the MLflow mirror up to date, whatever happens to the tracking server; return what could not be done.

    Args:
        store: The home's registry.
        wait: Until it is done, or for a minute. Without it, a process of its own does it afterwards, but for the
            seconds that `LIMPET_MIRROR_SECONDS` asks to wait.
    """
    from limpet.forgetting.mlflow_mirror import background

    try:
        seconds = None if wait else background.waiting_seconds()
    except UsageError as error:
        # what was asked for is done, so this is no error of the command
        return (error.message,)
    if seconds == 0:
        warning = background.start(store)
    else:
        from limpet.forgetting.mlflow_mirror.sync import DEADLINE_SECONDS, sync_after

        warning = sync_after(store, DEADLINE_SECONDS if seconds is None else seconds)
    return (warning,) if warning else ()


def _join(
    context: HomeContext, added: Added, terms: AdditionTerms, *, rules: GateRules, progress: Progress
) -> Trained:
    """Evaluate the others again, keep the row and judge it, if the terms say so; then promote and mirror."""
    from limpet.forgetting.monitor.growth import home_row, keep_row

    version, backbone = added.version, context.backbone(progress)
    plan = home_row(context.store, backbone, version, mode=terms.monitor)
    step = keep_row(context.store, backbone, [added], row=plan, progress=progress)
    row = {task: evaluation.score for task, evaluation in step.row.items()}
    # of a revised task, what was just learned is told over all rows, as everywhere else
    row[version.task] = version.metrics.get("score", row[version.task])
    if terms.monitor != "off":
        judgement = judge_addition(context, version, rules, alias=terms.promote, progress=progress)
    else:
        alias = terms.promote or PRODUCTION
        judgement = judge_move(context, version, GateRules(), alias=alias, progress=progress)
    audited = tuple(task for task, evaluation in step.row.items() if evaluation.kind == "carried")
    trained = Trained(version, added.created, row, monitor=terms.monitor, audited=audited)
    return _promote_and_mirror(context, trained, judgement, terms=terms)


def _promote_and_mirror(
    context: HomeContext, trained: Trained, judgement: Judgement, *, terms: AdditionTerms
) -> Trained:
    """Promote what may be promoted, mirror, and say what came of it: the end of every addition."""
    from limpet.training.data.description.baseline import majority_baseline

    store, version, promoted = context.store, trained.version, None
    if judgement.crossings:
        _keep_refusals(context, version, judgement, terms=terms)
    if terms.promote and not judgement.crossings:
        judged = aliases.Judged(judgement.stands)
        promoted = aliases.promote(store, version.reference, terms.promote, reason="train --promote", judged=judged)
        version = versions.resolve(store, version.reference)
    standing = [alarm.sentence() for alarm in alarms.open_alarms(store)] if terms.monitor != "off" else []
    warnings = (*judgement.notes, *standing, *(mirror(store, wait=False) if terms.mirror else ()))
    answers = versions.resolve(store, version.task).reference == version.reference
    outcome = replace(
        trained,
        version=version,
        promoted=promoted,
        warnings=(
            *_cut_warnings(store, version),
            *_unreadable_warnings(version),
            *_seen_warnings(version),
            *warnings,
        ),
        replaced=judgement.outcome(promoted is not None or (terms.promote is None and answers)),
        majority_baseline=majority_baseline(store, tasks.of_version(store, version)),
        verdicts=judgement.verdicts,
    )
    if judgement.crossings:
        raise _refused(context, outcome, judgement, terms=terms)
    return outcome


def _keep_refusals(
    context: HomeContext, version: VersionRecord, judgement: Judgement, *, terms: AdditionTerms
) -> None:
    """Record the rules that an addition crossed, and which of them bar its promotion.

    Those that its promotion was asked for under do, and those of the home; a limit that was set for an experiment
    does not.
    """
    barring = judgement
    if terms.promote is None and terms.max_forgetting is not None:
        rules = read_rules(context.path)
        barring = judge_addition(context, version, rules, alias=None, progress=SILENT)
    bars = {(crossing.rule, crossing.task) for crossing in barring.crossings}
    for crossing in judgement.crossings:
        gate_refusals.record(
            context.store,
            version.reference,
            crossing.rule,
            detail=crossing.detail,
            bars=(crossing.rule, crossing.task) in bars,
            max_forgetting=None if terms.promote is None else terms.max_forgetting,
        )


def _refused(context: HomeContext, outcome: Trained, judgement: Judgement, *, terms: AdditionTerms) -> GateError:
    """Return the error of an addition that crossed a rule: what that means for its promotion, and how to go on."""
    reference, hint = outcome.version.reference, f"limpet report {streams.HOME_STREAM}"
    if not gate_refusals.bars(context.store, reference):
        what = f"{reference} is kept, and may be promoted, but it crosses a limit that was set for it"
        return refusal(what, judgement, hint, outcome=outcome)
    promote = f"limpet adapter promote {reference} {terms.promote or 'ALIAS'} --accept --reason TEXT"
    hint += f"; to promote it on purpose: {promote}"
    return refusal(f"{reference} is kept, but may not be promoted", judgement, hint, outcome=outcome)


def _cut_warnings(store: Store, version: VersionRecord) -> list[str]:
    """Say what of its task's examples a version did not see whole."""
    from limpet.training.data.overlong import describe

    sizes: dict[str, int] = {split.name: split.examples for split in tasks.of_version(store, version).splits}
    return describe(version.metrics.get("cut") or {}, sizes, int(version.config["max_length"]))


def _unreadable_warnings(version: VersionRecord) -> list[str]:
    """Say how many answers its metric could not read: they score 0, whatever was wanted."""
    unreadable = version.metrics.get(UNREADABLE_ANSWERS)
    return [f"{unreadable} evaluation answers are no JSON, and score 0"] if unreadable else []


def _seen_warnings(version: VersionRecord) -> list[str]:
    """Say which of its evaluation examples the versions that it comes from were trained on."""
    seen = version.metrics.get("seen_before")
    if not seen:
        return []
    without = "" if seen["score_without"] is None else f"; without them the score is {seen['score_without']:.4f}"
    return [
        f"{seen['examples']} evaluation examples are, or resemble, what {seen['from']} or those before it were "
        f"trained on{without}"
    ]


def _check_unprotected(context: HomeContext, task: str, terms: AdditionTerms) -> None:
    if terms.promote is not None:
        aliases.check_unprotected(context.store, task, terms.promote)


def _check_beginning(context: HomeContext, task: str, version: str) -> None:
    """Refuse a version that is not there before the base is loaded; a bare alias is the task's own."""
    try:
        versions.resolve(context.store, version)
    except NotFoundError as error:
        if "@" not in version and version not in {known.name for known in tasks.list_all(context.store)}:
            error.hint = f"did you mean {task}@{version}? limpet adapter list --task {task}"
        raise


def _resumed(
    context: HomeContext, task: str, settings: TrainingSettings | None, *, progress: Progress
) -> tuple[TrainingSettings | None, Beginning | None]:
    """Return the settings and the beginning of the interrupted run; null for both where there is none."""
    from limpet.training.learning.runs.run_folder import unfinished_run

    try:
        found, parent = unfinished_run(context.store, task)
    except NotFoundError:
        progress.note(f"{task} has no unfinished run; it begins anew")
        return settings, None
    if settings is not None and settings != found:
        raise UsageError(
            f"The interrupted run of {task!r} had other settings: {_describe_difference(found, settings)}.",
            f"limpet train {task} --resume, with no other options",
        )
    return found, Beginning(parent, resume=True)


def _describe_difference(found: TrainingSettings, given: TrainingSettings) -> str:
    names = [name for name in vars(found) if getattr(found, name) != getattr(given, name)]
    return ", ".join(f"{name} {getattr(found, name)!r}, not {getattr(given, name)!r}" for name in names)
