"""Aliases: movable names on versions, moved and taken off by compare-and-set; their history is never lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, GateError, NotFoundError, UsageError
from limpet.names import Reference, check_alias
from limpet.registry.database.schema import AliasEventRow, AliasRow, TaskRow, VersionRow
from limpet.registry.records import log
from limpet.registry.records.gate_refusals import bars_of, lift_bars
from limpet.registry.records.policy import policy_of
from limpet.registry.records.rows import find_task, find_version, parse, tombstone_of
from limpet.registry.store import Store
from limpet.registry.system.actor import current_actor
from limpet.registry.system.clock import utc_now
from limpet.registry.system.text_checks import check_reason, without_stop
from limpet.registry.values import AliasEvent
from limpet.registry.versions.alias_history import newest_move, undone

__all__ = [
    "Judged",
    "check_unprotected",
    "promote",
    "rollback",
    "rollback_targets",
    "rollback_to",
    "unpromote",
]


@dataclass(frozen=True)
class _Pointer:
    """An alias under the write lock: its task, its name, and the version on which it stands, null for none."""

    task: TaskRow
    name: str
    stands: VersionRow | None

    @property
    def number(self) -> int | None:
        return None if self.stands is None else self.stands.number

    def __str__(self) -> str:
        return f"{self.task.name}@{self.name}"


@dataclass(frozen=True)
class _Terms:
    """On which terms an alias moves: where it must stand (null for anywhere), why, and what the gate has judged."""

    expect: str | None
    reason: str
    judged: Judged | None


@dataclass(frozen=True)
class Judged:
    """What the gate has judged before a move: it holds for this move and no other.

    `stands` is the number of the version under the alias then, null for none. `replaced` is the version whose place
    the other takes, as `task@1`, and `accepted` has the rules that this crosses, where somebody accepts on purpose
    what it loses; null where nobody does.
    """

    stands: int | None
    replaced: str | None = None
    accepted: tuple[str, ...] | None = None


def promote(
    store: Store,
    ref: str | Reference,
    alias: str,
    *,
    expect: str | None = None,
    reason: str = "",
    judged: Judged | None = None,
) -> AliasEvent:
    """Move an alias to a version; where it stands there already, the move that brought it is returned.

    Args:
        store: The open home.
        ref: The version to move it to.
        alias: The alias, such as `production`.
        expect: Where the alias must stand now: `task@2`, or `none` for not set; null means anywhere.
        reason: Why, for the history.
        judged: What the gate has judged; null where it was not asked.

    Raises:
        ConflictError: The alias stands elsewhere than expected or than when the gate judged, the version is a
            baseline, or the alias is protected and moves only with an expectation and a reason.
        GateError: The version crossed a rule of the gate, and was not judged anew.
        NotFoundError: There is no such version.
        UsageError: The alias is `latest` or a number, `expect` has another form, or the reason can't be shown.
    """
    reference, terms = parse(ref), _Terms(expect, check_reason(reason), judged)
    check_alias(alias)
    expected = _parse_expect(expect, reference.task)
    with store.database.write("promote") as session:
        task = find_task(session, reference.task)
        version = find_version(session, reference)
        pointer = _pointer(session, task, alias)
        _check_where_it_stands(pointer, terms, expected)
        _refuse_baseline(task, version)
        if pointer.number == version.number:
            return newest_move(session, task, alias)
        if judged is None:
            _refuse_barred(session, task, version)
        elif judged.accepted is None:
            lift_bars(session, version.id)
        _check_protection(session, pointer, terms, move=f"promote {task.name}@{version.number}")
        return _move(session, pointer, version, action="promote", terms=terms)


def rollback(
    store: Store,
    task: str,
    alias: str,
    *,
    reason: str = "",
    expect: str | None = None,
    judged: Judged | None = None,
) -> AliasEvent:
    """Move an alias back to where it stood before the last promote or unpromote that is not rolled back yet.

    Args:
        store: The open home.
        task: The task.
        alias: The alias.
        reason: Why, for the history.
        expect: Where the alias must stand now, as `task@2`; null means anywhere.
        judged: What the gate has judged; null where it was not asked.

    Raises:
        ConflictError: There is nothing before it, the version before was deleted, the alias stands elsewhere than
            expected or than when the gate judged, or it is protected and moves only with an expectation and a reason.
        NotFoundError: There is no such task or alias.
    """
    check_alias(alias)
    terms, expected = _Terms(expect, check_reason(reason), judged), _parse_expect(expect, task)
    with store.database.write("rollback") as session:
        pointer = _pointer(session, find_task(session, task), alias)
        _check_was_set(session, pointer)
        _check_where_it_stands(pointer, terms, expected)
        version = _before(session, pointer)
        _check_protection(session, pointer, terms, move=f"rollback {task}")
        return _move(session, pointer, version, action="rollback", terms=terms)


def rollback_to(store: Store, task: str, alias: str) -> str:
    """Return the version that a rollback of an alias would go to, as `task@1`.

    Raises:
        ConflictError: There is nothing before it, or the version before was deleted.
        NotFoundError: There is no such task or alias.
    """
    check_alias(alias)
    with store.database.read() as session:
        pointer = _pointer(session, find_task(session, task), alias)
        _check_was_set(session, pointer)
        return f"{task}@{_before(session, pointer).number}"


def unpromote(store: Store, task: str, alias: str, *, reason: str, expect: str | None = None) -> AliasEvent:
    """Take an alias off its version: it is not set from then on, and a rollback sets it again.

    Taken off once more for the same reason, the move that did it is returned.

    Args:
        store: The open home.
        task: The task.
        alias: The alias.
        reason: Why, for the history.
        expect: Where the alias must stand now, as `task@2`; null means anywhere.

    Raises:
        ConflictError: The alias stands elsewhere than expected, or it is protected and there is no expectation.
        NotFoundError: There is no such task, or the alias is not set.
        UsageError: There is no reason, or `expect` has another form.
    """
    check_alias(alias)
    terms, expected = _Terms(expect, check_reason(reason, needed=True), None), _parse_expect(expect, task)
    with store.database.write("unpromote") as session:
        pointer = _pointer(session, find_task(session, task), alias)
        if pointer.stands is None:
            _check_was_set(session, pointer)
            last = newest_move(session, pointer.task, alias)
            # a command that died after its commit is typed again
            if last.reason == terms.reason:
                return last
            raise NotFoundError(
                f"The alias {pointer} is not set: {last.actor} took it off on {last.created_at[:10]}.",
                f"limpet adapter history {task} {alias}",
            )
        _check_where_it_stands(pointer, terms, expected)
        _check_protection(session, pointer, terms, move=f"unpromote {task}")
        return _move(session, pointer, None, action="unpromote", terms=terms)


def _pointer(session: Session, task: TaskRow, alias: str) -> _Pointer:
    row = session.get(AliasRow, (task.id, alias))
    return _Pointer(task, alias, None if row is None else session.get_one(VersionRow, row.version_id))


def _check_was_set(session: Session, pointer: _Pointer) -> None:
    """Refuse an alias that was never set; one that was taken off has a history."""
    known = select(AliasEventRow.id).where(
        AliasEventRow.task_id == pointer.task.id, AliasEventRow.alias == pointer.name
    )
    if pointer.stands is None and session.scalar(known.limit(1)) is None:
        raise NotFoundError(
            f"The task {pointer.task.name!r} has no alias {pointer.name!r}.",
            f"limpet adapter history {pointer.task.name}",
        )


def _before(session: Session, pointer: _Pointer) -> VersionRow:
    """Return the version that a rollback of an alias goes to."""
    task = pointer.task.name
    before = undone(session, pointer.task.id, pointer.name)
    if before is None:
        raise ConflictError(
            f"The alias {pointer} can't go back: no version stood there before this one.",
            f"limpet adapter promote {task}@N {pointer.name}",
        )
    version = session.get_one(VersionRow, before)
    if tombstone := tombstone_of(version):
        raise ConflictError(
            f"The alias {pointer} can't go back to {task}@{version.number}, which was deleted by "
            f"{tombstone.actor} on {tombstone.created_at[:10]}: {without_stop(tombstone.reason)}.",
            f"limpet adapter promote {task}@N {pointer.name}",
        )
    return version


def rollback_targets(session: Session) -> set[int]:
    """Return the row ids of the versions that a rollback of some alias would go to, set or taken off."""
    moved = session.execute(select(AliasEventRow.task_id, AliasEventRow.alias).distinct()).all()
    return {before for task_id, alias in moved if (before := undone(session, task_id, alias)) is not None}


def _parse_expect(expect: str | None, task: str) -> int | None:
    if expect is None or expect == "none":
        return None
    reference = parse(expect)
    if reference.task != task or reference.number is None:
        raise UsageError(f"{expect!r} names no version of {task!r}.", f"write --expect {task}@2, or --expect none")
    return reference.number


def check_unprotected(store: Store, task: str, alias: str) -> None:
    """Find out before work begins that its end could not move an alias, because it is protected.

    Raises:
        ConflictError: The alias is protected.
        UsageError: The alias is `latest` or a number.
    """
    check_alias(alias)
    with store.database.read() as session:
        if alias in policy_of(session).protected_aliases:
            raise ConflictError(
                f"The alias {alias} is protected: it moves only by hand, with an expectation and a reason.",
                f"leave it out, then: limpet adapter promote {task}@N {alias} --expect {task}@M --reason TEXT",
            )


def _check_where_it_stands(pointer: _Pointer, terms: _Terms, expected: int | None) -> None:
    """Refuse a move from another place than the one that was expected, or that the gate has seen."""
    if terms.expect is not None and expected != pointer.number:
        now = "is not set" if pointer.number is None else f"stands at {pointer.task.name}@{pointer.number}"
        raise ConflictError(
            f"The alias {pointer} {now}, not as expected ({terms.expect}): somebody moved it.",
            f"limpet adapter history {pointer.task.name}",
        )
    if terms.judged is not None and terms.judged.stands != pointer.number:
        raise ConflictError(
            f"The alias {pointer} was moved by somebody while the gate judged.",
            f"limpet adapter history {pointer.task.name}, then run the command again",
        )


def _check_protection(session: Session, pointer: _Pointer, terms: _Terms, *, move: str) -> None:
    if (terms.expect is not None and terms.reason) or pointer.name not in policy_of(session).protected_aliases:
        return
    now = "none" if pointer.number is None else f"{pointer.task.name}@{pointer.number}"
    raise ConflictError(
        f"The alias {pointer} is protected: it moves only with --expect and --reason.",
        f"limpet adapter {move} {pointer.name} --expect {now} --reason TEXT",
    )


def _refuse_baseline(task: TaskRow, version: VersionRow) -> None:
    if version.role != "adapter":
        raise ConflictError(
            f"{task.name}@{version.number} is a baseline of a comparison, not an adapter to promote.",
            f"limpet adapter list --task {task.name} --where 'role = adapter'",
        )


def _refuse_barred(session: Session, task: TaskRow, version: VersionRow) -> None:
    if bars := bars_of(session, version.id):
        raise GateError(
            f"{task.name}@{version.number} crossed the gate's rule {bars[0].rule}: {bars[0].detail}",
            "train another version, or on purpose: "
            f"limpet adapter promote {task.name}@{version.number} ALIAS --accept --reason TEXT",
        )


def _move(
    session: Session,
    pointer: _Pointer,
    version: VersionRow | None,
    *,
    action: Literal["promote", "rollback", "unpromote"],
    terms: _Terms,
) -> AliasEvent:
    """Let an alias stand at a version, or nowhere."""
    if version is None:
        session.delete(session.get_one(AliasRow, (pointer.task.id, pointer.name)))
    else:
        session.merge(AliasRow(task_id=pointer.task.id, name=pointer.name, version_id=version.id))
    session.add(
        AliasEventRow(
            task_id=pointer.task.id,
            alias=pointer.name,
            action=action,
            from_version_id=None if pointer.stands is None else pointer.stands.id,
            to_version_id=None if version is None else version.id,
            actor=current_actor(),
            reason=terms.reason,
            created_at=utc_now(),
        )
    )
    session.flush()
    event = newest_move(session, pointer.task, pointer.name)
    detail: dict[str, object] = {"from": event.from_number, "to": event.to_number, "reason": terms.reason}
    if terms.judged is not None and terms.judged.accepted is not None:
        detail["accepted"] = {"replaced": terms.judged.replaced, "rules": list(terms.judged.accepted)}
    log.record(session, action, str(pointer), detail=detail, actor=event.actor)
    return event
