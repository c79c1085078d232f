"""What the mirror remembers in the registry: which thing is which in MLflow, and what was sent of it."""

from __future__ import annotations

from sqlalchemy import select

from limpet.registry.database.schema import MirrorItemRow, TaskRow, VersionRow
from limpet.registry.records.rows import names_of, subjects
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_now

__all__ = ["REGISTERED", "find", "forget_all", "keep", "names", "unsent_versions"]

REGISTERED = "registered:"
"""What stands before a version's reference in the key of its entry in MLflow's model registry."""


def find(store: Store, key: str) -> tuple[str, str] | None:
    """Return the MLflow id of a thing and the digest of what was sent; None if it was never sent whole."""
    with store.database.read() as session:
        row = session.get(MirrorItemRow, key)
        return None if row is None else (row.mlflow_id, row.content_digest)


def names(store: Store, name: str) -> tuple[str, ...]:
    """Return `news@3`, or `news`, by each name that its task had: what MLflow was told stays under the first."""
    # asked anew each time: a sync takes minutes, in which a task may be renamed
    with store.database.read() as session:
        return subjects(session, name)


def keep(store: Store, key: str, mlflow_id: str, *, content_digest: str) -> None:
    """Remember that a thing is in MLflow as `mlflow_id`, with the content of this digest."""
    with store.database.write() as session:
        session.merge(MirrorItemRow(key=key, mlflow_id=mlflow_id, content_digest=content_digest, synced_at=utc_now()))


def forget_all(store: Store, but: str) -> None:
    """Forget everything except the item `but`: the mirror is elsewhere now, or is to be checked whole."""
    with store.database.write() as session:
        session.query(MirrorItemRow).filter(MirrorItemRow.key != but).delete()


def unsent_versions(store: Store) -> list[str]:
    """Return the references of the versions that were never sent, oldest first; a deleted one is not due."""
    versions = (
        select(TaskRow.name, TaskRow.former_names, VersionRow.number)
        .join(VersionRow, VersionRow.task_id == TaskRow.id)
        .where(VersionRow.deleted_at.is_(None), TaskRow.removed_at.is_(None))
        .order_by(VersionRow.id)
    )
    with store.database.read() as session:
        sent = set(session.scalars(select(MirrorItemRow.key).where(MirrorItemRow.key.startswith(REGISTERED))))
        found = session.execute(versions).all()
    return [
        f"{task}@{number}"
        for task, former, number in found
        if f"{REGISTERED}{names_of(task, former)[0]}@{number}" not in sent
    ]
