"""Taking blobs away beside those who are about to record them; nobody asks the blob store under the write lock.

A gc decides under the write lock of the database what goes, and leaves there the digest of each (`removed_blobs`).
Only after the commit it removes the bytes, one gc at a time. Whoever records a blob looks for its digest there: as
long as no gc ever took it away, what was stored is still stored. Else no gc is let in until it was looked for, stored
again if need be, and recorded. A gc that died has left the digests, so whoever comes next looks too.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, LimpetError
from limpet.registry.database.engine import BUSY_TIMEOUT_MS, Database, typed_errors
from limpet.registry.database.schema import RemovedBlobRow
from limpet.registry.store.store import Store

__all__ = ["announce", "recording", "removing"]

# any constant will do, as long as every limpet uses the same one, and it is not the writers'
_REMOVER_LOCK = 18_066_152
_PAUSE_SECONDS = 0.02


@contextmanager
def recording(
    store: Store, operation: str, digests: Iterable[str], *, again: Callable[[], object] | None = None
) -> Iterator[Session]:
    """Give a write session in which stored blobs are recorded; none of them is taken away before the commit.

    Args:
        store: The open home.
        operation: What the transaction is for, as in `Database.write`.
        digests: The blobs that are recorded, stored already.
        again: Stores them again; called if a gc has taken some of them away since they were stored.

    Raises:
        ConflictError: A gc has taken some of them away, and there is no `again`.
    """
    wanted = set(digests)
    with store.database.write(operation) as session:
        doubtful = _removed(session, wanted)
        if not doubtful:
            yield session
            return
    with removing(store.database):
        missing = [digest for digest in doubtful if not store.blobs.exists(digest)]
        if missing and again is None:
            raise ConflictError(f"The file {missing[0]} was taken away by a gc meanwhile.", "run the command again")
        if missing and again is not None:
            again()
        with store.database.write(operation) as session:
            session.execute(delete(RemovedBlobRow).where(RemovedBlobRow.digest.in_(doubtful)))
            yield session


def announce(session: Session, digests: Collection[str]) -> None:
    """Record that blobs are about to be taken away, before they are; `removing` must be held."""
    announced = set(_removed(session, digests))
    session.add_all(RemovedBlobRow(digest=digest) for digest in digests if digest not in announced)


@contextmanager
def removing(database: Database) -> Iterator[None]:
    """Be the only one that removes blobs of the home of a database; a process that dies lets go of it.

    Raises:
        ConflictError: Another process kept it for longer than a minute.
    """
    if database.url.get_backend_name() == "sqlite":
        with _locked(Path(f"{database.url.database}.gc-lock")):
            yield
        return
    with typed_errors(database.url), database.reader.connect() as connection, connection.begin():
        # the bytes of many blobs may take a while to go, and nothing is asked of the database meanwhile
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_TIMEOUT_MS}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_REMOVER_LOCK})")
        yield


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    try:
        # another user of a shared home may hold it too: reading is right enough
        descriptor = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LimpetError(f"{file} can't be made: {error.strerror}.", f"ls -ld {file.parent}") from error
    try:
        end = time.monotonic() + BUSY_TIMEOUT_MS / 1000
        while not _taken(descriptor):
            if time.monotonic() > end:
                raise ConflictError(
                    f"A gc of another process has held {file} for {BUSY_TIMEOUT_MS // 1000} s.",
                    "wait for the other process, then run the command again",
                )
            time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _removed(session: Session, digests: Collection[str]) -> list[str]:
    # no version has more files, and no gc removes more at once, than one statement can name
    return list(session.scalars(select(RemovedBlobRow.digest).where(RemovedBlobRow.digest.in_(digests))))
