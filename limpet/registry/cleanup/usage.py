"""What a home takes on disk, by kind: its blobs, its other files, what a gc would free, and the cache beside it."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from limpet.errors import ConflictError
from limpet.registry.cache import Emptied, empty
from limpet.registry.cleanup.gc import Collection, Tally, collect
from limpet.registry.store import Store
from limpet.registry.store.referenced_blobs import references

__all__ = ["FILES", "Usage", "kind_of", "usage"]

FILES = {
    "limpet.toml": "settings and locks",
    "limpet.db": "database",
    "limpet.db-journal": "database",
    "limpet.db.gc-lock": "settings and locks",
    "limpet.db.*.backup": "backups of the database",
    ".limpet.db.*.backup.*": "backups of the database",
    "mirror.lock": "settings and locks",
    "mirror-process.lock": "settings and locks",
    "mirror-requested.json": "mirror",
    "mirror-state.json": "mirror",
    "mirror.log": "mirror",
    "runs": "run folders",
    "bench": "benchmarks",
    "mlflow.db": "mirror",
    "mlflow.db-journal": "mirror",
    "mlflow-artifacts": "mirror",
    "mlflow-ui.log": "mirror",
}
"""What limpet puts into a home beside its blobs, by name, each with its kind; the docs' page of the home has all."""

_BLOBS = "blobs"
_OTHERS = "files of others"


@dataclass(frozen=True)
class Usage:
    """What a home takes on disk.

    Args:
        home: The home's folder.
        kinds: Files and bytes by kind; a blob counts once, however many records name it. `needed by nothing` are
            blobs that go with a gc, now or after its grace period.
        shared: Blobs that several records name, and the bytes that this saves.
        gc: What `limpet gc` would free now and what waits; null where it may not collect here.
        cache: What is in the cache of this machine, which all homes share and which can be had again.
    """

    home: Path
    kinds: Mapping[str, Tally]
    shared: Tally
    gc: Collection | None
    cache: Emptied

    @property
    def bytes(self) -> int:
        """The bytes of the home."""
        return sum(tally.bytes for tally in self.kinds.values())


def usage(store: Store) -> Usage:
    """Measure a home; nothing is changed.

    Raises:
        LimpetError: The cache can't be read.
    """
    kinds, shared = _blobs(store)
    for name, size in _files(store.path):
        kind = kind_of(name)
        if kind is not None:
            kinds[kind] = kinds.get(kind, Tally()).plus(Tally(1, size))
    collection = None
    # the blobs may be those of another home, or of a copy of this one
    with suppress(ConflictError):
        collection = collect(store)
    return Usage(store.path, kinds, shared, collection, empty())


def kind_of(name: str) -> str | None:
    """Return the kind of a file in a home by the first part of its path; null for blobs, which are counted apart."""
    if name == _BLOBS:
        return None
    return next((kind for pattern, kind in FILES.items() if fnmatch.fnmatchcase(name, pattern)), _OTHERS)


def _blobs(store: Store) -> tuple[dict[str, Tally], Tally]:
    named: Counter[str] = Counter()
    kind_of_blob: dict[str, str] = {}
    with store.database.read() as session:
        for kind, digest in references(session):
            named[digest] += 1
            kind_of_blob.setdefault(digest, kind)
    kinds = {kind: Tally() for kind in ("adapters", "splits", "predictions", "probes")}
    shared = Tally()
    for digest in store.blobs.digests():
        size = store.blobs.size(digest) or 0
        kind = kind_of_blob.get(digest, "needed by nothing")
        kinds[kind] = kinds.get(kind, Tally()).plus(Tally(1, size))
        if named[digest] > 1:
            shared = shared.plus(Tally(1, size * (named[digest] - 1)))
    strays = [store.blobs.stray_size(name) or 0 for name in store.blobs.strays()]
    if strays:
        kinds[_OTHERS] = Tally(len(strays), sum(strays))
    return kinds, shared


def _files(home: Path) -> Iterator[tuple[str, int]]:
    """Yield every file of a home with the first part of its path and its bytes; links are not followed."""
    for folder, folders, names in os.walk(home):
        first = Path(folder).relative_to(home).parts[:1]
        if not first:
            folders[:] = [name for name in folders if name != _BLOBS]
        for name in names:
            # it may be gone by now
            with suppress(OSError):
                yield (first[0] if first else name), (Path(folder) / name).lstat().st_size
