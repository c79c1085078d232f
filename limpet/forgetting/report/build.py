"""The report of a stream: reads what the registry kept, and says what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from limpet.errors import IntegrityError
from limpet.forgetting import strategies
from limpet.forgetting.monitor.kept_predictions import ReadPredictions, read_contents, read_predictions
from limpet.forgetting.monitor.prediction_diff import Difference, find_difference
from limpet.forgetting.monitor.replacement import accepted_losses, compare_versions
from limpet.forgetting.monitor.replacement_values import Replacement
from limpet.forgetting.monitor.version_errors import find_errors
from limpet.forgetting.report import general_ability
from limpet.forgetting.report.arm_report import arm_report
from limpet.forgetting.report.arm_runs import ArmRunEvidence, with_references
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.comparison_values import Order
from limpet.forgetting.report.comparisons import compare, drifts
from limpet.forgetting.report.corrections import corrected, tests_of_arms
from limpet.forgetting.report.home_growth import Growth, home_growth
from limpet.forgetting.report.seeds_and_orders import over_orders, over_seeds
from limpet.forgetting.report.values import BaseReport, LabelReport, Report, TaskReport
from limpet.forgetting.stream.published_figures import published_figures
from limpet.forgetting.stream.stream_file import order_name
from limpet.registry import versions
from limpet.registry.records import bases, streams, tasks
from limpet.registry.records.alarms import Alarm, open_alarms
from limpet.registry.store import Store
from limpet.registry.values import Environment, StepRecord, StreamRecord, TaskRecord, Tombstone, VersionRecord
from limpet.registry.versions.costs import find_full, full_versions
from limpet.registry.versions.serving import serving_summary
from limpet.training.data.description.baseline import majority_baseline
from limpet.training.task_types import metric

__all__ = ["build_report"]


def build_report(
    store: Store, stream_name: str | None = None, added: VersionRecord | None = None, *, only_judged: bool = False
) -> Report:
    """Build the report of a stream, finished or in progress.

    The stream `home` is the growth of the home itself: its tasks may be trained again, so its matrix has a row for
    each addition, and for each task the score of what answered then, whichever version that was.

    Args:
        store: The open home.
        stream_name: The stream; None is the one worked on last.
        added: In the home's growth, counts as what answers for its task now, whatever its aliases say: the gate
            judges an addition before it is promoted.
        only_judged: Leave out what no rule is held against, and only readers look at: what serves, and what each
            version gets wrong label by label.

    Raises:
        NotFoundError: There is no such stream, or none at all.
        IntegrityError: Kept predictions are missing or corrupt.
    """
    stream = streams.get(store, stream_name) if stream_name else streams.latest(store)
    read_kept = read_predictions(store)
    growth = home_growth(store, stream, added) if stream.name == streams.HOME_STREAM else None
    arm_runs, steps = _evidence(store, stream, read_kept, growth=growth)
    orders = _orders(store, stream, read_kept, arm_runs=arm_runs)
    arms = [_arm(store, stream, evidence) for evidence in arm_runs]
    arm_drifts = drifts(arm_runs)
    report = Report(
        stream=stream.name,
        base=_base(store, stream, arm_runs, steps=steps),
        tasks=_tasks(store, stream, arm_runs),
        arms=tuple(arms),
        comparisons=compare(arm_runs, len(arm_drifts) + tests_of_arms(arms)),
        drifts=arm_drifts,
        seeds=over_seeds(arm_runs),
        environments=_environments(arm_runs),
        spec=stream.spec,
        orders=tuple(order for order, _ in orders),
        over_orders=over_orders(orders),
        published=published_figures(stream.spec),
        replaced=_replaced(store, growth, read_kept) if growth else (),
        alarms=_alarms(store, arm_runs),
        serving=() if only_judged or stream.name != streams.HOME_STREAM else serving_summary(store),
        labels=() if only_judged else _labels(store, arm_runs, read_kept),
        removed=_removed(store, stream),
    )
    return corrected(report)


def _evidence(
    store: Store, stream: StreamRecord, read: ReadPredictions, *, growth: Growth | None
) -> tuple[list[ArmRunEvidence], list[StepRecord]]:
    """What was kept of every arm of a stream, or of a home's growth; and the steps, in order."""
    if stream.name != streams.HOME_STREAM:
        arm_runs, steps = _arms(store, stream, read)
    else:
        arm_runs, steps = ([growth.evidence(store, read)], list(growth.additions)) if growth else ([], [])
    return with_references(_with_full(store, arm_runs)), steps


def _base(
    store: Store, stream: StreamRecord, arm_runs: Sequence[ArmRunEvidence], *, steps: Sequence[StepRecord]
) -> BaseReport:
    made = arm_runs[0].versions if arm_runs else ()
    base = bases.get(store, made[0].base_digest if made else stream.base_digest)
    return BaseReport(base.name, base.digest, _unchanged(steps))


def _arm(store: Store, stream: StreamRecord, evidence: ArmRunEvidence) -> ArmReport:
    return replace(
        arm_report(evidence),
        differences=_differences(store, evidence),
        ability=general_ability.abilities_of(store, stream, evidence),
        adapters=general_ability.adapters_of(store, stream, evidence),
    )


def _arms(store: Store, stream: StreamRecord, read: ReadPredictions) -> tuple[list[ArmRunEvidence], list[StepRecord]]:
    arm_runs: list[ArmRunEvidence] = []
    every: list[StepRecord] = []
    for arm in streams.arm_runs(store, stream.name):
        steps = streams.steps(store, arm.id)
        # a version that was deleted since is still evidence
        made = tuple(versions.look_up(store, step.version) for step in steps)
        cells = tuple(tuple(step.row.get(task) for task in stream.tasks) for step in steps)
        arm_runs.append(ArmRunEvidence(arm, stream.tasks, cells, made, read))
        every += steps
    return arm_runs, every


