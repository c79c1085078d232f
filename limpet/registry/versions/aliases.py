"""Aliases: movable names on versions, moved by compare-and-set, with a history that is never lost."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased

from limpet.errors import ConflictError, GateError, NotFoundError, UsageError
from limpet.names import Reference, check_alias
from limpet.registry.database.schema import AliasEventRow, AliasRow, TaskRow, VersionRow
from limpet.registry.records import log
from limpet.registry.records.gate_refusals import refusals_of
from limpet.registry.records.policy import policy_of
from limpet.registry.records.rows import find_task, find_version, parse, tombstone_of
from limpet.registry.store import Store
from limpet.registry.system.actor import current_actor
from limpet.registry.system.clock import utc_now
from limpet.registry.system.text_checks import check_reason
from limpet.registry.values import AliasEvent, Page

__all__ = [
    "Judged",
    "check_unprotected",
    "history",
    "history_page",
    "promote",
    "rollback",
    "rollback_targets",
    "rollback_to",
]

_LARGEST_PAGE = 1000
# moves that a rollback reads at once, from the newest back: mostly the first one says where it goes
_UNDONE_BUFFER = 100


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
    actor: str | None = None,
    judged: Judged | None = None,
) -> AliasEvent:
    """Move an alias to a version; where it stands there already, the move that brought it is returned.

    Args:
        store: The open home.
        ref: The version to move it to.
        alias: The alias, such as `production`.
        expect: Where the alias must stand now: `task@2`, or `none` for not set; null means anywhere.
        reason: Why, for the history.
        actor: Who, for the history; null means the user that runs this.
        judged: What the gate has judged; null where it was not asked.

    Raises:
        ConflictError: The alias stands elsewhere than expected or than when the gate judged, the version is a
            baseline, or the alias is protected and moves only with an expectation and a reason.
        GateError: The version crossed a rule of the gate.
        NotFoundError: There is no such version.
        UsageError: The alias is `latest` or a number, `expect` has another form, or the reason can't be shown.
    """
    reference, reason = parse(ref), check_reason(reason)
    check_alias(alias)
    expected = _parse_expect(expect, reference.task)
    with store.database.write("promote") as session:
        task = find_task(session, reference.task)
        version = find_version(session, reference)
        stands = _stands(session, task, alias)
        _check_expected(task, alias, stands, expect=expect, expected=expected)
        _check_judged(task, alias, stands, judged=judged)
        _refuse(session, task, version, accepted=judged is not None and judged.accepted is not None)
        if stands is not None and stands.id == version.id:
            return _newest_move(session, task, alias)
        _check_protection(
            session,
            task,
            alias,
            stands=stands,
            move=f"promote {task.name}@{version.number}",
            expect=expect,
            reason=reason,
        )
        return _move(
            session, task, alias, action="promote", version=version, reason=reason, actor=actor, judged=judged
        )


def rollback(
    store: Store,
    task: str,
    alias: str,
    *,
    reason: str = "",
    actor: str | None = None,
    expect: str | None = None,
    judged: Judged | None = None,
) -> AliasEvent:
    """Move an alias back to where it stood before the last promote that is not rolled back yet.

    Args:
        store: The open home.
        task: The task.
        alias: The alias.
        reason: Why, for the history.
        actor: Who, for the history; null means the user that runs this.
        expect: Where the alias must stand now, as `task@2`; null means anywhere.
        judged: What the gate has judged; null where it was not asked.

    Raises:
        ConflictError: There is nothing before it, the version before was deleted, the alias stands elsewhere than
            expected or than when the gate judged, or it is protected and moves only with an expectation and a reason.
        NotFoundError: There is no such task or alias.
    """
    check_alias(alias)
    reason, expected = check_reason(reason), _parse_expect(expect, task)
    with store.database.write("rollback") as session:
        row = find_task(session, task)
        stands = _standing(session, row, alias)
        _check_expected(row, alias, stands, expect=expect, expected=expected)
        _check_judged(row, alias, stands, judged=judged)
        version = _before(session, row, alias)
        _check_protection(session, row, alias, stands=stands, move=f"rollback {task}", expect=expect, reason=reason)
        return _move(
            session, row, alias, action="rollback", version=version, reason=reason, actor=actor, judged=judged
        )


def rollback_to(store: Store, task: str, alias: str) -> str:
    """Return the version that a rollback of an alias would go to, as `task@1`.

    Raises:
        ConflictError: There is nothing before it, or the version before was deleted.
        NotFoundError: There is no such task or alias.
    """
    check_alias(alias)
    with store.database.read() as session:
        row = find_task(session, task)
        _standing(session, row, alias)
        return f"{task}@{_before(session, row, alias).number}"


def _standing(session: Session, task: TaskRow, alias: str) -> VersionRow:
    stands = _stands(session, task, alias)
    if stands is None:
        raise NotFoundError(f"The task {task.name!r} has no alias {alias!r}.", f"limpet adapter history {task.name}")
    return stands


def _before(session: Session, task: TaskRow, alias: str) -> VersionRow:
    """Return the version that a rollback of an alias goes to."""
    before = _undone(session, task.id, alias)
    if before is None:
        raise ConflictError(
            f"The alias {task.name}@{alias} can't go back: no version stood there before this one.",
            f"limpet adapter promote {task.name}@N {alias}",
        )
    version = session.get_one(VersionRow, before)
    if tombstone := tombstone_of(version):
        raise ConflictError(
            f"The alias {task.name}@{alias} can't go back to {task.name}@{version.number}, which was deleted by "
            f"{tombstone.actor} on {tombstone.created_at[:10]}: {tombstone.reason}.",
            f"limpet adapter promote {task.name}@N {alias}",
        )
    return version


def rollback_targets(session: Session) -> set[int]:
    """Return the row ids of the versions that a rollback of some alias would go to."""
    standing = session.execute(select(AliasRow.task_id, AliasRow.name)).all()
    return {before for task_id, alias in standing if (before := _undone(session, task_id, alias)) is not None}


def history(store: Store, task: str, alias: str | None = None) -> tuple[AliasEvent, ...]:
    """Return every move of a task's aliases, or of one of them, oldest first.

    Raises:
        NotFoundError: There is no such task.
    """
    moves: list[AliasEvent] = []
    cursor = None
    while True:
        page = history_page(store, task, alias, limit=_LARGEST_PAGE, cursor=cursor)
        moves += page.items
        if (cursor := page.cursor) is None:
            return tuple(moves)


def history_page(
    store: Store, task: str, alias: str | None = None, *, limit: int = 50, cursor: str | None = None
) -> Page[AliasEvent]:
    """Return a page of the moves of a task's aliases, or of one of them, oldest first.

    Args:
        store: The open home.
        task: The task.
        alias: Only the moves of this alias.
        limit: Moves on a page, 1 to 1000.
        cursor: The cursor of the page before.

    Raises:
        NotFoundError: There is no such task.
        UsageError: The limit or the cursor has another form.
    """
    if not 1 <= limit <= _LARGEST_PAGE:
        raise UsageError(f"A page can't have {limit} moves.", f"choose --limit from 1 to {_LARGEST_PAGE}")
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise UsageError(f"{cursor!r} is not a cursor.", "use the cursor that the page before printed")
    with store.database.read() as session:
        row = find_task(session, task)
        query = _moves(row).where(AliasEventRow.id > int(cursor or 0)).order_by(AliasEventRow.id).limit(limit + 1)
        if alias is not None:
            query = query.where(AliasEventRow.alias == alias)
        found = session.execute(query).all()
    more = len(found) > limit
    return Page(tuple(_event(row, move) for move in found[:limit]), str(found[limit - 1].id) if more else None)


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


def _stands(session: Session, task: TaskRow, alias: str) -> VersionRow | None:
    pointer = session.get(AliasRow, (task.id, alias))
    return None if pointer is None else session.get_one(VersionRow, pointer.version_id)


def _check_expected(
    task: TaskRow, alias: str, stands: VersionRow | None, *, expect: str | None, expected: int | None
) -> None:
    if expect is not None and expected != (stands.number if stands else None):
        now = f"stands at {task.name}@{stands.number}" if stands else "is not set"
        raise ConflictError(
            f"The alias {task.name}@{alias} {now}, not as expected ({expect}): somebody moved it.",
            f"limpet adapter history {task.name}",
        )


def _check_judged(task: TaskRow, alias: str, stands: VersionRow | None, *, judged: Judged | None) -> None:
    if judged is not None and judged.stands != (stands.number if stands else None):
        raise ConflictError(
            f"The alias {task.name}@{alias} was moved by somebody while the gate judged.",
            f"limpet adapter history {task.name}, then run the command again",
        )


def _check_protection(
    session: Session,
    task: TaskRow,
    alias: str,
    *,
    stands: VersionRow | None,
    move: str,
    expect: str | None,
    reason: str,
) -> None:
    if (expect is not None and reason) or alias not in policy_of(session).protected_aliases:
        return
    now = f"{task.name}@{stands.number}" if stands else "none"
    raise ConflictError(
        f"The alias {task.name}@{alias} is protected: it moves only with --expect and --reason.",
        f"limpet adapter {move} {alias} --expect {now} --reason TEXT",
    )


def _refuse(session: Session, task: TaskRow, version: VersionRow, *, accepted: bool) -> None:
    if version.role != "adapter":
        raise ConflictError(
            f"{task.name}@{version.number} is a baseline of a comparison, not an adapter to promote.",
            f"limpet adapter list --task {task.name} --where 'role = adapter'",
        )
    if not accepted and (refusals := refusals_of(session, version.id)):
        raise GateError(
            f"{task.name}@{version.number} crossed the gate's rule {refusals[0].rule}: {refusals[0].detail}",
            "train another version, or on purpose: "
            f"limpet adapter promote {task.name}@{version.number} ALIAS --accept --reason TEXT",
        )


def _move(
    session: Session,
    task: TaskRow,
    alias: str,
    *,
    action: Literal["promote", "rollback"],
    version: VersionRow,
    reason: str,
    actor: str | None,
    judged: Judged | None,
) -> AliasEvent:
    pointer = session.get(AliasRow, (task.id, alias))
    before = None if pointer is None else pointer.version_id
    if pointer is None:
        session.add(AliasRow(task_id=task.id, name=alias, version_id=version.id))
    else:
        pointer.version_id = version.id
    session.add(
        AliasEventRow(
            task_id=task.id,
            alias=alias,
            action=action,
            from_version_id=before,
            to_version_id=version.id,
            actor=actor or current_actor(),
            reason=reason,
            created_at=utc_now(),
        )
    )
    session.flush()
    event = _newest_move(session, task, alias)
    detail: dict[str, object] = {"from": event.from_number, "to": event.to_number, "reason": reason}
    if judged is not None and judged.accepted is not None:
        detail["accepted"] = {"replaced": judged.replaced, "rules": list(judged.accepted)}
    log.record(session, action, f"{task.name}@{alias}", detail=detail, actor=event.actor)
    return event


def _moves(task: TaskRow) -> Select[Any]:
    """Return the query for the moves of a task's aliases, with the numbers of their versions."""
    before, after = aliased(VersionRow), aliased(VersionRow)
    row = AliasEventRow
    columns: tuple[Any, ...] = (row.id, row.alias, row.action, row.actor, row.reason, row.created_at)
    numbers: tuple[Any, ...] = (before.number.label("from_number"), after.number.label("to_number"))
    return (
        select(*columns, *numbers)
        .outerjoin(before, before.id == row.from_version_id)
        .join(after, after.id == row.to_version_id)
        .where(row.task_id == task.id)
    )


