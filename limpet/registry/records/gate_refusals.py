"""The gate rules that a version crossed; such a version is kept, but never promoted."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.names import Reference
from limpet.registry.database.schema import GateRefusalRow
from limpet.registry.records import log
from limpet.registry.records.rows import find_version, references
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_now

__all__ = ["GateRefusal", "for_version", "record", "refusals_of"]


@dataclass(frozen=True)
class GateRefusal:
    """One rule that a version crossed, and by how much."""

    rule: str
    detail: str
    created_at: str


def record(store: Store, version: str | Reference, rule: str, *, detail: str) -> GateRefusal:
    """Keep that a version crossed a rule of the gate; the same rule and detail again is returned as it is.

    Args:
        store: The open home.
        version: The version, as `task@n`.
        rule: The rule's name, such as `max_forgetting`.
        detail: The number that crossed it and the limit, in words.

    Raises:
        NotFoundError: There is no such version.
    """
    with store.database.write("refuse") as session:
        row = find_version(session, version)
        for known in refusals_of(session, row.id):
            if (known.rule, known.detail) == (rule, detail):
                return known
        refusal = GateRefusal(rule, detail, utc_now())
        session.add(GateRefusalRow(version_id=row.id, rule=rule, detail=detail, created_at=refusal.created_at))
        log.record(session, "refuse", references(session, [row.id])[row.id], detail={"rule": rule, "detail": detail})
        return refusal


def for_version(store: Store, ref: str | Reference) -> tuple[GateRefusal, ...]:
    """Return every refusal of a version, oldest first.

    Raises:
        NotFoundError: There is no such version.
    """
    with store.database.read() as session:
        return refusals_of(session, find_version(session, ref).id)


def refusals_of(session: Session, version_id: int) -> tuple[GateRefusal, ...]:
    """Return every refusal of the version with this row id, oldest first."""
    query = select(GateRefusalRow).where(GateRefusalRow.version_id == version_id).order_by(GateRefusalRow.id)
    return tuple(GateRefusal(row.rule, row.detail, row.created_at) for row in session.scalars(query))
