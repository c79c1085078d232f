"""Retention: which adapters the policy lets go. Each rule that is set must agree, and what is in use stays."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from limpet.registry.database.schema import AliasRow, ArmRunRow, StepRow, StreamRow, TaskRow, VersionRow
from limpet.registry.records.policy import Policy, policy_of
from limpet.registry.records.streams import HOME_STREAM
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_ago
from limpet.registry.versions.aliases import rollback_targets
from limpet.registry.versions.deletion import bury

__all__ = ["apply", "describe", "expired"]

_DAY = 24 * 60 * 60
# one write transaction lasts no longer than this many tombstones
_BATCH = 500


def expired(session: Session) -> list[int]:
    """Return the row ids of the adapters that the policy lets go, oldest first; none where it has no rule.

    An adapter goes if it is beyond the newest `keep_last` of its task and older than `keep_days`, of the rules that
    are set. It stays if an alias stands there or would by a rollback, if it is the newest of its task, if a step of a
    stream made it (other than of the home's own growth), or if a version that stays was trained from it.
    """
    policy = policy_of(session)
    if policy.keep_last is None and policy.keep_days is None:
        return []
    spared = rollback_targets(session)
    version_ids = {id_ for id_ in session.scalars(_beyond(policy)) if id_ not in spared}
    parents = select(VersionRow.id, VersionRow.parent_id).where(
        VersionRow.parent_id.is_not(None), VersionRow.deleted_at.is_(None)
    )
    lineage = session.execute(parents).all()
    while needed := {parent for child, parent in lineage if child not in version_ids and parent in version_ids}:
        version_ids -= needed
    return sorted(version_ids)


def describe(session: Session, ids: Sequence[int]) -> dict[str, int]:
    """Return `task@n` with its bytes for each row id, in their order."""
    found: dict[str, int] = {}
    for start in range(0, len(ids), _BATCH):
        rows = session.execute(
            select(TaskRow.name, VersionRow.number, VersionRow.size)
            .join(TaskRow, TaskRow.id == VersionRow.task_id)
            .where(VersionRow.id.in_(ids[start : start + _BATCH]))
            .order_by(VersionRow.id)
        )
        found.update({f"{task}@{number}": size for task, number, size in rows})
    return found


def apply(store: Store) -> dict[str, int]:
    """Delete what the policy lets go, with a tombstone each.

    Returns:
        The versions as `task@n`, with the bytes of each.
    """
    gone: dict[str, int] = {}
    while True:
        with store.database.write("gc") as session:
            # found anew in each transaction: an alias may have moved meanwhile
            ids = expired(session)[:_BATCH]
            named, why = describe(session, ids), _reason(policy_of(session))
            for id_, reference in zip(ids, named, strict=True):
                bury(session, session.get_one(VersionRow, id_), reference, reason=why)
        gone |= named
        if len(ids) < _BATCH:
            return gone


def _beyond(policy: Policy) -> Select[int]:
    place = func.row_number().over(partition_by=VersionRow.task_id, order_by=VersionRow.number.desc())
    ranked = (
        select(VersionRow.id, VersionRow.created_at, place.label("place"))
        .where(VersionRow.role == "adapter", VersionRow.deleted_at.is_(None))
        .subquery()
    )
    evidence = (
        select(StepRow.version_id)
        .join(ArmRunRow, ArmRunRow.id == StepRow.arm_run_id)
        .join(StreamRow, StreamRow.id == ArmRunRow.stream_id)
        .where(StreamRow.name != HOME_STREAM)
    )
    query = select(ranked.c.id).where(
        # the newest is what a bare name means where nothing was promoted
        ranked.c.place > (policy.keep_last or 1),
        ranked.c.id.not_in(select(AliasRow.version_id)),
        ranked.c.id.not_in(evidence),
    )
    if policy.keep_days is not None:
        query = query.where(ranked.c.created_at < utc_ago(policy.keep_days * _DAY))
    return query


def _reason(policy: Policy) -> str:
    rules = []
    if policy.keep_last is not None:
        rules.append(f"beyond the newest {policy.keep_last}")
    if policy.keep_days is not None:
        rules.append(f"older than {policy.keep_days} days")
    return f"retention: {' and '.join(rules)}"