def _newest_move(session: Session, task: TaskRow, alias: str) -> AliasEvent:
    # one step in an index, however often the alias was moved
    query = _moves(task).where(AliasEventRow.alias == alias).order_by(AliasEventRow.id.desc()).limit(1)
    return _event(task, session.execute(query).one())


def _event(task: TaskRow, move: Any) -> AliasEvent:
    return AliasEvent(
        task=task.name,
        alias=move.alias,
        action="rollback" if move.action == "rollback" else "promote",
        from_number=move.from_number,
        to_number=move.to_number,
        actor=move.actor,
        reason=move.reason,
        created_at=move.created_at,
    )


def _undone(session: Session, task_id: int, alias: str) -> int | None:
    """Return the row id of the version that the last promote came from, of those that no rollback has undone.

    Each rollback undoes one promote before it, so from the newest move back few are read of a long history.
    """
    query = (
        select(AliasEventRow.action, AliasEventRow.from_version_id)
        .where(AliasEventRow.task_id == task_id, AliasEventRow.alias == alias)
        .order_by(AliasEventRow.id.desc())
        .execution_options(yield_per=_UNDONE_BUFFER)
    )
    rollbacks = 0
    with closing(session.execute(query)) as moves:
        for action, before in moves:
            if action != "promote":
                rollbacks += 1
            elif rollbacks:
                rollbacks -= 1
            else:
                return int(before) if before is not None else None
    return None
