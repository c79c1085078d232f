"""What serves: for each task the version that answers, its score, how it came to answer, and the gate's last word.

It is read from the database alone, in a handful of queries however many tasks there are. The report of a home, its
dashboard and its status all open on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from limpet.registry.database.schema import GateRefusalRow, LogEventRow, TaskRow, VersionRow
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import tasks
from limpet.registry.records.alarms import Alarm, open_alarms
from limpet.registry.records.rows import PRODUCTION, batched, current_names
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.registry.versions.listing import current

__all__ = ["Change", "GateOutcome", "TaskInService", "serving_summary"]

# what the log calls the ways in which a version comes to answer; those of `production` stand under the alias
_ADDED = ("register", "import")
_VERBS = {
    "register": "registered",
    "import": "imported",
    "promote": "promoted",
    "rollback": "rolled back",
    "unpromote": "production taken away",
}


@dataclass(frozen=True)
class Change:
    """How what answers for a task came to answer: what was done, when, by whom, and why.

    `action` is the log's word for it: `promote`, `rollback` and `unpromote` move `production`; without that, the
    version that was added last answers (`register`, `import`). `before` is the version that answered under
    `production` until then, null where none did.
    """

    action: str
    created_at: str
    actor: str
    reason: str
    before: str | None

    def sentence(self) -> str:
        """Return what was done, when, by whom, and why if somebody said so."""
        verb = _VERBS.get(self.action, self.action)
        instead = f" in place of {self.before}" if self.before else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{verb} {self.created_at[:10]} by {self.actor}{instead}{why}"


@dataclass(frozen=True)
class GateOutcome:
    """The last rule that a version of a task crossed.

    `accepted` is why it was promoted all the same, empty if it was not; `passed_at` is when it was judged anew and
    passed, null where it was not.
    """

    version: str
    rule: str
    detail: str
    created_at: str
    accepted: str = ""
    passed_at: str | None = None

    def sentence(self) -> str:
        """Return which version crossed what, when, and whether it passed later or was accepted."""
        passed = f", and passed on {self.passed_at[:10]}" if self.passed_at else ""
        accepted = f" (accepted: {self.accepted})" if self.accepted else ""
        return f"{self.version} crossed {self.rule} on {self.created_at[:10]}{passed}{accepted}"


@dataclass(frozen=True)
class TaskInService:
    """A task and what serves it.

    `version` answers for the task, null where nothing was learned yet; with `promoted` it stands under `production`,
    else it is the newest adapter. `gate` is null where no version of the task ever crossed a rule. `alarm` is the
    version's own, if one is open.
    """

    task: str
    type: str
    metric: str
    version: VersionRecord | None
    promoted: bool
    change: Change | None
    gate: GateOutcome | None
    alarm: Alarm | None

    @property
    def score(self) -> float | None:
        """What the version scored when it joined the home; null where it was not evaluated."""
        return None if self.version is None else self.version.metrics.get("score")

    def to_json(self) -> JsonObject:
        """Return it as commands print it: the version by its name, and null for what there is not."""
        return {
            "task": self.task,
            "type": self.type,
            "version": self.version.reference if self.version else None,
            "promoted": self.promoted,
            "metric": self.metric,
            "score": self.score,
            "change": asdict(self.change) if self.change else None,
            "gate": asdict(self.gate) if self.gate else None,
            "alarm": asdict(self.alarm) if self.alarm else None,
        }


def serving_summary(store: Store) -> tuple[TaskInService, ...]:
    """Return every task of a home with what serves it, in the order in which the tasks were added.

    Args:
        store: The open home.

    Raises:
        IntegrityError: The manifest of a version that answers was changed.
    """
    answering = {version.task: version for version in current(store)}
    alarms = {alarm.version: alarm for alarm in open_alarms(store)}
    records = tasks.list_all(store)
    with store.database.read() as session:
        moves = _newest_events(session, [f"{task.name}@{PRODUCTION}" for task in records])
        additions = _newest_events(session, [version.reference for version in answering.values()], _ADDED)
        refusals = _newest_refusals(session)
    summary = []
    for task in records:
        version = answering.get(task.name)
        move = moves.get(f"{task.name}@{PRODUCTION}")
        added = additions.get(version.reference) if version else None
        promoted = version is not None and PRODUCTION in version.aliases
        # without the alias the newest adapter answers: since it was added, or since the alias was taken away
        newest = move if promoted else max(filter(None, (move, added)), key=lambda event: event.id, default=None)
        change = _change(task.name, newest) if version and newest else None
        gate = _gate(task.name, refusals.get(task.name), move)
        alarm = alarms.get(version.reference) if version else None
        definition = task.definition
        summary.append(
            TaskInService(task.name, definition.type, definition.metric, version, promoted, change, gate, alarm)
        )
    return tuple(summary)


def _newest_events(session: Session, subjects: Sequence[str], actions: Iterable[str] = ()) -> dict[str, LogEventRow]:
    """Return the newest event about each subject, of some actions if any are named."""
    former: dict[str, list[str]] = {}
    for name, current_name in current_names(session).items():
        former.setdefault(current_name, []).append(name)
    # of a task that was renamed, events before that are under the name of their time
    meant = {subject: subject for subject in subjects}
    for subject in subjects if former else ():
        task, at, rest = subject.partition("@")
        meant |= {f"{name}{at}{rest}": subject for name in former.get(task, ())}
    events: dict[str, LogEventRow] = {}
    for some in batched(meant):
        newest = select(func.max(LogEventRow.id)).where(LogEventRow.subject.in_(some)).group_by(LogEventRow.subject)
        if actions:
            newest = newest.where(LogEventRow.action.in_(tuple(actions)))
        for row in session.scalars(select(LogEventRow).where(LogEventRow.id.in_(newest))):
            subject = meant[row.subject]
            if subject not in events or events[subject].id < row.id:
                events[subject] = row
    return events


def _newest_refusals(session: Session) -> dict[str, GateOutcome]:
    """Return for each task the rule that a version of it crossed last; a task without one is absent."""
    newest = (
        select(func.max(GateRefusalRow.id))
        .join(VersionRow, VersionRow.id == GateRefusalRow.version_id)
        .group_by(VersionRow.task_id)
    )
    query = (
        select(TaskRow.name, VersionRow.number, GateRefusalRow)
        .join(VersionRow, VersionRow.id == GateRefusalRow.version_id)
        .join(TaskRow, TaskRow.id == VersionRow.task_id)
        .where(GateRefusalRow.id.in_(newest))
    )
    return {
        task: GateOutcome(f"{task}@{number}", row.rule, row.detail, row.created_at, passed_at=row.lifted_at)
        for task, number, row in session.execute(query)
    }


def _change(task: str, event: LogEventRow) -> Change:
    before = event.detail.get("from")
    return Change(
        action=event.action,
        created_at=event.created_at,
        actor=event.actor,
        reason=event.detail.get("reason") or "",
        before=None if before is None else f"{task}@{before}",
    )


def _gate(task: str, refusal: GateOutcome | None, move: LogEventRow | None) -> GateOutcome | None:
    """Return the gate's last word: a rule that was crossed, or accepted by the move of `production` after it."""
    accepted = move.detail.get("accepted") if move is not None else None
    if move is None or not accepted or (refusal is not None and refusal.created_at > move.created_at):
        return refusal
    version = f"{task}@{move.detail['to']}"
    detail = refusal.detail if refusal is not None and refusal.version == version else ""
    return GateOutcome(
        version, ", ".join(accepted["rules"]), detail, move.created_at, move.detail.get("reason") or "on purpose"
    )
