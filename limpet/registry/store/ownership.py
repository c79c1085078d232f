"""Whose a blob store is: a mark with the home's id lies in the store, and the same id in the database.

A home writes into a store, and removes from one, only if the two agree. A new home marks a store that is empty. An
older home, from before there were marks, marks its store when that is the folder in the home, or holds no blob but
those that its records name. Any other store becomes a home's own by a person's word alone: `limpet init --adopt`.
What lay there before is then not removed by a collection, unless a record of the home names it.
"""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, IntegrityError, LimpetError
from limpet.registry.blobs.protocol import MARK_FILE
from limpet.registry.database.engine import Database
from limpet.registry.database.event_log import record
from limpet.registry.database.schema import HomeRow
from limpet.registry.findings import Finding
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.store.blob_removal import removing
from limpet.registry.store.referenced_blobs import mentioned_digests, referenced_blobs
from limpet.registry.store.store import Store
from limpet.registry.system.clock import utc_now
from limpet.registry.system.failpoints import reach

__all__ = ["Mark", "adopt", "check", "check_collectable", "claim", "examine_mark"]

_ADOPT = "limpet init --adopt"


@dataclass(frozen=True)
class Mark:
    """What a store says of its home.

    `home` is the home's id, `database` which database it was at when the mark was written, so that a copy of the home
    is told from it; `adopted_at` since when the store is the home's, null if it was from its beginning.
    """

    home: str
    database: str
    adopted_at: str | None = None


def check(store: Store) -> None:
    """Hold the mark of a store against the home; mark the store of an older home if it is surely its own.

    Raises:
        ConflictError: The store is another home's, or nothing says whose it is.
        IntegrityError: The mark can't be read.
    """
    mark, home = _read(store), _home(store)
    if mark is not None and mark.home == home:
        return
    with ExitStack() as undo:
        claim(store, undo)
        undo.pop_all()


def claim(store: Store, undo: ExitStack, *, new: bool = False) -> None:
    """Make a store a home's own, if it is nobody's or the home's already.

    Args:
        store: The home, open or about to be made.
        undo: Gets what takes it back.
        new: Whether the home is about to be made: then its store must be empty, unless its database knows it.

    Raises:
        ConflictError: The store is another home's, or nothing says whose it is; or the database is that of a home
            with another store.
    """
    with removing(store.database):
        mark, home, database = _read(store), _home(store), _database_identity(store.database)
        if mark is None:
            _check_unmarked(store, home, new)
        elif home != mark.home and not (home is None and _is_half_made(store, mark, database)):
            raise _foreign(store)
        undo.callback(_restore, store, store.blobs.read_mark(), home)
        if mark is None:
            mark = Mark(home or secrets.token_hex(16), database)
            store.blobs.write_mark(_bytes(mark), over=False)
            reach("claim.marked")
        if home is None:
            _enter(store, mark, "claim")


def adopt(store: Store, undo: ExitStack) -> None:
    """Make a store a home's own whatever lies there, and whoever's it was: a person says so.

    A home whose store it was can't use it any more. Of what lies there, a collection removes only what a record of
    this home names.

    Args:
        store: The home, open or about to be made.
        undo: Gets what takes it back.
    """
    with removing(store.database):
        home = _home(store)
        mark = Mark(home or secrets.token_hex(16), _database_identity(store.database), utc_now())
        undo.callback(_restore, store, store.blobs.read_mark(), home)
        store.blobs.write_mark(_bytes(mark), over=True)
        reach("claim.marked")
        _enter(store, mark, "adopt")


def _restore(store: Store, mark: bytes | None, home: str | None) -> None:
    """Take back what a home that could not be made has claimed or adopted."""
    # why it could not be made is what people need to know
    with suppress(LimpetError), removing(store.database):
        if home is None:
            with store.database.write("claim") as session:
                for row in session.scalars(select(HomeRow)).all():
                    session.delete(row)
        if mark is None:
            store.blobs.remove_mark()
        else:
            store.blobs.write_mark(mark, over=True)


