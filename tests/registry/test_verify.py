from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from limpet.registry import aliases, evaluations
from limpet.registry.blobs import LocalBlobs, blob_key
from limpet.registry.canonical import digest_bytes
from limpet.registry.store import Store
from limpet.registry.verify import verify
from tests.registry.homes import BASE, DATA, ENVIRONMENT, add_version, stock

OTHER = digest_bytes(b"other")


@pytest.fixture
def full(tmp_path: Path) -> Store:
    """A home with two versions, an alias and an evaluation, all sound."""
    store = stock(tmp_path / "home")
    add_version(store, seed=1)
    add_version(store, "films", seed=2, parent="news@1")
    aliases.promote(store, "news@1", "production")
    evaluations.add(
        store,
        version="news@1",
        state="news@1",
        kind="full",
        split="evaluation",
        metric="accuracy",
        score=0.5,
        examples=2,
        predictions_digest=store.blobs.put_bytes(b'{"predictions":[0,1]}'),
        logits_digest=OTHER,
        plan_digest=OTHER,
        data_digest=DATA,
        base_digest=BASE,
        environment=ENVIRONMENT,
        seconds=1.0,
    )
    assert verify(store) == ()
    return store


def adapter_file(store: Store) -> Path:
    assert isinstance(store.blobs, LocalBlobs)
    file = store.blobs.root / blob_key(digest_bytes(b"news 1" * 50))
    file.chmod(0o644)
    return file


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[7] ^= 1
    file.write_bytes(data)


def misplace(file: Path) -> None:
    other = file.parent.parent / "00"
    other.mkdir(exist_ok=True)
    file.rename(other / file.name)


@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        (Path.unlink, {"missing"}),
        (flip, {"changed"}),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), {"size"}),
        (lambda file: file.write_bytes(b""), {"size"}),
        (lambda file: file.with_name("extra").write_bytes(b"x"), {"stray"}),
        (misplace, {"missing", "orphan"}),
    ],
    ids=["missing", "flipped", "truncated", "empty", "extra", "misplaced"],
)
def test_each_damage_to_a_file_is_named(full: Store, damage: Callable[[Path], object], kinds: set[str]) -> None:
    damage(adapter_file(full))
    problems = verify(full)
    assert {problem.kind for problem in problems} == kinds
    if not kinds & {"stray"}:
        assert any(problem.where == "news@1, adapter_model.safetensors" for problem in problems)


def test_a_blob_that_nothing_names_is_an_orphan(full: Store) -> None:
    digest = full.blobs.put_bytes(b"left by a killed register")
    assert [(problem.kind, problem.where) for problem in verify(full)] == [("orphan", digest)]


def test_damaged_splits_and_predictions_are_found(full: Store) -> None:
    assert isinstance(full.blobs, LocalBlobs)
    for data in (b'{"text":"a","label":0}\n', b'{"predictions":[0,1]}'):
        file = full.blobs.root / blob_key(digest_bytes(data))
        file.chmod(0o644)
        flip(file)
    assert sorted(problem.where for problem in verify(full)) == ["evaluation 1", "news, split train"]


def test_a_shallow_check_looks_at_sizes_only(full: Store) -> None:
    flip(adapter_file(full))
    assert verify(full, deep=False) == ()
    adapter_file(full).write_bytes(b"x")
    assert [problem.kind for problem in verify(full, deep=False)] == ["size"]


@pytest.mark.parametrize(
    ("statement", "kind", "where"),
    [
        ("UPDATE versions SET manifest = replace(manifest, '\"r\":8', '\"r\":9') WHERE id = 1", "manifest", "news@1"),
        ("UPDATE versions SET manifest_digest = 'sha256:' WHERE id = 1", "manifest", "news@1"),
        (f"UPDATE versions SET digest = '{OTHER}' WHERE id = 1", "manifest", "news@1"),
        ("UPDATE versions SET score = 0.99 WHERE id = 1", "manifest", "news@1"),
        ("UPDATE versions SET method = 'full' WHERE id = 1", "manifest", "news@1"),
        ("UPDATE versions SET task_id = 2, number = 7 WHERE id = 1", "manifest", "films@7"),
        ("UPDATE version_files SET size = size + 1 WHERE version_id = 1", "manifest", "news@1"),
        ("DELETE FROM version_files WHERE version_id = 1", "manifest", "news@1"),
        (f"UPDATE versions SET base_digest = '{OTHER}' WHERE id = 1", "base", "news@1"),
        ("DELETE FROM bases", "base", "news@1"),
        ("UPDATE aliases SET version_id = 99", "alias", "news@production"),
        ("UPDATE aliases SET version_id = 2", "alias", "news@production"),
        ("DELETE FROM alias_events", "alias", "news@production"),
        ("DELETE FROM aliases", "alias", "news@production"),
    ],
)
def test_each_edit_of_the_database_is_named(full: Store, statement: str, kind: str, where: str) -> None:
    full.database.close()
    with sqlite3.connect(full.path / "limpet.db") as connection:
        # who can write to the file can take this guard away, too
        connection.execute("DROP TRIGGER alias_events_no_delete")
        connection.execute(statement)
    assert (kind, where) in {(problem.kind, problem.where) for problem in verify(full)}


def test_a_manifest_forged_with_its_own_digest_still_betrays_itself(full: Store) -> None:
    full.database.close()
    with sqlite3.connect(full.path / "limpet.db") as connection:
        (manifest,) = connection.execute("SELECT manifest FROM versions WHERE id = 1").fetchone()
        forged = manifest.replace('"r":8', '"r":9')
        connection.execute(
            "UPDATE versions SET manifest = ?, manifest_digest = ? WHERE id = 1",
            (forged, digest_bytes(forged.encode())),
        )
    assert [(problem.kind, problem.where) for problem in verify(full)] == [("manifest", "news@1")]


def test_progress_reaches_the_number_of_blobs(full: Store) -> None:
    calls: list[tuple[int, int]] = []
    verify(full, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (4, 4)
