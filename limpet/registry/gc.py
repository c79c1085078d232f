"""Collection: what nothing needs any more leaves the blob store, safely beside everyone who works.

A blob goes only if no record needs it and nobody stored it within the grace period; both are asked again while the
write lock is held. Whoever is about to record a blob checks under the same lock that it is still there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from sqlalchemy.orm import Session

from limpet.errors import UsageError
from limpet.registry import log, retention
from limpet.registry.clock import utc_ago
from limpet.registry.failpoints import reach
from limpet.registry.needed import mentioned_digests, needed_blobs
from limpet.registry.store import Store

__all__ = ["DAY", "Collection", "Tally", "collect"]

DAY = 24 * 60 * 60
_HOUR = 60 * 60
_LONGEST = 10 * 365 * DAY
# one write transaction removes no more than this many blobs, so that a register waits for milliseconds
_BATCH = 100
_TEMPORARY = "tmp/"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Tally:
    """How many things, and their bytes together."""

    count: int = 0
    bytes: int = 0

    def plus(self, other: Tally) -> Tally:
        """Return the two together."""
        return Tally(self.count + other.count, self.bytes + other.bytes)


@dataclass(frozen=True)
class Collection:
    """What a collection removed, or would remove.

    `versions` are those that retention deletes, `retention` their number and bytes, which are freed after the grace
    period. `deleted` counts blobs of deleted versions, `orphans` blobs that nothing names, `strays` files that are no
    blobs, `temporary` what a process that died left half written.
    """

    dry_run: bool
    grace_seconds: int
    versions: tuple[str, ...] = ()
    retention: Tally = field(default_factory=Tally)
    deleted: Tally = field(default_factory=Tally)
    orphans: Tally = field(default_factory=Tally)
    strays: Tally = field(default_factory=Tally)
    temporary: Tally = field(default_factory=Tally)

    @property
    def bytes(self) -> int:
        """The bytes that the removal of files frees."""
        return self.deleted.bytes + self.orphans.bytes + self.strays.bytes + self.temporary.bytes


@dataclass(frozen=True)
class _Found:
    """What may go: blobs by kind, and the names of other files by kind."""

    blobs: dict[str, str]
    files: dict[str, str]


def collect(
    store: Store,
    grace_seconds: int = DAY,
    dry_run: bool = True,
    actor: str | None = None,
    progress: Progress | None = None,
) -> Collection:
    """Remove what nothing needs, or with `dry_run` say what would go and change nothing.

    First the policy's retention deletes versions. Then go the files of versions that were deleted before the grace
    period began, blobs that nothing names, strays, and temporary files, all of them only if they are older than the
    grace period; temporary files also have an hour in any case.

    Args:
        store: The open home.
        grace_seconds: How long what is new or newly deleted stays in any case.
        dry_run: Only look.
        actor: Who; null means whoever runs this.
        progress: Called with how many blobs are done, from 0, and how many there are.

    Raises:
        UsageError: The grace period is negative or longer than ten years.
        LimpetError: A file can't be removed.
    """
    if not 0 <= grace_seconds <= _LONGEST:
        raise UsageError(
            f"A grace period of {grace_seconds} s makes no sense.", "--grace 24h, --grace 30m, --grace 0"
        )
    with store.database.read() as session:
        expiring = retention.expired(session)
        expired = retention.describe(session, expiring)
    if not dry_run and expiring:
        expired = retention.apply(store, actor)
    # after the retention's tombstones: without a grace period, their files go at once
    since = utc_ago(grace_seconds)
    found = _mark(store, grace_seconds, since, set(expiring) if dry_run and not grace_seconds else set())
    reach("gc.marked")
    tallies = _measure(store, found) if dry_run else _sweep(store, found, grace_seconds, since, actor, progress)
    reach("gc.swept")
    freed = Tally(len(expired), sum(expired.values()))
    return Collection(dry_run, grace_seconds, tuple(expired), freed, **tallies)


def _mark(store: Store, grace: int, since: str, without: set[int]) -> _Found:
    # listed before the records are read: what is stored and recorded in between is then never taken for unneeded
    stored, strays = list(store.blobs.digests()), list(store.blobs.strays())
    with store.database.read() as session:
        needed = needed_blobs(session, deleted_since=since, without=without)
        named = mentioned_digests(session) | (needed_blobs(session).keys() if without else set())
    blobs = {
        digest: "deleted" if digest in named else "orphans"
        for digest in stored
        if digest not in needed and _is_old(store.blobs.modified(digest), grace)
    }
    files = {name: "temporary" if name.startswith(_TEMPORARY) else "strays" for name in strays}
    # a process that stores a file has it under a temporary name for as long as the disk takes
    graces = {"temporary": max(grace, _HOUR), "strays": grace}
    old = {n: kind for n, kind in files.items() if _is_old(store.blobs.stray_modified(n), graces[kind])}
    return _Found(blobs, old)


def _is_old(modified: float | None, grace: int) -> bool:
    # what is gone already, or does not say how old it is, is not ours to remove
    return modified is not None and modified <= time.time() - grace


def _measure(store: Store, found: _Found) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for digest, kind in found.blobs.items():
        _count(tallies, kind, store.blobs.size(digest))
    for name, kind in found.files.items():
        _count(tallies, kind, store.blobs.stray_size(name))
    return tallies


def _sweep(
    store: Store, found: _Found, grace: int, since: str, actor: str | None, progress: Progress | None
) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    digests = list(found.blobs)
    for start in range(0, len(digests), _BATCH):
        if progress is not None:
            progress(start, len(digests))
        batch = {digest: found.blobs[digest] for digest in digests[start : start + _BATCH]}
        with store.database.write("gc") as session:
            # a record made since the marking needs its bytes, and no other can be made while the lock is held
            needed = needed_blobs(session, deleted_since=since, among=batch.keys())
            removed: dict[str, Tally] = {}
            for digest, kind in batch.items():
                if digest not in needed and _is_old(store.blobs.modified(digest), grace):
                    _count(removed, kind, store.blobs.size(digest))
                    store.blobs.remove(digest)
                    reach("gc.removed")
            _log(session, removed, actor)
        _add(tallies, removed)
    removed = {}
    for name, kind in found.files.items():
        _count(removed, kind, store.blobs.stray_size(name))
        store.blobs.remove_stray(name)
    if removed:
        with store.database.write("gc") as session:
            _log(session, removed, actor)
    _add(tallies, removed)
    return tallies


def _count(tallies: dict[str, Tally], kind: str, size: int | None) -> None:
    tallies[kind] = tallies.get(kind, Tally()).plus(Tally(1, size or 0))


def _add(tallies: dict[str, Tally], more: dict[str, Tally]) -> None:
    for kind, tally in more.items():
        tallies[kind] = tallies.get(kind, Tally()).plus(tally)


def _log(session: Session, removed: dict[str, Tally], actor: str | None) -> None:
    if removed:
        log.record(session, "gc", "home", {kind: asdict(tally) for kind, tally in removed.items()}, actor)
