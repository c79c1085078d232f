"""What is stored may be taken away before it is recorded: nothing is ever recorded without its bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from limpet.errors import ConflictError
from limpet.registry import versions
from limpet.registry.cleanup.gc import collect
from limpet.registry.exchange import export_import
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import evaluations, reference_outputs, tasks
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import announce, recording
from limpet.registry.verification.verify import verify
from limpet.registry.versions import deletion, registration
from tests.registry.exchange.bundles import add_sound_version, exported
from tests.registry.homes import ENVIRONMENT, a_task, adapter_bytes, add_evaluation, add_version


def collected_before(operation: str, store: Store) -> Callable[[str], None]:
    """Return a `reach` that lets a collection without a grace period go first, each time that something is stored."""
    gone: list[int] = []

    def reach(place: str) -> None:
        if place == operation and not gone:
            gone.append(1)
            report = collect(store, grace_seconds=0, dry_run=False)
            assert report.bytes

    return reach


def test_a_version_whose_files_were_taken_away_is_stored_again(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "reach", collected_before("register.stored", home))
    version = add_version(home, seed=1)
    assert [file.digest for file in version.files] == [digest_bytes(adapter_bytes("news", 1))]
    assert versions.find(home).items == (version,)
    assert verify(home) == ()


def test_a_bundle_whose_files_were_taken_away_is_unpacked_again(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.add(home, a_task(home, "third"))
    made = add_sound_version(home, "third")
    bundle = exported(home, home.path / "third.limpet", made.reference)
    deletion.delete(home, made.reference, "to be imported")
    collect(home, grace_seconds=0, dry_run=False)
    monkeypatch.setattr(export_import, "reach", collected_before("import.unpacked", home))
    version, created = export_import.import_bundle(home, bundle)
    assert (version.digest, created) == (made.digest, True)
    assert verify(home) == ()


def test_a_probe_that_was_taken_away_is_stored_again(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    version = add_version(home, seed=1)
    probe = reference_outputs.write(["a text"], [[0.5, -0.5]], 64, environment=ENVIRONMENT)
    home.blobs.put_bytes(probe)
    collect(home, grace_seconds=0, dry_run=False)
    stored = reference_outputs.store_outputs

    def store_and_lose(store: Store, data: bytes) -> reference_outputs.StoredOutputs:
        made = stored(store, data)
        monkeypatch.setattr(reference_outputs, "store_outputs", stored)
        assert collect(store, grace_seconds=0, dry_run=False).orphans.count == 1
        return made

    monkeypatch.setattr(reference_outputs, "store_outputs", store_and_lose)
    reference_outputs.keep(home, version.reference, probe)
    assert verify(home) == ()


def test_a_task_whose_splits_were_taken_away_is_a_conflict_and_can_be_added_again(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = b'{"text":"new","label":1}\n'
    digest = home.blobs.put_bytes(rows)
    made = a_task(home, "sport")
    made = replace(made, splits=tuple(replace(split, digest=digest) for split in made.splits))
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "recording", _collected_first(home))
        with pytest.raises(ConflictError, match="taken away by a gc meanwhile"):
            tasks.add(home, made)
    assert [task.name for task in tasks.list_all(home)] == ["news", "films"]
    home.blobs.put_bytes(rows)
    tasks.add(home, made)
    assert verify(home) == ()


def test_an_evaluation_whose_predictions_were_taken_away_is_a_conflict(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add_version(home, seed=1)
    predictions = json.dumps({"predictions": [0, 1]}).encode()
    digest = home.blobs.put_bytes(predictions)
    with monkeypatch.context() as patch:
        patch.setattr(evaluations, "recording", _collected_first(home))
        with pytest.raises(ConflictError, match="taken away by a gc meanwhile"):
            add_evaluation(home, version.reference, predictions_digest=digest)
    assert evaluations.full(home, version.reference, version.reference) == ()
    add_evaluation(home, version.reference, predictions)
    assert verify(home) == ()


def _collected_first(home: Store) -> Callable[..., object]:
    def collected(*arguments: object) -> object:
        assert collect(home, grace_seconds=0, dry_run=False).orphans.count
        return recording(*arguments)  # type: ignore[arg-type]

    return collected


def test_what_a_dead_collection_said_it_would_remove_is_recorded_if_it_is_there(home: Store) -> None:
    digest = digest_bytes(adapter_bytes("news", 1))
    with home.database.write("gc") as session:
        announce(session, [digest])
    assert add_version(home, seed=1).files[0].digest == digest
    assert verify(home) == ()
