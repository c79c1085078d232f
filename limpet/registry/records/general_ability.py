"""Abilities: what ability tasks found, on the base alone and under versions' weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import IntegrityError, UsageError
from limpet.registry.database.schema import AbilityRow
from limpet.registry.formats.canonical import digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import log
from limpet.registry.records.rows import (
    environments_of,
    find_version,
    measured_fields,
    measurement_columns,
    references,
)
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.values import AbilityDraft, AbilityRecord

__all__ = ["add", "find"]


def add(store: Store, draft: AbilityDraft) -> AbilityRecord:
    """Keep what an ability task found; where it was found before, that record is returned.

    Raises:
        NotFoundError: A version is unknown.
        IntegrityError: The answers are not in the blob store.
        ConflictError: A gc took the answers away meanwhile.
        UsageError: The score is not a finite number.
    """
    if not math.isfinite(draft.score):
        raise UsageError(
            f"The {draft.metric} of an ability task is {draft.score}, and no finite number.",
            "train with a smaller lr, or take the ability task out of the stream file",
        )
    if not store.blobs.exists(draft.predictions_digest):
        raise IntegrityError("The answers of an ability task are not stored.", "run the stream again")
    probe_digest = digest_json(draft.probe)
    with recording(store, "ability", [draft.predictions_digest]) as session:
        earlier = _find(
            session, probe_digest, draft.base_digest, head=draft.head, state=draft.state, after=draft.after
        )
        if earlier is not None:
            return _records(session, [earlier])[0]
        row = AbilityRow(
            **measurement_columns(session, draft),
            probe=draft.probe,
            probe_digest=probe_digest,
            head_version_id=_id(session, draft.head),
            state_version_id=_id(session, draft.state),
            after_version_id=_id(session, draft.after),
        )
        session.add(row)
        session.flush()
        ability = _records(session, [row])[0]
        log.record(
            session,
            "ability",
            ability.state or "base",
            detail={"ability": row.id, "metric": draft.metric, "score": float(draft.score)},
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
            **measured_fields(row, environments),
            probe=row.probe,
            probe_digest=row.probe_digest,
            head=None if row.head_version_id is None else named[row.head_version_id],
            state=None if row.state_version_id is None else named[row.state_version_id],
            after=None if row.after_version_id is None else named[row.after_version_id],
        )
        for row in rows
    )
