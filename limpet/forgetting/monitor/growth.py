"""How a score matrix grows: a version is registered, the others are evaluated again, and the row is kept.

`limpet train`, `limpet adapter register` and every step of a stream go this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from limpet.errors import ConflictError
from limpet.forgetting.monitor.canary_audit import carry_or_evaluate
from limpet.forgetting.monitor.drift import hold_against_reference
from limpet.forgetting.monitor.kept_predictions import read_contents
from limpet.forgetting.monitor.monitor import Measured, Part, evaluate_parts, measure_candidate, record_evaluation
from limpet.registry import versions
from limpet.registry.records import streams, tasks
from limpet.registry.settings import MonitorMode
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft, EvaluationRecord, StepRecord, VersionDraft, VersionRecord
from limpet.training.base.backbone import Backbone
from limpet.training.evaluation import reference_outputs
from limpet.training.progress import SILENT, Progress

__all__ = [
    "Added",
    "Answers",
    "Row",
    "check_growth",
    "home_row",
    "keep_row",
    "measure_and_register",
    "register_measured",
]


@dataclass(frozen=True)
class Added:
    """A version with its own evaluations; `created` is false where identical bytes were registered before.

    `evaluation` is of the rows that the task was evaluated on from the beginning, `others` of those that its
    revisions added.
    """

    version: VersionRecord
    created: bool
    evaluation: EvaluationRecord
    others: tuple[EvaluationRecord, ...] = ()


@dataclass(frozen=True)
class Answers:
    """Who answers for a task: the version that gives the head, and the one that gives the weights under it."""

    version: VersionRecord
    state: VersionRecord


@dataclass(frozen=True)
class Row:
    """A row of a score matrix, beside the cells of what was added.

    `arm` is the id of the arm's run, null for the home's own growth; `index` is the step, null for the next one.
    `others` answer for the other tasks.
    `cells` are evaluations of other tasks that were made already, by task. `base_unchanged` is null where the arm
    trains a copy of the base. With `audit`, what answers under its own weights is only evaluated where an audit can't
    show that it is as it was; see `limpet.forgetting.monitor.canary_audit`.
    """

    arm: int | None
    index: int | None
    others: Sequence[Answers]
    cells: Mapping[str, int] = field(default_factory=dict)
    base_unchanged: bool | None = True
    audit: bool = False


def measure_and_register(
    store: Store,
    backbone: Backbone,
    draft: VersionDraft,
    *,
    files: Mapping[str, Path],
    progress: Progress = SILENT,
) -> Added:
    """Score a learned adapter on its evaluation split, register it with that score; keep the evaluation and a probe.

    Raises:
        IntegrityError: A file does not fit the base, an answer is not finite, or the base was changed.
    """
    measured_draft, measured = measure_candidate(store, backbone, draft, files=files, progress=progress)
    return register_measured(store, backbone, measured_draft, files=files, measured=measured)


def register_measured(
    store: Store, backbone: Backbone, draft: VersionDraft, *, files: Mapping[str, Path], measured: Sequence[Measured]
) -> Added:
    """Register what `measure_candidate` has measured, and keep the evaluation and a probe.

    Raises:
        IntegrityError: A file does not fit the base, an answer is not finite, or the base was changed.
    """
    inputs = reference_outputs.reference_inputs(store, tasks.of_version(store, draft))
    outputs = reference_outputs.compute(
        backbone, draft.method, files, inputs=inputs, max_length=int(draft.config["max_length"])
    )
    backbone.check_untouched()
    version, created = versions.register(store, draft, files, outputs=outputs)
    first, *others = (record_evaluation(store, backbone, version, state=version, measured=part) for part in measured)
    return Added(version, created, first, tuple(others))


def keep_row(
    store: Store, backbone: Backbone, added: Sequence[Added], *, row: Row, progress: Progress = SILENT
) -> StepRecord:
    """Evaluate or audit everything that answers for another task, and keep the row; the last of `added` names the
    step.

    A version that no longer answers, under its own weights, as it did has an open alarm afterwards.

    Raises:
        IntegrityError: A file is corrupt, or the base was changed.
    """
    evaluations = _look_back(store, backbone, row, progress=progress)
    # what still answers for a task that was learned again is evaluated too; the row has the new version
    cells = {evaluation.task: evaluation.id for evaluation in evaluations}
    cells |= {one.version.task: one.evaluation.id for one in added}
    backbone.check_untouched()
    newest = added[-1].version
    # the home's growth goes on only with a row that is whole
    arm = _home_arm(store, backbone, newest.task) if row.arm is None else row.arm
    return streams.add_step(
        store,
        arm,
        index=row.index,
        version=newest.reference,
        base_unchanged=row.base_unchanged,
        row={**cells, **row.cells},
    )


def _look_back(store: Store, backbone: Backbone, row: Row, *, progress: Progress) -> list[EvaluationRecord]:
    """Return an evaluation of what answers for each other task, on the rows that it was evaluated on first."""
    evaluations = []
    contents = read_contents(store)
    if row.audit and row.others:
        # what every audit rests on, so every byte is read
        backbone.check_unchanged()
    for answers in row.others:
        version = answers.version
        # a stream goes on with the data that it began with; a home looks at what its tasks are now
        task = tasks.get(store, version.task) if row.arm is None else tasks.of_version(store, version)
        if row.audit and answers.state == version:
            parts = carry_or_evaluate(store, backbone, version, task=task, read=contents, progress=progress)
            evaluations.append(parts[0])
            continue
        parts = evaluate_parts(store, backbone, version, state=answers.state, part=Part(task=task), progress=progress)
        evaluations.append(parts[0])
        for evaluation in parts:
            if note := hold_against_reference(store, evaluation, contents):
                progress.note(note)
    return evaluations


def home_row(store: Store, backbone: Backbone, new: VersionRecord, *, mode: MonitorMode) -> Row:
    """Return the next row of the home's own growth: every version on this base that answers for a task now.

    What still answers for the new version's task is one of those that the addition must not have touched. In the mode
    `off` there are no others: the row has the addition's own cell, and nothing where nothing was evaluated.
    """
    if mode == "off":
        return Row(None, None, ())
    others = [
        Answers(version, version)
        for version in versions.current(store)
        if version.reference != new.reference and version.base_digest == backbone.record.digest
    ]
    return Row(None, None, others, audit=mode == "audit")


def _home_arm(store: Store, backbone: Backbone, task: str) -> int:
    """Return the id of the arm of the home's own growth, with this task among its stream's."""
    streams.extend(store, streams.HOME_STREAM, task, base_digest=backbone.record.digest)
    draft = ArmDraft("isolated", strategy="isolated", method="any", seed=0, settings={})
    return streams.arm_run(store, streams.HOME_STREAM, draft).id


def check_growth(store: Store, backbone: Backbone) -> None:
    """Find out before training that the home grows on another base: scores on two bases are no one matrix.

    Raises:
        ConflictError: The home's growth began on another base.
    """
    for stream in streams.list_all(store):
        if stream.name == streams.HOME_STREAM and stream.base_digest != backbone.record.digest:
            raise ConflictError(
                f"This home has grown on the base {stream.base_digest[:19]}..., and its base is now "
                f"{backbone.record.digest[:19]}...",
                "limpet init --home FOLDER --base SPEC makes a home for the other base",
            )
