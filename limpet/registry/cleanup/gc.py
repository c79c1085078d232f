"""Collection: what nothing needs any more leaves the blob store, safely beside everyone who works.

A blob goes only if the store is this home's own, no record needs the blob, and nobody stored it within the grace
period; see `limpet.registry.store.blob_removal` for what keeps it from those who are about to record it. Besides
blobs only limpet's own temporary files go. Whatever else lies in the store is named, and left to people.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy.orm import Session

from limpet.errors import UsageError
from limpet.registry.cleanup import retention
from limpet.registry.cleanup.waiting import deletions, moment
from limpet.registry.database.clock_check import check_clock, check_today, clock_doubt
from limpet.registry.records import log
from limpet.registry.store import Store, ownership
from limpet.registry.store.blob_removal import announce, removing
from limpet.registry.store.referenced_blobs import mentioned_digests, newest_splits, referenced_blobs
from limpet.registry.system.clock import seconds_of, utc_ago
from limpet.registry.system.failpoints import reach

__all__ = ["DAY", "Collection", "Tally", "collect"]

DAY = 24 * 60 * 60
_HOUR = 60 * 60
_LONGEST = 10 * 365 * DAY
# one write transaction decides on no more than this many blobs, so that a register waits for milliseconds
_BATCH = 100
# the name under which a blob is written, before it has its own
_TEMPORARY = re.compile(r"tmp/[0-9a-f]{32}")

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
    period. `deleted` counts blobs of deleted versions, `orphans` blobs that nothing names, `temporary` what a process
    that died left half written. `strays` counts what is in the store and is none of limpet's, `stray_names` names it:
    it stays. `waiting` counts blobs that nothing needs and that are too young to go: the first of them may go at
    `waiting_from`, all of them at `waiting_until`; null where none waits. `clock_doubt` says why nothing will be
    removed before a person has typed the date.
    """

    dry_run: bool
    grace_seconds: int
    versions: tuple[str, ...] = ()
    retention: Tally = field(default_factory=Tally)
    deleted: Tally = field(default_factory=Tally)
    orphans: Tally = field(default_factory=Tally)
    temporary: Tally = field(default_factory=Tally)
    strays: Tally = field(default_factory=Tally)
    stray_names: tuple[str, ...] = ()
    clock_doubt: str = ""
    waiting: Tally = field(default_factory=Tally)
    waiting_from: str | None = None
    waiting_until: str | None = None

    @property
    def bytes(self) -> int:
        """The bytes that the removal of files frees."""
        return self.deleted.bytes + self.orphans.bytes + self.temporary.bytes


@dataclass(frozen=True)
class _Marked:
    """What may go, blobs by kind and temporary files; what is only named; the newest splits then.

    `waiting` has when each blob may go that is too young, in seconds since the epoch.
    """

    blobs: dict[str, str]
    temporary: tuple[str, ...]
    strays: tuple[str, ...]
    newest: tuple[int, int]
    waiting: dict[str, float]


@dataclass(frozen=True)
class _Rules:
    """What holds for one run: the grace period in seconds, and since when a deletion is too young.

    What lay in the store when a person adopted it, and no record names, is another's.
    """

    grace: int
    since: str
    adopted_at: str | None

    def may_go(self, modified: float | None, kind: str) -> bool:
        """Tell whether what was last stored at this time is old enough, and the home's own."""
        return self.is_own(modified, kind) and _is_old(modified, self.grace)

    def is_own(self, modified: float | None, kind: str) -> bool:
        """Tell whether what was last stored at this time is the home's own."""
        return self.adopted_at is None or kind != "orphans" or (modified or 0) >= seconds_of(self.adopted_at)


def collect(
    store: Store,
    grace_seconds: int = DAY,
    dry_run: bool = True,
    *,
    progress: Progress | None = None,
    today: str | None = None,
) -> Collection:
    """Remove what nothing needs, or with `dry_run` say what would go and change nothing.

    First the policy's retention deletes versions. Then go the files of versions that were deleted before the grace
    period began, blobs that nothing names, and temporary files, all of them only if they are older than the grace
    period; temporary files also have an hour in any case.

    Args:
        store: The open home.
        grace_seconds: How long what is new or newly deleted stays in any case.
        dry_run: Only look.
        progress: Called with how many blobs are done, from 0, and how many there are.
        today: The date as a person knows it, `YYYY-MM-DD`, for a home in which nothing has happened for long.

    Raises:
        UsageError: The grace period is negative or longer than ten years, or `today` is no date.
        ConflictError: The blob store is not, or may not only be, this home's; or something would go by its age, and
            the clock is far from the home's events.
        LimpetError: A file can't be removed.
    """
    if not 0 <= grace_seconds <= _LONGEST:
        raise UsageError(
            f"A grace period of {grace_seconds} s makes no sense.", "--grace 24h, --grace 30m, --grace 0"
        )
    if not dry_run:
        # an older home's store may have no mark yet
        ownership.check(store)
    mark = ownership.check_collectable(store)
    if today is not None:
        check_today(today)
    with store.database.read() as session:
        doubt = clock_doubt(session) if today is None else ""
        expiring = retention.expired(session)
        expired = retention.describe(session, expiring)
    if not dry_run and expiring:
        check_clock(doubt)
        expired = retention.apply(store)
    # after the retention's tombstones: without a grace period, their files go at once
    adopted_at = mark.adopted_at if mark is not None else None
    rules = _Rules(grace_seconds, utc_ago(grace_seconds), adopted_at)
    marked = _mark(store, rules, set(expiring) if dry_run and not grace_seconds else set())
    reach("gc.marked")
    if not dry_run and (marked.blobs or marked.temporary):
        check_clock(doubt)
    tallies = _measure(store, marked) if dry_run else _sweep(store, marked, rules, progress=progress)
    reach("gc.swept")
    freed = Tally(len(expired), sum(expired.values()))
    strays = Tally(len(marked.strays), sum(store.blobs.stray_size(name) or 0 for name in marked.strays))
    return Collection(
        dry_run,
        grace_seconds,
        tuple(expired),
        freed,
        **tallies,
        strays=strays,
        stray_names=marked.strays,
        clock_doubt=doubt,
        waiting=_waiting(store, marked),
        waiting_from=moment(min(marked.waiting.values())) if marked.waiting else None,
        waiting_until=moment(max(marked.waiting.values())) if marked.waiting else None,
    )


