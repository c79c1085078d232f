"""What somebody gives as data: a SPEC, a path, rows of Python, or the SPEC of rows that were given before."""

from __future__ import annotations

import os

from limpet.errors import IntegrityError, NotFoundError
from limpet.registry.store import Store
from limpet.registry.store.referenced_blobs import rows_digests
from limpet.training.data.reading.memory import Rows, parse_rows, rows_of

__all__ = ["given_data"]


def given_data(store: Store, data: object) -> str | Rows:
    """Return data as a task is requested with it; rows that were given before are read from the home.

    Raises:
        NotFoundError: The home does not have the rows that a SPEC names.
        UsageError: It is none of the forms that are understood.
        DataError: There are no rows.
    """
    if isinstance(data, os.PathLike):
        return os.fsdecode(data)
    if not isinstance(data, str):
        return rows_of(data)
    for digest in rows_digests(data):
        if not _is_kept(store, digest):
            raise NotFoundError(f"This home has no rows {digest!r}.", "give the rows again, or name files")
        return parse_rows(store.blobs.read(digest))
    return data


def _is_kept(store: Store, digest: str) -> bool:
    try:
        return store.blobs.exists(digest)
    except IntegrityError:
        # what was typed is no digest at all
        return False
