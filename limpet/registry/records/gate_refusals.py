"""The gate rules that a version crossed; where they speak of its promotion, they bar it until it was judged anew."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from limpet.names import Reference
from limpet.registry.database.schema import GateRefusalRow
from limpet.registry.records import log
from limpet.registry.records.rows import find_version, references
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_now

__all__ = ["GateRefusal", "bars", "bars_of", "for_version", "lift_bars", "record"]


@dataclass(frozen=True)
class GateRefusal:
    """One rule that a version crossed, and by how much.

    `bars` says whether the version may not be promoted for it; a rule that was set for one experiment bars nothing.
    `max_forgetting` is the limit that a promotion was asked for under, where it is not the home's own. `lifted_at` is
    when the version was judged anew and passed; null while the bar stands.
    """

    rule: str
    detail: str
    created_at: str
    bars: bool = True
    max_forgetting: float | None = None
    lifted_at: str | None = None


def record(
    store: Store,
    version: str | Reference,
    rule: str,
    *,
    detail: str,
    bars: bool = True,
    max_forgetting: float | None = None,
) -> GateRefusal:
    """Keep that a version crossed a rule of the gate; the same again, while it stands, is returned as it is.

    Args:
        store: The open home.
        version: The version, as `task@n`.
        rule: The rule's name, such as `max_forgetting`.
        detail: The number that crossed it and the limit, in words.
        bars: Whether it may not be promoted for it.
        max_forgetting: The limit on forgetting that its promotion was asked for under, where it is not the home's.

    Raises:
        NotFoundError: There is no such version.
    """
    with store.database.write("refuse") as session:
        row = find_version(session, version)
        for known in _refusals(session, _of(row.id)):
            if (known.rule, known.detail, known.bars, known.lifted_at) == (rule, detail, bars, None):
                return known
        refusal = GateRefusal(rule, detail, utc_now(), bars, max_forgetting)
        session.add(GateRefusalRow(version_id=row.id, **vars(refusal)))
        told = {"rule": rule, "detail": detail, "bars": bars}
        log.record(session, "refuse", references(session, [row.id])[row.id], detail=told)
        return refusal


def for_version(store: Store, ref: str | Reference) -> tuple[GateRefusal, ...]:
    """Return every rule that a version crossed, oldest first.

    Raises:
        NotFoundError: There is no such version.
    """
    with store.database.read() as session:
        return _refusals(session, _of(find_version(session, ref, deleted=True).id))


def bars(store: Store, ref: str | Reference) -> tuple[GateRefusal, ...]:
    """Return what bars a version from being promoted, oldest first.

    Raises:
        NotFoundError: There is no such version.
    """
    with store.database.read() as session:
        return bars_of(session, find_version(session, ref).id)


def bars_of(session: Session, version_id: int) -> tuple[GateRefusal, ...]:
    """Return what bars the version with this row id, oldest first."""
    return _refusals(session, _barring(version_id))


def lift_bars(session: Session, version_id: int) -> None:
    """Note that a version was judged anew and passed, in a transaction that writes: nothing bars it any more."""
    rows = session.scalars(_barring(version_id)).all()
    for row in rows:
        row.lifted_at = utc_now()
    if rows:
        told = {"rules": [row.rule for row in rows]}
        log.record(session, "lift", references(session, [version_id])[version_id], detail=told)


def _of(version_id: int) -> Select[GateRefusalRow]:
    return select(GateRefusalRow).where(GateRefusalRow.version_id == version_id).order_by(GateRefusalRow.id)


def _barring(version_id: int) -> Select[GateRefusalRow]:
    # before schema 0005 every rule barred
    bars = or_(GateRefusalRow.bars.is_(None), GateRefusalRow.bars.is_(True))
    return _of(version_id).where(bars, GateRefusalRow.lifted_at.is_(None))


def _refusals(session: Session, query: Select[GateRefusalRow]) -> tuple[GateRefusal, ...]:
    return tuple(
        GateRefusal(row.rule, row.detail, row.created_at, row.bars is not False, row.max_forgetting, row.lifted_at)
        for row in session.scalars(query)
    )
