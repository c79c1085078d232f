"""What the mirror remembers in the registry: which thing is which in MLflow, and what was sent of it."""

from __future__ import annotations

from limpet.registry.database.schema import MirrorItemRow
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_now

__all__ = ["find", "forget_all", "keep"]


def find(store: Store, key: str) -> tuple[str, str] | None:
    """Return the MLflow id of a thing and the digest of what was sent; None if it was never sent whole."""
    with store.database.read() as session:
        row = session.get(MirrorItemRow, key)
        return None if row is None else (row.mlflow_id, row.content_digest)


def keep(store: Store, key: str, mlflow_id: str, *, content_digest: str) -> None:
    """Remember that a thing is in MLflow as `mlflow_id`, with the content of this digest."""
    with store.database.write() as session:
        session.merge(MirrorItemRow(key=key, mlflow_id=mlflow_id, content_digest=content_digest, synced_at=utc_now()))


def forget_all(store: Store, but: str) -> None:
    """Forget everything except the item `but`: the mirror is elsewhere now, or is to be checked whole."""
    with store.database.write() as session:
        session.query(MirrorItemRow).filter(MirrorItemRow.key != but).delete()
