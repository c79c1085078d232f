"""Every operation that changes a home, as the tests of sudden death do it."""

from __future__ import annotations

from dataclasses import replace

from limpet.registry import aliases, bases, tasks
from limpet.registry.canonical import digest_bytes
from limpet.registry.store import Store
from tests.registry.deaths import Operation
from tests.registry.homes import a_base, a_task, add_version

_BLOB = ("blob.opened", "blob.filled", "blob.synced", "blob.renamed", "blob.kept")


def _transaction(name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{place}" for place in ("begun", "written", "committed"))


def _nothing(_: Store) -> None:
    return


def _add_task(store: Store) -> None:
    rows = store.blobs.put_bytes(b'{"text":"new","label":1}\n')
    made = a_task(store, "third")
    tasks.add(store, replace(made, splits=tuple(replace(split, digest=rows) for split in made.splits)))


def _two_versions(store: Store) -> None:
    add_version(store, seed=1)
    add_version(store, seed=2, parent="news@1")
    aliases.promote(store, "news@1", "live", actor="ada")


def _promoted_twice(store: Store) -> None:
    _two_versions(store)
    aliases.promote(store, "news@2", "live", actor="ada")


def _roll_back(store: Store) -> None:
    # done twice it would go on to the version before, so it is done if it has not been done
    if aliases.history(store, "news", "live")[-1].action != "rollback":
        aliases.rollback(store, "news", "live", reason="it was worse", actor="ada")


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation(
            "base",
            _transaction("base"),
            _nothing,
            lambda store: bases.add(store, a_base("other", digest_bytes(b"other base"))),
        ),
        Operation("task", (*_BLOB, *_transaction("task")), _nothing, _add_task),
        Operation(
            "register",
            (*_BLOB, "register.stored", *_transaction("register")),
            _two_versions,
            lambda store: add_version(store, seed=3, parent="news@2"),
        ),
        Operation(
            "promote",
            _transaction("promote"),
            _two_versions,
            lambda store: aliases.promote(store, "news@2", "live", expect=None, reason="better", actor="ada"),
        ),
        Operation("rollback", _transaction("rollback"), _promoted_twice, _roll_back),
    )
}
