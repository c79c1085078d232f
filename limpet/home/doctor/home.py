"""What the doctor looks at in a home: settings, database, blobs, bases, mirror, runs, garbage, policy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from limpet.home.doctor.findings import Finding, guarded
from limpet.home.status import unfinished_runs
from limpet.redaction import hide_secrets
from limpet.registry.blobs.opening import open_blobs
from limpet.registry.cleanup.gc import collect
from limpet.registry.database.engine import Database, connect, database_url
from limpet.registry.database.migrate import check_schema, head
from limpet.registry.records import bases, policy
from limpet.registry.settings import Settings, setting_sources
from limpet.registry.store import Store
from limpet.registry.values import BaseRecord

__all__ = ["blobs", "database", "garbage", "known_bases", "mirror", "protection", "settings", "unfinished"]

_SLOW_MS = 100


def settings(path: Path, found: Settings) -> Iterator[Finding]:
    """Say what every setting is, and where it comes from."""
    for name, source in setting_sources(path).items():
        value = getattr(found, name)
        shown = "not set" if value is None else hide_secrets(str(value))
        yield Finding(f"setting {name}", "ok", f"{shown} ({source})")


def database(path: Path, found: Settings) -> Iterator[Finding]:
    """Say whether the database can be reached, which one it is, and whether its schema is that of this limpet."""
    url = database_url(found.db, path)
    # SQLite would make an empty database where there is none
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        yield Finding("database", "fail", f"{url.database} is not there", "restore the file from a backup")
        return
    opened = connect(url)
    try:
        yield Finding("database", "ok", _describe(opened))
        yield from guarded("schema", partial(_schema, opened))
    finally:
        opened.close()


def _schema(opened: Database) -> Iterator[Finding]:
    check_schema(opened)
    yield Finding("schema", "ok", f"{head()}, that of this limpet")


def _describe(opened: Database) -> str:
    with opened.read() as session:
        connection = session.connection()
        if opened.url.get_backend_name() != "sqlite":
            version = connection.exec_driver_sql("SHOW server_version").scalar()
            return f"PostgreSQL {version}, {hide_secrets(opened.url.render_as_string(False))}"
        version = connection.exec_driver_sql("SELECT sqlite_version()").scalar()
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    level = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}.get(int(synchronous or 0), synchronous)
    return f"SQLite {version}, journal {journal}, synchronous {level}, {opened.url.database}"


def blobs(path: Path, found: Settings) -> Iterator[Finding]:
    """Store a few bytes durably, read them back and remove them."""
    store = open_blobs(found.blobs, path / "blobs", found.cache)
    data = os.urandom(16)
    started = time.perf_counter()
    digest = store.put_bytes(data)
    took = (time.perf_counter() - started) * 1000
    try:
        store.read(digest)
    finally:
        store.remove(digest)
    where = hide_secrets(found.blobs) if found.blobs else str(path / "blobs")
    detail = f"{where}, a durable write takes {took:.1f} ms"
    if took < _SLOW_MS:
        yield Finding("blobs", "ok", detail)
    else:
        yield Finding("blobs", "warn", detail, "every file that is registered waits that long: use a faster disk")


def known_bases(store: Store) -> Iterator[Finding]:
    """Say whether the files of every base are on this machine, and whether their fingerprint is remembered."""
    records = bases.list_all(store)
    if not records:
        yield Finding("base", "ok", "none yet; it is fetched when it is first needed")
    for record in records:
        yield from guarded(f"base {record.name}", partial(_base, record))


def _base(record: BaseRecord) -> Iterator[Finding]:
    from limpet.training.base.locate import find_here, remembered

    name, again = f"base {record.name}", f"limpet base verify {record.name}"
    folder, found = find_here(record), remembered(record)
    if folder is None and record.location["kind"] == "folder":
        yield Finding(name, "fail", "its folder is gone", f"put it back: {record.location['path']}")
    elif folder is None:
        yield Finding(name, "warn", "its files are not on this machine; they are fetched when needed", again)
    elif found is None:
        yield Finding(name, "ok", f"{folder}, its fingerprint will be taken when it is next needed")
    elif found == record.digest:
        yield Finding(name, "ok", f"{folder}, its fingerprint is in the cache")
    else:
        yield Finding(name, "fail", f"{folder} holds another model", again)


def mirror(store: Store) -> Iterator[Finding]:
    """Say whether the MLflow mirror is off, a file, or a server that answers, and whether it is up to date.

    MLflow is not imported.
    """
    from limpet.forgetting.mlflow_mirror import state
    from limpet.forgetting.mlflow_mirror.tracking import check_reachable, is_local, tracking_uri

    if store.settings.mlflow == "off":
        yield Finding("mirror", "ok", "off")
        return
    shown = hide_secrets(tracking_uri(store))
    check_reachable(store)
    stands = state.read(store)
    if warning := stands.warning():
        yield Finding("mirror", "warn", warning, "limpet ui --sync")
        return
    now = ", and is brought up to date by a process of its own now" if stands.running else ""
    if not is_local(store):
        yield Finding("mirror", "ok", f"{shown} answers{now}")
        return
    file = Path(shown.removeprefix("sqlite:///"))
    made = (
        "" if not shown.startswith("sqlite:///") or file.is_file() else ", made when the first version is registered"
    )
    yield Finding("mirror", "ok", f"{shown}{now or made}")


def unfinished(path: Path) -> Iterator[Finding]:
    """Name the tasks whose training was interrupted."""
    runs = unfinished_runs(path)
    for file in runs.unreadable:
        yield Finding("runs", "warn", f"{file} can't be read", f"rm -r {file.parent}")
    if runs.tasks:
        detail = f"training of {', '.join(runs.tasks)} is unfinished, or goes on now"
        yield Finding("runs", "warn", detail, f"limpet train {runs.tasks[0]} --resume")
    else:
        yield Finding("runs", "ok", "none unfinished")


def garbage(store: Store) -> Iterator[Finding]:
    """Say what a collection could free now."""
    found = collect(store, dry_run=True)
    hint = "limpet gc" if found.bytes or found.versions else ""
    versions = f" and let {len(found.versions)} versions go by retention" if found.versions else ""
    yield Finding("garbage", "ok", f"gc could free {found.bytes / 1e6:.1f} MB{versions}", hint)


def protection(store: Store) -> Iterator[Finding]:
    """Name the protected aliases."""
    aliases = policy.get(store).protected_aliases
    yield Finding("protected aliases", "ok", ", ".join(aliases) or "none", "" if aliases else "limpet policy --help")
