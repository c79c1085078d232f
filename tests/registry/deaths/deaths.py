"""Operations of the registry that are made to die, and what must hold afterwards; importable by other processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, create_engine, text

from limpet.registry.database.schema import TableBase
from limpet.registry.settings import Settings, write_settings
from limpet.registry.store import Store, open_store
from limpet.registry.system.failpoints import VARIABLE

# what differs from run to run though the same was done
_MOMENTS = {"created_at", "updated_at", "deleted_at", "synced_at"}
_DERIVED = {("versions", "manifest_digest"), ("log_events", "rows"), ("log_events", "digest")}

# what an event tells of by the id of its row
_NAMED_BY_ID = {"evaluation": "evaluations", "reference": "evaluations", "ability": "abilities"}

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, "tests.registry.operations"])


@dataclass(frozen=True)
class Operation:
    """Something that is done to a home, all or nothing.

    `prepare` brings a stocked home to where it can be done; `run` does it, and does no harm done twice; `failpoints`
    are the places that a run of it comes by.
    """

    name: str
    failpoints: tuple[str, ...]
    prepare: Callable[[Store], object]
    run: Callable[[Store], object]


def state(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, without moments and with ids as ranks, so that equal histories are equal."""
    with store.database.reader.connect() as connection:
        return _state(connection)


def _state(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    tables = TableBase.metadata.sorted_tables
    found = {table.name: list(connection.execute(table.select()).mappings()) for table in tables}
    # what a collection that died had removed is not there to be counted by the next
    found["log_events"] = [row for row in found["log_events"] if row["action"] != "gc"]
    found["removed_blobs"] = []
    # a transaction that was rolled back leaves a gap in PostgreSQL's sequences
    ranks = {
        name: {id_: rank for rank, id_ in enumerate(sorted(row["id"] for row in rows))}
        for name, rows in found.items()
        if rows and "id" in rows[0]
    }
    said: dict[str, list[tuple[Any, ...]]] = {}
    for table in tables:
        rows = []
        for row in found[table.name]:
            values = []
            for column in table.columns:
                value = row[column.name]
                if column.name == "id":
                    value = ranks[table.name][value]
                elif column.foreign_keys and value is not None:
                    value = ranks[next(iter(column.foreign_keys)).column.table.name][value]
                elif column.name in _MOMENTS or (table.name, column.name) in _DERIVED:
                    value = value is not None
                elif (table.name, column.name) == ("versions", "manifest"):
                    value = _timeless(value)
                elif (table.name, column.name) == ("log_events", "detail"):
                    value = {key: _rank(ranks, key, named) for key, named in value.items()}
                values.append(json.dumps(value, sort_keys=True, default=str))
            rows.append(tuple(values))
        said[table.name] = sorted(rows)
    return said


def _rank(ranks: dict[str, dict[int, int]], key: str, named: Any) -> Any:
    """What an event's detail says under a key, with the id of a row as its rank."""
    return ranks.get(_NAMED_BY_ID[key], {}).get(named, named) if key in _NAMED_BY_ID else named


def _timeless(manifest: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(manifest)
    with suppress(KeyError):
        content["lineage"]["imported"].pop("created_at")
    return {**content, "created_at": None}


def copy_home(store: Store, folder: Path) -> Store:
    """Return a second home with the same content, on the same kind of database; `store` must be closed."""
    shutil.copytree(store.path, folder, symlinks=True)
    if store.database.url.get_backend_name() != "sqlite":
        url = store.database.url
        twin = url.set(database=f"limpet_{uuid4().hex}")
        engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {twin.database} TEMPLATE {url.database}"))
        engine.dispose()
        write_settings(folder, Settings(db=twin.render_as_string(hide_password=False), cache=folder / "cache"))
    return open_store(folder)


def drop_home(store: Store) -> None:
    """Remove a copy that `copy_home` made."""
    store.database.close()
    url = store.database.url
    if url.get_backend_name() != "sqlite":
        engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {url.database} WITH (FORCE)"))
        engine.dispose()
    shutil.rmtree(store.path)


def run_and_die(path: Path, operation: str, failpoint: str = "", after: float | None = None) -> int:
    """Do an operation in a process that dies at a failpoint, or is killed `after` seconds; return its exit code."""
    ready, begin = _context.Event(), _context.Event()
    process = _context.Process(target=_child, args=(path, operation, failpoint, ready, begin))
    process.start()
    assert ready.wait(60)
    begin.set()
    if after is not None:
        time.sleep(after)
        assert process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def _child(path: Path, operation: str, failpoint: str, ready: Any, begin: Any) -> None:
    from tests.registry.operations import OPERATIONS

    if failpoint:
        os.environ[VARIABLE] = failpoint
    store = open_store(path)
    ready.set()
    begin.wait()
    OPERATIONS[operation].run(store)
