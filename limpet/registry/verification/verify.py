"""A check of the whole registry: every blob, manifest, alias and event against what was recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sqlalchemy import func, select

from limpet.errors import IntegrityError
from limpet.registry.database.schema import (
    AbilityRow,
    AliasRow,
    BaseRow,
    EvaluationRow,
    LogEventRow,
    ReferenceOutputsRow,
    TaskRevisionRow,
    TaskRow,
    VersionRow,
)
from limpet.registry.findings import Finding
from limpet.registry.records.rows import batched
from limpet.registry.store import Store
from limpet.registry.store.ownership import examine_mark
from limpet.registry.store.referenced_blobs import ReferencedBlob, mentioned_digests, referenced_blobs
from limpet.registry.verification.contents import check_contents
from limpet.registry.verification.database import check_database, check_triggers
from limpet.registry.verification.log import check_log
from limpet.registry.verification.records import check_records
from limpet.registry.verification.revisions import check_revisions, check_splits

__all__ = ["Finding", "contents", "verify"]

# a younger file in tmp/ may be somebody's who is writing it, a younger blob that of a version about to be recorded
_TEMPORARY, _UNFINISHED_SECONDS = "tmp/", 60 * 60


def verify(
    store: Store, deep: bool = False, progress: Callable[[int, int], None] | None = None
) -> tuple[Finding, ...]:
    """Return everything in a home's registry that is not as it was recorded; nothing is changed.

    Args:
        store: The open home.
        deep: Also check what the bytes say: the database's pages and references, tensors that are not finite, the
            JSON files of versions against their manifests, predictions against scores, the lines of splits.
        progress: Called with how many blobs were checked, and how many there are.

    Raises:
        IntegrityError: The database can't be read.
    """
    # before the records: what is stored meanwhile is then never taken for an orphan
    stored = set(store.blobs.digests())
    problems = [problem for name in store.blobs.strays() if (problem := _stray(store, name))]
    if owner := examine_mark(store):
        problems.append(owner)
    read = store.database.read
    if deep:
        problems += check_database(read)
    problems += [*check_triggers(read), *check_records(read), *check_revisions(read), *check_log(read)]
    with read() as session:
        try:
            referenced, mentioned = referenced_blobs(session), mentioned_digests(session)
        except (ValueError, KeyError, TypeError) as error:
            # without them nothing can be said of any file
            return (*problems, Finding("database", "tasks", f"the splits of a task can't be read ({error!r})"))
    # what a deleted version has left may go any day; what is there still must be right
    left = {digest: ReferencedBlob(f"{digest}, of a deleted version", None) for digest in stored & mentioned}
    expected = left | {digest: use for digest, use in referenced.items() if digest in stored or not use.optional}
    broken: dict[str, Finding] = {}
    for index, (digest, use) in enumerate(expected.items()):
        if problem := _check_blob(store, digest, use):
            broken[digest] = problem
        if progress is not None:
            progress(index + 1, len(expected))
    problems += _check_again(store, broken)
    if deep:
        problems += [*check_contents(store, broken), *check_splits(store, broken)]
    return (*problems, *_orphans(store, stored - referenced.keys() - mentioned))


def contents(store: Store) -> dict[str, int]:
    """Return how many things of each kind there are to verify."""
    counted = {
        "bases": BaseRow.id,
        "tasks": TaskRow.id,
        "revisions": TaskRevisionRow.id,
        "versions": VersionRow.id,
        "aliases": AliasRow.task_id,
        "evaluations": EvaluationRow.id,
        "abilities": AbilityRow.id,
        "probes": ReferenceOutputsRow.version_id,
        "log_events": LogEventRow.id,
    }
    with store.database.read() as session:
        found = {name: session.scalar(select(func.count(column))) or 0 for name, column in counted.items()}
        # the first revision of a task is the task's own row
        found["revisions"] += found["tasks"]
        return found | {"files": len(referenced_blobs(session))}


def _orphans(store: Store, found: set[str]) -> Iterator[Finding]:
    # asked again at the end: a register that stored its files at the beginning has recorded them by now
    with store.database.read() as session:
        orphans = sorted(found - referenced_blobs(session).keys()) if found else []
    for digest in orphans:
        if _is_finished(store.blobs.modified(digest)):
            yield Finding("orphan", digest, "is stored, but nothing names it")


def _check_again(store: Store, broken: dict[str, Finding]) -> Iterator[Finding]:
    """Yield the damage that is still there: a version may have been deleted meanwhile, and its files collected."""
    for digests in batched(broken):
        with store.database.read() as session:
            referenced = referenced_blobs(session, among=digests)
        for digest in digests:
            # what is referenced by nobody any more may go, but what is there of it must be right
            use = referenced.get(digest) or ReferencedBlob(broken[digest].where, None)
            if (digest in referenced or store.blobs.exists(digest)) and (problem := _check_blob(store, digest, use)):
                yield problem


def _stray(store: Store, name: str) -> Finding | None:
    if name.startswith(_TEMPORARY) and not _is_finished(store.blobs.stray_modified(name)):
        return None
    return Finding("stray", name, "is in the blob store, but is no blob in its place")


def _is_finished(written: float | None) -> bool:
    # what is gone meanwhile harms nobody
    return written is not None and time.time() - written >= _UNFINISHED_SECONDS


def _check_blob(store: Store, digest: str, use: ReferencedBlob) -> Finding | None:
    try:
        size = store.blobs.size(digest)
        if size is None:
            return Finding("missing", use.where, f"{digest} is not in the blob store")
        if use.size is not None and size != use.size:
            return Finding("size", use.where, f"{digest} has {size} bytes, not {use.size}")
        if (found := store.blobs.rehash(digest)) != digest:
            return Finding("changed", use.where, f"{digest} hashes to {found} now")
    except IntegrityError as error:
        return Finding("missing", use.where, error.message)
    return None
