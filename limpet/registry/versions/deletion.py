"""Deletion of versions: a tombstone with who, when and why; the files go at a later `gc`."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, UsageError
from limpet.names import Reference
from limpet.registry.database.schema import AliasRow, VersionRow
from limpet.registry.records import log
from limpet.registry.records.rows import find_version, parse, version_records
from limpet.registry.store import Store
from limpet.registry.system.actor import current_actor
from limpet.registry.system.clock import utc_now
from limpet.registry.system.text_checks import check_reason
from limpet.registry.values import Tombstone, VersionRecord

__all__ = ["bury", "check_deletable", "delete"]


def delete(store: Store, ref: str | Reference, reason: str) -> VersionRecord:
    """Delete a version: its number stays taken, its record and evaluations stay to be read, its files go at a `gc`.

    Deleted once more for the same reason, it is returned as it is.

    Args:
        store: The open home.
        ref: The version by its number, `task@3`: what another name means may change until the call arrives.
        reason: Why, for those who look for it later.

    Raises:
        ConflictError: An alias stands at the version.
        NotFoundError: There is no such version, or it was deleted before for another reason.
        UsageError: The reason is empty, or the reference is no number.
    """
    reference, reason = _by_number(ref), check_reason(reason, needed=True)
    with store.database.write("delete") as session:
        row = _to_delete(session, reference, reason)
        if row.deleted_at is None:
            bury(session, row, str(reference), reason=reason)
        return version_records(session, [row])[0]


def check_deletable(store: Store, ref: str | Reference, reason: str) -> VersionRecord:
    """Return the version as `delete` would leave it, and change nothing; raises what `delete` would raise."""
    reference, reason = _by_number(ref), check_reason(reason, needed=True)
    with store.database.read() as session:
        record = version_records(session, [_to_delete(session, reference, reason)])[0]
    return record if record.deleted else replace(record, deleted=Tombstone(utc_now(), current_actor(), reason))


def bury(session: Session, row: VersionRow, reference: str, *, reason: str) -> None:
    """Leave a tombstone for a version that no alias stands at, in a transaction that writes."""
    row.deleted_at, row.deleted_by, row.deleted_because = utc_now(), current_actor(), reason
    log.record(session, "delete", reference, detail={"digest": row.digest, "reason": reason}, actor=row.deleted_by)


def _by_number(ref: str | Reference) -> Reference:
    reference = parse(ref)
    if reference.number is None:
        raise UsageError(
            f"{str(reference)!r} names no version by its number, and what it means may change meanwhile.",
            f"limpet adapter list --task {reference.task}, then: limpet adapter delete {reference.task}@N",
        )
    return reference


def _to_delete(session: Session, reference: Reference, reason: str) -> VersionRow:
    row = find_version(session, reference, deleted=True)
    # a command that died after its commit is typed again
    if row.deleted_because == reason:
        return row
    row = find_version(session, reference)
    names = session.scalars(select(AliasRow.name).where(AliasRow.version_id == row.id).order_by(AliasRow.name)).all()
    if names:
        aliases = ", ".join(f"{reference.task}@{name}" for name in names)
        raise ConflictError(
            f"{reference} can't be deleted: {aliases} {'stands' if len(names) == 1 else 'stand'} there.",
            f"limpet adapter promote {reference.task}@N {names[0]}, or to leave it unset: "
            f"limpet adapter unpromote {reference.task} {names[0]} --reason TEXT",
        )
    return row