def check_collectable(store: Store) -> Mark | None:
    """Refuse to remove anything from a store that is not, or may not only be, this home's.

    Returns:
        The mark; null for the store of an older home that was never used since it was upgraded.

    Raises:
        ConflictError: The store is another home's, or the home is a copy of the one that marked it.
    """
    mark, home = _read(store), _home(store)
    if mark is None and home is None:
        return None
    if mark is None or mark.home != home:
        raise _foreign(store)
    # a folder inside the home is copied with it; any other place has then two homes of one id
    if store.settings.blobs is not None and mark.database != _database_identity(store.database):
        raise ConflictError(
            f"The blob store {_name(store)} was marked by this home at another database: the home was moved, copied "
            "or restored since. If another copy is in use, a collection here takes away what that one registers.",
            f"if this is the only one left: {_ADOPT} --home {store.path}",
        )
    return mark


def examine_mark(store: Store) -> Finding | None:
    """Return what is wrong with the mark of an open home's store, null if nothing is; nothing is changed."""
    try:
        mark, home = _read(store), _home(store)
    except IntegrityError as error:
        return Finding("owner", MARK_FILE, error.message)
    if mark is None and home is None:
        return None
    if mark is None:
        return Finding("owner", MARK_FILE, "is not in the blob store")
    if mark.home != home:
        return Finding("owner", MARK_FILE, f"names the home {mark.home}, and the database {home or 'none'}")
    return None


def _home(store: Store) -> str | None:
    with store.database.read() as session:
        return _id(session)


def _id(session: Session) -> str | None:
    return session.scalar(select(HomeRow.id))


def _enter(store: Store, mark: Mark, action: str) -> None:
    with store.database.write("claim") as session:
        if _id(session) is None:
            session.add(HomeRow(id=mark.home))
        record(session, action, "home", detail={"home": mark.home})


def _check_unmarked(store: Store, home: str | None, new: bool) -> None:
    """Refuse to mark a store of which nothing says that it is this home's."""
    in_home = store.settings.blobs is None
    if not new:
        if not in_home and _holds_others(store):
            raise ConflictError(
                f"The blob store {_name(store)} has no owner's mark, and holds files that no record of this home "
                "names: another home may use it too.",
                f"if it is this home's alone: {_ADOPT} --home {store.path}",
            )
        return
    if home is not None and not (in_home and store.settings.db is None):
        raise ConflictError(
            "The database is that of a home whose files lie elsewhere: two homes can't share one database.",
            "choose another --db, or give the --blobs of that home to use it from here too",
        )
    if home is None and not _is_empty(store):
        raise ConflictError(
            f"The blob store {_name(store)} is not empty: somebody else may use it.",
            f"choose another --blobs, or make it this home's own with what lies there: {_ADOPT}",
        )


def _is_half_made(store: Store, mark: Mark, database: str) -> bool:
    """Tell whether a mark was written for a home that has no id yet, by a process that died in between."""
    return store.settings.blobs is None or mark.database == database


def _is_empty(store: Store) -> bool:
    return next(store.blobs.digests(), None) is None and next(store.blobs.strays(), None) is None


def _holds_others(store: Store) -> bool:
    stored = set(store.blobs.digests())
    with store.database.read() as session:
        return bool(stored - referenced_blobs(session).keys() - mentioned_digests(session))


def _database_identity(database: Database) -> str:
    """Return which database this is: a copy of it is another one, and a renamed file is the same."""
    if database.url.get_backend_name() == "sqlite":
        return f"sqlite:{Path(str(database.url.database)).stat().st_ino}"
    with database.read() as session:
        query = "SELECT oid::text FROM pg_database WHERE datname = current_database()"
        identity = f"postgresql:{session.connection().exec_driver_sql(query).scalar_one()}"
    try:
        with database.reader.connect() as connection:
            query = "SELECT system_identifier::text FROM pg_control_system()"
            return f"{identity}:{connection.exec_driver_sql(query).scalar_one()}"
    except DatabaseError:
        # not every server lets everybody know its own id
        return identity


def _read(store: Store) -> Mark | None:
    data = store.blobs.read_mark()
    if data is None:
        return None
    try:
        return Mark(**json.loads(data)["home"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"The owner's mark {MARK_FILE} of the blob store {_name(store)} can't be read: {error}.",
            f"if the store is this home's: {_ADOPT} --home {store.path}",
        ) from error


def _bytes(mark: Mark) -> bytes:
    return canonical_json({"schema": 1, "home": asdict(mark)})


def _foreign(store: Store) -> LimpetError:
    return ConflictError(
        f"The blob store {_name(store)} belongs to another home.",
        "choose another one (--blobs, or blobs in limpet.toml), or if that home is given up, take it over for good: "
        f"{_ADOPT}",
    )


def _name(store: Store) -> str:
    return store.settings.blobs or str(store.path / "blobs")
