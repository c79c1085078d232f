"""The bases that a home knows, by fingerprint."""

from __future__ import annotations

from dataclasses import asdict, fields

from sqlalchemy import select

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.registry.database.schema import BaseRow
from limpet.registry.records import log
from limpet.registry.store import Store
from limpet.registry.values import BaseRecord

__all__ = ["add", "get", "list_all"]


def add(store: Store, record: BaseRecord) -> BaseRecord:
    """Keep a base; adding it again returns what was kept first.

    Raises:
        IntegrityError: The name is kept with another fingerprint: the files behind it were changed.
    """
    with store.database.write("base") as session:
        row = session.scalar(select(BaseRow).where(BaseRow.name == record.name))
        if row is None:
            row = BaseRow(**asdict(record))
            session.add(row)
            session.flush()
            log.record(session, "base add", row.name, detail={"digest": row.digest})
        elif row.digest != record.digest:
            raise IntegrityError(
                f"The base {record.name!r} has the fingerprint {record.digest} now, but this home knows it "
                f"as {row.digest}: its files were changed.",
                "restore the files, or add the changed model under another name",
            )
        return _record(row)


def get(store: Store, name_or_digest: str | None = None) -> BaseRecord:
    """Return a base.

    Args:
        store: The open home.
        name_or_digest: The SPEC it was added by, or its fingerprint; null means the home's base: the one in
            its settings, else the only one there is.

    Raises:
        NotFoundError: There is no such base, or none at all.
        UsageError: The home has several bases and its settings name none.
    """
    wanted = name_or_digest or store.settings.base
    with store.database.read() as session:
        if wanted is not None:
            column = BaseRow.digest if wanted.startswith("sha256:") else BaseRow.name
            rows = session.scalars(select(BaseRow).where(column == wanted).order_by(BaseRow.id).limit(1)).all()
        else:
            rows = session.scalars(select(BaseRow).order_by(BaseRow.id).limit(2)).all()
    if not rows and wanted and not name_or_digest:
        raise NotFoundError(
            f"The base {wanted!r} of this home was not fetched yet; the first training does it.",
            f"to have it now: limpet base add {wanted}",
        )
    if not rows:
        name = repr(wanted) if wanted else "yet"
        raise NotFoundError(f"There is no base {name} in this home.", f"limpet base add {wanted or 'sample:minilm'}")
    if len(rows) > 1:
        raise UsageError(
            "This home has several bases and its settings name none of them.",
            f"set base = {rows[0].name!r} in {store.path / 'limpet.toml'}, or LIMPET_BASE",
        )
    return _record(rows[0])


def list_all(store: Store) -> tuple[BaseRecord, ...]:
    """Return every base, in the order they were added."""
    with store.database.read() as session:
        return tuple(_record(row) for row in session.scalars(select(BaseRow).order_by(BaseRow.id)))


def _record(row: BaseRow) -> BaseRecord:
    return BaseRecord(**{field.name: getattr(row, field.name) for field in fields(BaseRecord)})
