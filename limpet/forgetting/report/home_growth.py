"""The growth of a home: what answers for each task after each addition, and which version took whose place.

A home has one row for each addition and one column for each task. What answers for a task is the version under
`production`, else the newest adapter; so a worse version of the same task is a fall of its column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from limpet.forgetting.monitor.kept_predictions import ReadPredictions
from limpet.forgetting.monitor.rescoring import rescored
from limpet.forgetting.report.arm_runs import ArmRunEvidence
from limpet.registry import versions
from limpet.registry.records import evaluations, streams, tasks
from limpet.registry.records.rows import PRODUCTION
from limpet.registry.store import Store
from limpet.registry.values import AliasEvent, ArmRun, EvaluationRecord, StepRecord, StreamRecord, VersionRecord
from limpet.registry.versions import alias_history

__all__ = ["Growth", "Succession", "candidate", "home_growth"]


@dataclass(frozen=True)
class Succession:
    """A version that took another's place; `answers` is false while it is only about to."""

    task: str
    old: str
    new: str
    answers: bool = True


@dataclass(frozen=True)
class Growth:
    """A home's additions in order; for each of them, by task, the version that answered until the next one.

    `own` are the runs of the home's own arm: those after whose steps the monitor looks back.
    """

    arm: ArmRun
    additions: tuple[StepRecord, ...]
    answering: tuple[Mapping[str, str], ...]
    successions: tuple[Succession, ...]
    own: frozenset[int] = frozenset()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks in the order in which they were added first."""
        return tuple(dict.fromkeys(step.task for step in self.additions))

    def since(self, task: str) -> int:
        """Return the first row from which on the version of a task that answers now has answered without a break."""
        row = len(self.answering) - 1
        while row and self.answering[row - 1].get(task) == self.answering[-1].get(task):
            row -= 1
        return row

    def evidence(self, store: Store, read: ReadPredictions) -> ArmRunEvidence:
        """Return the growth as the evidence of an arm.

        Raises:
            NotFoundError: A version is unknown.
        """
        made = tuple(versions.look_up(store, step.version) for step in self.additions)
        answering = tuple(versions.look_up(store, self.answering[-1][task]) for task in self.tasks)
        # what was learned by several methods is no arm of one method
        arm = replace(self.arm, method="+".join(sorted({version.method for version in answering})))
        # where labels were corrected since, all rows are held against what is right now
        anew = {task: rescored(store, tasks.get(store, task)) for task in self.tasks}
        rows = (self._row(store, index) for index in range(len(self.additions)))
        cells = tuple(tuple(cell and _scored_anew(store, cell, anew[cell.task]) for cell in row) for row in rows)
        since = tuple(map(self.since, self.tasks))
        return ArmRunEvidence(arm, self.tasks, cells, made, read, answering, since)

    def _row(self, store: Store, index: int) -> tuple[EvaluationRecord | None, ...]:
        step, answering = self.additions[index], self.answering[index]
        following = self.additions[index + 1].created_at if index + 1 < len(self.additions) else None
        own = step.arm_run in self.own
        return tuple(
            _cell(store, step, answering[task], own=own, before=following) if task in answering else None
            for task in self.tasks
        )


def home_growth(store: Store, stream: StreamRecord, added: VersionRecord | None = None) -> Growth | None:
    """Return the growth of a home; null where nothing was added, or nothing of it answers any more.

    Args:
        store: The open home.
        stream: The stream of the home's own growth.
        added: Counts as what answers for its task now, whatever the aliases say: the gate judges an addition before
            it is promoted.
    """
    current = {version.task: version.reference for version in versions.current(store)}
    answers_now = current if added is None else current | {added.task: added.reference}
    moves = {task: _moves(store, task) for task in current}
    additions = tuple(step for step in _additions(store, stream, answers_now, moves=moves) if step.task in current)
    if not additions:
        return None
    arm = next(run for run in _isolated(store, stream) if run.id == additions[-1].arm_run)
    home_runs = streams.arm_runs(store, stream.name)
    answering = _answering(additions, {run.id for run in home_runs}, moves, now=answers_now)
    successions = [
        Succession(task, *pair)
        for task in answering[-1]
        for pair in _pairs(_chain(additions, task, moves[task], now=current[task]))
    ]
    waiting = candidate(store) if added is None else added
    if waiting is not None and waiting.reference != current[waiting.task]:
        successions.append(Succession(waiting.task, current[waiting.task], waiting.reference, answers=False))
    own = frozenset(run.id for run in home_runs)
    return Growth(home_runs[0] if home_runs else arm, additions, answering, tuple(successions), own)


def candidate(store: Store) -> VersionRecord | None:
    """Return the newest addition where it does not answer for its task yet, and nobody has decided against it.

    An alias `production` that was moved since the addition is such a decision.
    """
    if all(stream.name != streams.HOME_STREAM for stream in streams.list_all(store)):
        return None
    steps = [step for run in streams.arm_runs(store, streams.HOME_STREAM) for step in streams.steps(store, run.id)]
    if not steps:
        return None
    newest = steps[-1]
    moves = _moves(store, newest.task)
    version = versions.look_up(store, newest.version)
    answers = versions.resolve(store, newest.task).reference if version.deleted is None else newest.version
    decided = any(move.created_at > newest.created_at for move in moves)
    return None if answers == newest.version or decided else version


def _moves(store: Store, task: str) -> tuple[AliasEvent, ...]:
    return alias_history.moves(store, task, PRODUCTION)


def _isolated(store: Store, stream: StreamRecord) -> list[ArmRun]:
    return [
        arm
        for other in streams.list_all(store)
        if other.base_digest == stream.base_digest
        for arm in streams.arm_runs(store, other.name)
        if arm.strategy == "isolated"
    ]


def _additions(
    store: Store, stream: StreamRecord, now: Mapping[str, str], *, moves: Mapping[str, Sequence[AliasEvent]]
) -> list[StepRecord]:
    """The home's own steps, and those of streams whose version came to answer; the first of each version, in time.

    Learning the same again gives the version that there is, and adds nothing.
    """
    own = {run.id for run in streams.arm_runs(store, stream.name)}
    every = [step for arm in _isolated(store, stream) for step in streams.steps(store, arm.id)]
    evaluated = {cell.version for step in every if step.arm_run in own for cell in step.row.values()}
    promoted = {f"{task}@{move.to_number}" for task, events in moves.items() for move in events if move.to_number}
    answered = evaluated | promoted | set(now.values())
    first: dict[str, StepRecord] = {}
    for step in sorted(every, key=lambda step: step.created_at):
        if step.arm_run in own or step.version in answered:
            first.setdefault(step.version, step)
    return list(first.values())


def _answering(
    additions: Sequence[StepRecord],
    own: set[int],
    moves: Mapping[str, Sequence[AliasEvent]],
    *,
    now: Mapping[str, str],
) -> tuple[Mapping[str, str], ...]:
    """For each addition what answered for each task so far, just before the next addition; at the end, now."""
    rows: list[Mapping[str, str]] = []
    answers: dict[str, str] = {}
    newest: dict[str, str] = {}
    for step, following in zip(additions, (*additions[1:], None), strict=True):
        # the monitor evaluated what answered then; a stream evaluates its own versions, whatever the home answers
        seen = {task: cell.version for task, cell in step.row.items()} if step.arm_run in own else {}
        answers |= {task: version for task, version in seen.items() if task in answers} | {step.task: step.version}
        newest[step.task] = step.version
        for task in answers:
            if following is not None and (last := _last_move(moves.get(task, ()), following.created_at)):
                # an alias that was taken off leaves the answers to the newest
                answers[task] = newest[task] if last.to_number is None else f"{task}@{last.to_number}"
        rows.append(dict(answers))
    return (*rows[:-1], {task: now[task] for task in answers})


def _last_move(moves: Iterable[AliasEvent], before: str) -> AliasEvent | None:
    """The last move of `production` before a time; null where it was not set yet."""
    made = [move for move in moves if move.created_at < before]
    return made[-1] if made else None


def _chain(additions: Sequence[StepRecord], task: str, moves: Sequence[AliasEvent], *, now: str) -> list[str]:
    """Every version that has answered for a task, in time: the one under `production`, without it the newest."""
    chain: list[str] = []
    newest, is_set = None, False
    moments: list[tuple[str, AliasEvent | StepRecord]] = [(move.created_at, move) for move in moves]
    moments += [(step.created_at, step) for step in additions if step.task == task]
    # of a move and an addition in the same moment, the move comes first
    for _, moment in sorted(moments, key=lambda timed: timed[0]):
        if isinstance(moment, StepRecord):
            newest = moment.version
            answering = None if is_set else newest
        else:
            is_set = moment.to_number is not None
            answering = f"{task}@{moment.to_number}" if is_set else newest
        if answering is not None:
            chain.append(answering)
    return [*chain, now]


def _pairs(chain: Sequence[str]) -> Iterator[tuple[str, str]]:
    return ((old, new) for old, new in pairwise(chain) if old != new)


def _cell(store: Store, step: StepRecord, version: str, *, own: bool, before: str | None) -> EvaluationRecord | None:
    """The evaluation of what answered at a step: the step's own, else the newest one that there was by then.

    After a step of the home's own, what the monitor did not ask was not evaluated, unless somebody did it since. What
    came to answer otherwise, as by a promotion, stands by the evaluation that it had.
    """
    task = version.partition("@")[0]
    cell = step.row.get(task)
    if cell is not None and cell.version == version:
        return cell
    data = tasks.get(store, task).split("evaluation").digest
    after = step.created_at if own and cell is None else ""
    known = evaluations.full(store, version, version)
    return next(
        (
            one
            for one in known
            if one.data_digest == data and one.created_at >= after and (before is None or one.created_at < before)
        ),
        None,
    )


def _scored_anew(store: Store, cell: EvaluationRecord, anew: Mapping[int, EvaluationRecord]) -> EvaluationRecord:
    """Return a cell by the labels that are right now, where they were corrected since."""
    if cell.kind != "carried" or not anew:
        return anew.get(cell.id, cell)
    known = evaluations.full(store, cell.version, cell.state, split=cell.split)
    ground = next((one for one in known if one.predictions_digest == cell.predictions_digest), None)
    now = None if ground is None else anew.get(ground.id)
    if now is None:
        return cell
    return replace(cell, score=now.score, predictions_digest=now.predictions_digest, data_digest=now.data_digest)
