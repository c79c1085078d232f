"""What is stored may be taken away before it is recorded: nothing is ever recorded without its bytes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from limpet.errors import ConflictError
from limpet.registry import evaluations, tasks, versions
from limpet.registry.blobs import check_stored
from limpet.registry.canonical import digest_bytes
from limpet.registry.store import Store
from limpet.registry.verify import verify
from tests.registry.homes import a_task, adapter_bytes, add_evaluation, add_version


def take_away(store: Store, digests: list[str], times: int) -> Callable[[str], None]:
    """Return a `reach` that removes blobs the first so many times that a transaction of any kind begins."""
    left = [times]

    def reach(place: str) -> None:
        if place.endswith(".begun") and left[0]:
            left[0] -= 1
            for digest in digests or list(store.blobs.digests()):
                store.blobs.remove(digest)

    return reach


def test_a_version_whose_files_were_taken_away_is_stored_again(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [digest_bytes(adapter_bytes("news", 1))]
    monkeypatch.setattr("limpet.registry.database.reach", take_away(home, files, 2))
    version = add_version(home, seed=1)
    assert [file.digest for file in version.files] == files
    assert versions.find(home).items == (version,)
    assert verify(home) == ()


def test_a_version_whose_files_are_always_taken_away_is_a_conflict_and_leaves_nothing(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [digest_bytes(adapter_bytes("news", 1))]
    with monkeypatch.context() as patch:
        patch.setattr("limpet.registry.database.reach", take_away(home, files, 100))
        with pytest.raises(ConflictError, match="taken away by a gc meanwhile"):
            add_version(home, seed=1)
    assert versions.find(home).items == ()
    assert add_version(home, seed=1).reference == "news@1"
    assert verify(home) == ()


def test_a_task_whose_splits_were_taken_away_is_a_conflict_and_can_be_added_again(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("limpet.registry.database.reach", take_away(home, [], 1))
        with pytest.raises(ConflictError, match="taken away by a gc meanwhile"):
            tasks.add(home, a_task(home, "sport"))
    assert [task.name for task in tasks.list_all(home)] == ["news", "films"]
    tasks.add(home, a_task(home, "sport"))
    assert verify(home) == ()


def test_an_evaluation_whose_predictions_were_taken_away_is_a_conflict(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add_version(home, seed=1)
    predictions = json.dumps({"predictions": [0, 1]}).encode()
    digest = home.blobs.put_bytes(predictions)
    with monkeypatch.context() as patch:
        patch.setattr("limpet.registry.database.reach", take_away(home, [digest], 1))
        with pytest.raises(ConflictError, match="taken away by a gc meanwhile"):
            add_evaluation(home, version.reference, predictions_digest=digest)
    assert evaluations.full(home, version.reference, version.reference) == ()
    add_evaluation(home, version.reference, predictions)
    assert verify(home) == ()


def test_what_is_stored_passes_and_what_is_not_is_named(home: Store) -> None:
    digest = home.blobs.put_bytes(b"here")
    check_stored(home.blobs, [digest])
    with pytest.raises(ConflictError, match=digest_bytes(b"gone")):
        check_stored(home.blobs, [digest, digest_bytes(b"gone")])
