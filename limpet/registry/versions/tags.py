"""Tags of versions: names with values that people set, change and take away; every change is in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import NotFoundError
from limpet.names import Reference, check_name
from limpet.registry.database.schema import VersionTagRow
from limpet.registry.records import log
from limpet.registry.records.rows import find_version, references
from limpet.registry.store import Store
from limpet.registry.system.text_checks import check_text

__all__ = ["change", "get"]

_LONGEST = 256


def get(store: Store, ref: str | Reference) -> dict[str, str]:
    """Return the tags of a version, by name; of one that was deleted too.

    Raises:
        NotFoundError: There is no such version.
    """
    with store.database.read() as session:
        return _tags(session, find_version(session, ref, deleted=True).id)


def change(
    store: Store,
    ref: str | Reference,
    values: Mapping[str, str],
    *,
    remove: Sequence[str] = (),
) -> dict[str, str]:
    """Set some tags of a version and take others away, all of them or none.

    Args:
        store: The open home.
        ref: The version.
        values: The tags to set, by name; one that is there gets the new value.
        remove: The names of those to take away.

    Returns:
        All tags of the version.

    Raises:
        NotFoundError: There is no such version, or a tag to take away is not there.
        UsageError: A name is not on the allow-list, or a value can't be kept.
    """
    wanted = {check_name("tag", name): check_text("tag", value, _LONGEST) for name, value in values.items()}
    with store.database.write("tag") as session:
        row = find_version(session, ref)
        reference = references(session, [row.id])[row.id]
        before = _tags(session, row.id)
        if unknown := [name for name in remove if name not in before]:
            raise NotFoundError(f"{reference} has no tag {unknown[0]!r}.", f"limpet adapter show {reference}")
        after = {name: value for name, value in before.items() if name not in remove} | wanted
        for name in before.keys() - after.keys():
            session.delete(session.get_one(VersionTagRow, (row.id, name)))
        for name, value in after.items():
            session.merge(VersionTagRow(version_id=row.id, name=name, value=value))
        if after != before:
            changed = {name: after.get(name) for name in before.keys() | after.keys()}
            detail = {name: value for name, value in changed.items() if value != before.get(name)}
            log.record(session, "tag", reference, detail=detail)
        session.flush()
        return _tags(session, row.id)


def _tags(session: Session, version_id: int) -> dict[str, str]:
    query = select(VersionTagRow.name, VersionTagRow.value).where(VersionTagRow.version_id == version_id)
    return dict(session.execute(query.order_by(VersionTagRow.name)).all())
