"""Alarms: a version was found that no longer answers as it did, until somebody accepts that with a reason.

Alarms and what resolved them are events of the log alone: nobody can take one away, and no check that passes later
does. A version without an open alarm is held against the evaluation made when it was registered, or against the one
that somebody accepted last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, IntegrityError, NotFoundError
from limpet.registry.database.schema import LogEventRow
from limpet.registry.records import log
from limpet.registry.records.rows import current_names, find_version, subjects
from limpet.registry.store import Store
from limpet.registry.system.text_checks import check_reason, without_stop

__all__ = [
    "Alarm",
    "accept",
    "accepted_evaluations",
    "check_no_alarm",
    "nothing_to_accept",
    "open_alarm",
    "open_alarms",
    "sound",
]

_ALARM, _ACCEPT = "alarm", "accept"
_NEWEST_FIRST = LogEventRow.id.desc()


@dataclass(frozen=True)
class Alarm:
    """A version that no longer answers as it did: since when, who found it, and what was found, in a sentence.

    `evaluation` is the id of the evaluation that showed it, `reference` that of the one it was held against.
    """

    version: str
    created_at: str
    actor: str
    detail: str
    evaluation: int
    reference: int

    def sentence(self) -> str:
        """Return what is wrong, and since when."""
        return f"{self.version} has an open alarm of {self.created_at[:10]}: {without_stop(self.detail)}."


def sound(store: Store, version: str, *, evaluation: int, reference: int, detail: str) -> Alarm:
    """Raise an alarm about a version; while one is open, that one is returned.

    Args:
        store: The open home.
        version: The version, as `task@1`.
        evaluation: The id of the evaluation that shows that it answers otherwise.
        reference: The id of the evaluation that it was held against.
        detail: What differs, and why, in a sentence.

    Raises:
        NotFoundError: There is no such version.
    """
    with store.database.write("alarm") as session:
        find_version(session, version, deleted=True)
        if (alarm := _open(session, version)) is None:
            content = {"evaluation": evaluation, "reference": reference, "detail": detail}
            log.record(session, _ALARM, version, detail=content)
            alarm = _open(session, version)
        assert alarm is not None
        return alarm


def accept(store: Store, version: str, *, evaluations: Sequence[int], reason: str) -> None:
    """Resolve the open alarm of a version: what it answers now is what it is held against from here on.

    Args:
        store: The open home.
        version: The version, as `task@1`.
        evaluations: The ids of the evaluations that have its answers now, one for each evaluation split of its task.
        reason: Why, for the log.

    Raises:
        ConflictError: The version has no open alarm.
        NotFoundError: There is no such version.
        UsageError: There is no reason.
    """
    reason = check_reason(reason, needed=True)
    with store.database.write("accept") as session:
        find_version(session, version)
        if _open(session, version) is None:
            raise nothing_to_accept(version)
        first, *others = evaluations
        detail = {"evaluation": first, "reason": reason} | ({"others": others} if others else {})
        log.record(session, _ACCEPT, version, detail=detail)


def nothing_to_accept(version: str) -> ConflictError:
    """Return the error of accepting what nobody found."""
    return ConflictError(f"{version} has no open alarm to accept.", f"limpet evaluate {version} --audit")


def check_no_alarm(store: Store, references: Iterable[str]) -> None:
    """Check that no version of some has an open alarm.

    Raises:
        IntegrityError: One or more have; each is named.
    """
    wanted = set(references)
    found = [alarm for alarm in open_alarms(store) if alarm.version in wanted]
    if found:
        raise IntegrityError(
            " ".join(alarm.sentence() for alarm in found),
            "mend what the alarm names; then, or to accept what it answers now: "
            f"limpet evaluate {found[0].version} --accept --reason TEXT",
        )


def accepted_evaluations(store: Store, version: str) -> tuple[int, ...]:
    """Return the ids of the evaluations that somebody accepted last for a version, one for each split; or none."""
    with store.database.read() as session:
        row = _newest(session, version, (_ACCEPT,))
        return () if row is None else (int(row.detail["evaluation"]), *map(int, row.detail.get("others", ())))


def open_alarm(store: Store, version: str) -> Alarm | None:
    """Return the open alarm of a version; null where it has none."""
    with store.database.read() as session:
        return _open(session, version)


def open_alarms(store: Store) -> tuple[Alarm, ...]:
    """Return the open alarms of all versions that are not deleted, in the order in which they were raised."""
    newest: dict[str, LogEventRow] = {}
    query = select(LogEventRow).where(LogEventRow.action.in_((_ALARM, _ACCEPT))).order_by(LogEventRow.id)
    with store.database.read() as session:
        renamed = current_names(session)
        for row in session.scalars(query):
            task, _, number = row.subject.partition("@")
            newest[f"{renamed.get(task, task)}@{number}"] = row
        return tuple(
            _alarm(row, version)
            for version, row in newest.items()
            if row.action == _ALARM and _is_live(session, version)
        )


def _open(session: Session, version: str) -> Alarm | None:
    row = _newest(session, version, (_ALARM, _ACCEPT))
    return _alarm(row, version) if row is not None and row.action == _ALARM else None


def _newest(session: Session, version: str, actions: Sequence[str]) -> LogEventRow | None:
    """Return the newest event about a version, under every name that its task has had."""
    about = LogEventRow.subject.in_(subjects(session, version))
    query = select(LogEventRow).where(about, LogEventRow.action.in_(actions))
    return session.scalar(query.order_by(_NEWEST_FIRST).limit(1))


def _is_live(session: Session, version: str) -> bool:
    try:
        find_version(session, version)
    except NotFoundError:
        return False
    return True


def _alarm(row: LogEventRow, version: str) -> Alarm:
    found = (row.detail[key] for key in ("detail", "evaluation", "reference"))
    return Alarm(version, row.created_at, row.actor, *found)
