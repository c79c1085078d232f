"""Abilities: what ability tasks found, on the base alone and under versions' weights."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import IntegrityError, UsageError
from limpet.registry.database.schema import AbilityRow
from limpet.registry.formats.canonical import digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import log
from limpet.registry.records.rows import environment_id, environments_of, find_version, references
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.system.clock import utc_now
from limpet.registry.values import AbilityRecord, Environment

__all__ = ["add", "find"]


def add(
    store: Store,
    *,
    probe: JsonObject,
    head: str | None,
    state: str | None,
    after: str | None,
    metric: str,
    score: float,
    examples: int,
    predictions_digest: str,
    logits_digest: str,
    plan_digest: str,
    base_digest: str,
    environment: Environment,
    seconds: float,
) -> AbilityRecord:
    """Keep what an ability task found; where it was found before, that record is returned.

    Args:
        store: The open home.
        probe: What was asked, and on which data.
        head: The version whose head answered, as `task@n`; null where no version's did.
        state: The version whose weights were on the base; null for the base alone.
        after: The version that had been taken off the base before; null where nothing had been learned.
        metric: The metric's name.
        score: What all examples come to.
        examples: How many examples there are.
        predictions_digest: The blob of canonical JSON with the answers, stored already.
        logits_digest: The digest of all outputs' bytes in plan order.
        plan_digest: The digest of the batch plan.
        base_digest: The fingerprint of the base.
        environment: Where it ran.
        seconds: How long it took.

    Raises:
        NotFoundError: A version is unknown.
        IntegrityError: The answers are not in the blob store.
        ConflictError: A gc took the answers away meanwhile.
        UsageError: The score is not a finite number.
    """
    if not abs(score) < float("inf"):
        raise UsageError(
            f"The {metric} of an ability task is {score}, and no finite number.",
            "train with a smaller lr, or take the ability task out of the stream file",
        )
    if not store.blobs.exists(predictions_digest):
        raise IntegrityError("The answers of an ability task are not stored.", "run the stream again")
    with recording(store, "ability", [predictions_digest]) as session:
        known = _find(session, digest_json(probe), base_digest, head=head, state=state, after=after)
        if known is not None:
            return _records(session, [known])[0]
        row = AbilityRow(
            probe=probe,
            probe_digest=digest_json(probe),
            head_version_id=_id(session, head),
            state_version_id=_id(session, state),
            after_version_id=_id(session, after),
            metric=metric,
            score=score,
            examples=examples,
            predictions_digest=predictions_digest,
            logits_digest=logits_digest,
            plan_digest=plan_digest,
            base_digest=base_digest,
            environment_id=environment_id(session, environment),
            seconds=seconds,
            created_at=utc_now(),
        )
        session.add(row)
        session.flush()
        ability = _records(session, [row])[0]
        log.record(
            session,
            "ability",
            ability.state or "base",
            detail={"ability": row.id, "metric": metric, "score": float(score)},
        )
        return ability


def find(
    store: Store,
    probe: JsonObject,
    base_digest: str,
    *,
    head: str | None = None,
    state: str | None = None,
    after: str | None = None,
) -> AbilityRecord | None:
    """Return what an ability task found on this base, under these versions; null where it was not asked yet."""
    with store.database.read() as session:
        row = _find(session, digest_json(probe), base_digest, head=head, state=state, after=after)
        return None if row is None else _records(session, [row])[0]


def _id(session: Session, reference: str | None) -> int | None:
    # what was found under a version that is deleted since stays evidence
    return None if reference is None else find_version(session, reference, deleted=True).id


def _find(
    session: Session, probe_digest: str, base_digest: str, *, head: str | None, state: str | None, after: str | None
) -> AbilityRow | None:
    return session.scalar(
        select(AbilityRow)
        .where(
            AbilityRow.probe_digest == probe_digest,
            AbilityRow.base_digest == base_digest,
            AbilityRow.head_version_id.is_not_distinct_from(_id(session, head)),
            AbilityRow.state_version_id.is_not_distinct_from(_id(session, state)),
            AbilityRow.after_version_id.is_not_distinct_from(_id(session, after)),
        )
        .order_by(AbilityRow.id)
        .limit(1)
    )


def _records(session: Session, rows: Sequence[AbilityRow]) -> tuple[AbilityRecord, ...]:
    ids = {id_ for row in rows for id_ in (row.head_version_id, row.state_version_id, row.after_version_id)}
    named = references(session, [id_ for id_ in ids if id_ is not None])
    environments = environments_of(session, rows)
    return tuple(
        AbilityRecord(
            id=row.id,
            probe=row.probe,
            probe_digest=row.probe_digest,
            head=None if row.head_version_id is None else named[row.head_version_id],
            state=None if row.state_version_id is None else named[row.state_version_id],
            after=None if row.after_version_id is None else named[row.after_version_id],
            metric=row.metric,
            score=row.score,
            examples=row.examples,
            predictions_digest=row.predictions_digest,
            logits_digest=row.logits_digest,
            plan_digest=row.plan_digest,
            base_digest=row.base_digest,
            environment=environments[row.environment_id],
            seconds=row.seconds,
            created_at=row.created_at,
        )
        for row in rows
    )