def _mark(store: Store, rules: _Rules, without: set[int]) -> _Marked:
    # listed before the records are read: what is stored and recorded in between is then never taken for unreferenced
    stored, others = list(store.blobs.digests()), list(store.blobs.strays())
    with store.database.read() as session:
        referenced = referenced_blobs(session, deleted_since=rules.since, without=without)
        named = mentioned_digests(session) | (referenced_blobs(session).keys() if without else set())
        newest = newest_splits(session)
        deleted = deletions(session, rules.since, stored)
    unreferenced = {
        digest: "deleted" if digest in named else "orphans" for digest in stored if digest not in referenced
    }
    times = {digest: store.blobs.modified(digest) for digest in (*unreferenced, *deleted)}
    blobs = {digest: kind for digest, kind in unreferenced.items() if rules.may_go(times[digest], kind)}
    young = {
        digest: 0.0
        for digest, kind in unreferenced.items()
        if digest not in blobs and times[digest] is not None and rules.is_own(times[digest], kind)
    }
    waiting = {digest: max(begun, times[digest] or 0.0) + rules.grace for digest, begun in (young | deleted).items()}
    temporary = [name for name in others if _TEMPORARY.fullmatch(name)]
    # a process that stores a file has it under a temporary name for as long as the disk takes
    grace = max(rules.grace, _HOUR)
    old = tuple(name for name in temporary if _is_old(store.blobs.stray_modified(name), grace))
    return _Marked(blobs, old, tuple(sorted(set(others) - set(temporary))), newest, waiting)


def _waiting(store: Store, marked: _Marked) -> Tally:
    return Tally(len(marked.waiting), sum(store.blobs.size(digest) or 0 for digest in marked.waiting))


def _is_old(modified: float | None, grace: int) -> bool:
    # what is gone already, or does not say how old it is, is not ours to remove
    return modified is not None and modified <= time.time() - grace


def _measure(store: Store, marked: _Marked) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for digest, kind in marked.blobs.items():
        _count(tallies, kind, store.blobs.size(digest))
    for name in marked.temporary:
        _count(tallies, "temporary", store.blobs.stray_size(name))
    return tallies


def _sweep(store: Store, marked: _Marked, rules: _Rules, *, progress: Progress | None) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    done = 0
    for batch in _batches(list(marked.blobs)):
        if progress is not None:
            progress(done, len(marked.blobs))
        done += len(batch)
        with removing(store.database):
            going = {digest: marked.blobs[digest] for digest in batch}
            _add(tallies, _remove(store, going, marked.newest, rules=rules))
    removed: dict[str, Tally] = {}
    for name in marked.temporary:
        _count(removed, "temporary", store.blobs.stray_size(name))
        store.blobs.remove_stray(name)
    if removed:
        with store.database.write("gc") as session:
            _log(session, removed)
    _add(tallies, removed)
    return tallies


def _batches(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(digests), _BATCH):
        yield digests[start : start + _BATCH]


def _remove(store: Store, batch: dict[str, str], newest: tuple[int, int], *, rules: _Rules) -> dict[str, Tally]:
    """Remove those of a few blobs that are still unreferenced and old; asked while no other gc is at work."""
    old = {digest for digest, kind in batch.items() if rules.may_go(store.blobs.modified(digest), kind)}
    sizes = {digest: store.blobs.size(digest) for digest in old}
    removed: dict[str, Tally] = {}
    with store.database.write("gc") as session:
        # a record made since the marking needs its bytes; one that is made from now on looks for them
        going = sorted(old - referenced_blobs(session, deleted_since=rules.since, among=old, after=newest).keys())
        for digest in going:
            _count(removed, batch[digest], sizes[digest])
        announce(session, going)
        # before the bytes go: nothing is ever removed without a word in the log
        _log(session, removed)
    for digest in going:
        store.blobs.remove(digest)
        reach("gc.removed")
    return removed


def _count(tallies: dict[str, Tally], kind: str, size: int | None) -> None:
    tallies[kind] = tallies.get(kind, Tally()).plus(Tally(1, size or 0))


def _add(tallies: dict[str, Tally], more: dict[str, Tally]) -> None:
    for kind, tally in more.items():
        tallies[kind] = tallies.get(kind, Tally()).plus(tally)


def _log(session: Session, removed: dict[str, Tally]) -> None:
    if removed:
        log.record(session, "gc", "home", detail={kind: asdict(tally) for kind, tally in removed.items()})
