"""Every operation that changes a home, as the tests of sudden death do it."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace

from limpet.registry.cleanup import gc
from limpet.registry.exchange import export_import
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import (
    alarms,
    bases,
    evaluations,
    gate_refusals,
    log,
    policy,
    reference_outputs,
    streams,
    tasks,
)
from limpet.registry.store import Store, ownership
from limpet.registry.values import ArmDraft
from limpet.registry.versions import alias_history, aliases, deletion, notes, tags
from tests.registry.deaths.deaths import Operation
from tests.registry.exchange.bundles import add_sound_version
from tests.registry.homes import BASE, ENVIRONMENT, a_base, a_task, add_ability, add_evaluation, add_version, stock

_BUNDLE = "third.limpet"
_PROBE = reference_outputs.write(["a text"], [[0.5, -0.5]], 64, environment=ENVIRONMENT)
_BLOB = ("blob.opened", "blob.filled", "blob.synced", "blob.renamed", "blob.kept")


def _transaction(name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{place}" for place in ("begun", "written", "committed"))


def _nothing(_: Store) -> None:
    return


def _add_task(store: Store) -> None:
    rows = store.blobs.put_bytes(b'{"label":0,"text":"new"}\n')
    made = a_task(store, "third")
    tasks.add(store, replace(made, splits=tuple(replace(split, digest=rows) for split in made.splits)))


def _two_versions(store: Store) -> None:
    add_version(store, seed=1)
    add_version(store, seed=2, parent="news@1")
    aliases.promote(store, "news@1", "live")


def _promoted_twice(store: Store) -> None:
    _two_versions(store)
    aliases.promote(store, "news@2", "live")


def _with_garbage(store: Store) -> None:
    _two_versions(store)
    deletion.delete(store, "news@2", "wrong data")
    store.blobs.put_bytes(b"nothing names this")


def _with_bundle(store: Store) -> None:
    """Leave a bundle in the home folder, of a version and a task that the home does not have."""
    other = stock(store.path / "other")
    tasks.add(other, a_task(other, "third"))
    add_sound_version(other, "third")
    export_import.export_bundle(other, "third@1", store.path / _BUNDLE)
    other.database.close()
    shutil.rmtree(other.path)


def _with_an_arm(store: Store) -> None:
    _two_versions(store)
    add_evaluation(store, "news@1")
    streams.create(store, "two", {"name": "two"}, base_digest=BASE, tasks=["news", "films"])
    streams.arm_run(store, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={"r": 8}))


def _evaluate(store: Store) -> None:
    # an evaluation is made as often as it is asked for
    if not evaluations.full(store, "news@1", "news@1"):
        add_evaluation(store, "news@1")


def _adopt(store: Store) -> None:
    # each time is an event of its own
    if log.read(store).items[0].action != "adopt":
        with ExitStack() as undo:
            ownership.adopt(store, undo)
            undo.pop_all()


def _with_an_alarm(store: Store) -> None:
    _two_versions(store)
    alarms.sound(store, "news@1", evaluation=2, reference=1, detail="it answers otherwise")


def _accept(store: Store) -> None:
    # what was accepted has no alarm that could be accepted again
    if alarms.open_alarm(store, "news@1"):
        alarms.accept(store, "news@1", evaluations=[2], reason="a newer library")


def _roll_back(store: Store) -> None:
    # done twice it would go on to the version before, so it is done if it has not been done
    if alias_history.moves(store, "news", "live")[-1].action != "rollback":
        aliases.rollback(store, "news", "live", reason="it was worse")


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
            lambda store: aliases.promote(store, "news@2", "live", expect=None, reason="better"),
        ),
        Operation("rollback", _transaction("rollback"), _promoted_twice, _roll_back),
        Operation(
            "unpromote",
            _transaction("unpromote"),
            _promoted_twice,
            lambda store: aliases.unpromote(store, "news", "live", reason="it was worse"),
        ),
        Operation(
            "delete",
            _transaction("delete"),
            _two_versions,
            lambda store: deletion.delete(store, "news@2", "wrong data"),
        ),
        Operation(
            "tag",
            _transaction("tag"),
            _two_versions,
            lambda store: tags.change(store, "news@1", {"env": "prod", "tier": "1"}),
        ),
        Operation(
            "note",
            _transaction("note"),
            _two_versions,
            lambda store: notes.add(store, "news@1", "looked at, fine"),
        ),
        Operation(
            "policy",
            _transaction("policy"),
            _nothing,
            lambda store: policy.change(store, protect=["production"], keep_last=3),
        ),
        Operation(
            "probe",
            (*_BLOB, *_transaction("probe")),
            _two_versions,
            lambda store: reference_outputs.keep(store, "news@1", _PROBE),
        ),
        Operation("evaluate", _transaction("evaluate"), _two_versions, _evaluate),
        Operation("ability", _transaction("ability"), _two_versions, add_ability),
        Operation(
            "refuse",
            _transaction("refuse"),
            _two_versions,
            lambda store: gate_refusals.record(store, "news@2", "max_forgetting", detail="0.3 > 0.1"),
        ),
        Operation(
            "alarm",
            _transaction("alarm"),
            _two_versions,
            lambda store: alarms.sound(store, "news@1", evaluation=2, reference=1, detail="it answers otherwise"),
        ),
        Operation("accept", _transaction("accept"), _with_an_alarm, _accept),
        Operation(
            "stream",
            _transaction("stream"),
            _with_an_arm,
            lambda store: streams.add_step(store, 1, 0, version="news@1", base_unchanged=True, row={"news": 1}),
        ),
        Operation(
            "gc",
            ("gc.marked", "gc.removed", "gc.swept", *_transaction("gc")),
            _with_garbage,
            lambda store: gc.collect(store, grace_seconds=0, dry_run=False),
        ),
        Operation("adopt", ("claim.marked", *_transaction("claim")), _nothing, _adopt),
        Operation(
            "import",
            (*_BLOB, "import.checked", "import.unpacked", *_transaction("import")),
            _with_bundle,
            lambda store: export_import.import_bundle(store, store.path / _BUNDLE),
        ),
    )
}