def _alarms(store: Store, arm_runs: Sequence[ArmRunEvidence]) -> tuple[Alarm, ...]:
    answering = {version.reference for evidence in arm_runs for version in evidence.serving}
    return tuple(alarm for alarm in open_alarms(store) if alarm.version in answering)


def _labels(store: Store, arm_runs: Sequence[ArmRunEvidence], read: ReadPredictions) -> tuple[LabelReport, ...]:
    """What every arm's versions got wrong under its first seed; nothing of one whose evaluation is not kept."""
    first: dict[str, ArmRunEvidence] = {}
    for evidence in arm_runs:
        first.setdefault(evidence.arm.name, evidence)
    found = (
        LabelReport(name, evidence.arm.seed, errors)
        for name, evidence in first.items()
        for version in evidence.serving
        if (errors := find_errors(store, version, read=read)) is not None
    )
    return tuple(found)


def _replaced(store: Store, growth: Growth, read: ReadPredictions) -> tuple[Replacement, ...]:
    accepted = {task: accepted_losses(store, task) for task in growth.tasks}
    replacements = (
        compare_versions(store, succession.old, succession.new, read=read, answers=succession.answers)
        for succession in growth.successions
    )
    return tuple(replace(each, accepted=accepted[each.task].get((each.old, each.new), "")) for each in replacements)


def _orders(
    store: Store, stream: StreamRecord, read: ReadPredictions, *, arm_runs: list[ArmRunEvidence]
) -> list[tuple[Order, Sequence[ArmRunEvidence]]]:
    """Every order of the stream's tasks that was begun, the stream's own first; none where there is but one."""
    streams_by_name = {other.name: other for other in streams.list_all(store)}
    names = (order_name(stream.name, number) for number in range(2, int(stream.spec.get("orders", 1)) + 1))
    others = [streams_by_name[name] for name in names if name in streams_by_name]
    if not others:
        return []
    orders: list[tuple[Order, Sequence[ArmRunEvidence]]] = [(Order(stream.name, stream.tasks), arm_runs)]
    for other in others:
        orders.append((Order(other.name, other.tasks), with_references(_arms(store, other, read)[0])))
    return orders


def _differences(store: Store, evidence: ArmRunEvidence) -> tuple[Difference, ...]:
    """For each earlier task whose weights are meant to stay, the first evaluation that differs from the first."""
    strategy = strategies.get(evidence.arm.strategy)
    if strategy.shares_state or strategy.learns_all:
        return ()
    read, first_differences = read_contents(store), dict[str, Difference]()
    for learned, now in evidence.pairs():
        if learned.task not in first_differences and (difference := find_difference(store, learned, now, read=read)):
            first_differences[learned.task] = difference
    return tuple(first_differences.values())


def _with_full(store: Store, arm_runs: Sequence[ArmRunEvidence]) -> list[ArmRunEvidence]:
    """Give every arm run the fully fine-tuned versions of its tasks: those of the stream before others of a home."""
    versions_of_stream: dict[str, list[VersionRecord]] = {}
    for evidence in arm_runs:
        for version in evidence.serving:
            versions_of_stream.setdefault(version.task, []).append(version)
    candidates = {
        task: (*versions_here, *full_versions(store, task)) for task, versions_here in versions_of_stream.items()
    }

    def find(version: VersionRecord) -> VersionRecord | None:
        # a run under the same seed is the closest there is
        return find_full(
            version, sorted(candidates[version.task], key=lambda candidate: candidate.seed != version.seed)
        )

    return [replace(evidence, fully=tuple(map(find, evidence.serving))) for evidence in arm_runs]


def _tasks(store: Store, stream: StreamRecord, arm_runs: Sequence[ArmRunEvidence]) -> tuple[TaskReport, ...]:
    """Describe the tasks: of a stream in the revisions that it learned, of a home as they are now."""
    names = arm_runs[0].tasks if arm_runs else stream.tasks
    if stream.name == streams.HOME_STREAM:
        return tuple(_task(store, tasks.get(store, name, past=True)) for name in names)
    learned = {version.task: version for evidence in arm_runs for version in evidence.versions}
    return tuple(
        _task(
            store,
            tasks.of_version(store, learned[name])
            if name in learned
            else tasks.as_of(store, name, stream.created_at),
        )
        for name in names
    )


def _task(store: Store, record: TaskRecord) -> TaskReport:
    examples = record.split("evaluation").examples
    task_metric = metric(record.definition.metric)
    baseline = _majority_baseline(store, record)
    return TaskReport(record.name, task_metric.name, task_metric.definition, examples, record.data_digest, baseline)


def _removed(store: Store, stream: StreamRecord) -> dict[str, Tombstone]:
    records = (tasks.get(store, name, past=True) for name in stream.tasks)
    return {record.name: record.removed for record in records if record.removed is not None}


def _majority_baseline(store: Store, record: TaskRecord) -> float | None:
    try:
        return majority_baseline(store, record, first_rows=True)
    except IntegrityError:
        # a gc takes away the rows of a task that was removed
        if record.removed is None:
            raise
        return None


def _unchanged(steps: Sequence[StepRecord]) -> bool | None:
    checked = [step.base_unchanged for step in steps if step.base_unchanged is not None]
    return all(checked) if checked else None


def _environments(arm_runs: Sequence[ArmRunEvidence]) -> tuple[Environment, ...]:
    """The environments of all versions and evaluations, each once."""
    of_versions = {version.environment: None for evidence in arm_runs for version in evidence.versions}
    cells = (cell for evidence in arm_runs for row in evidence.cells for cell in row)
    return tuple(of_versions | {cell.environment: None for cell in cells if cell is not None})
