from __future__ import annotations

import json
import math
import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from limpet.registry import versions
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import BlobStore, blob_key
from limpet.registry.cleanup.gc import collect
from limpet.registry.database import engine, row_digests
from limpet.registry.database.event_log import cover_rows, uncovered_rows
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import reference_outputs, tasks
from limpet.registry.store import Store
from limpet.registry.verification import records
from limpet.registry.verification.log import check_log
from limpet.registry.verification.records import check_records
from limpet.registry.verification.verify import contents, verify
from limpet.registry.versions import aliases, deletion, tags
from tests.registry.homes import (
    ENVIRONMENT,
    PREDICTIONS,
    Grow,
    adapter_bytes,
    add_evaluation,
    add_version,
    again,
    draft,
    stock,
)

OTHER = digest_bytes(b"other")
PROBE = reference_outputs.write(("a wave",), ((0.5, -0.25),), 64, environment=ENVIRONMENT)


@pytest.fixture
def full(sqlite_home_after: Callable[[Grow], Store]) -> Store:
    """A home on SQLite with two versions, an alias and an evaluation, all sound."""
    return sqlite_home_after(_fill)


@pytest.fixture
def filled(home_after: Callable[[Grow], Store]) -> Store:
    """As `full`, once on each database."""
    return home_after(_fill)


def _fill(store: Store) -> None:
    add_version(store, seed=1)
    add_version(store, "films", seed=2, parent="news@1")
    aliases.promote(store, "news@1", "production")
    add_evaluation(store, "news@1", logits_digest=OTHER, plan_digest=OTHER)
    reference_outputs.keep(store, "news@1", PROBE)
    assert verify(store, deep=True) == ()


def forge(store: Store, *statements: str) -> None:
    """Change the database past all its guards, as one can who has the file or is its superuser, and put them back."""
    if store.database.url.get_backend_name() == "sqlite":
        store.database.close()
        with closing(sqlite3.connect(store.path / "limpet.db")) as connection, connection:
            found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            dropped = [f"DROP TRIGGER {name}" for name, _ in found]
            for statement in (*dropped, *statements, *(sql for _, sql in found)):
                connection.execute(statement)
        return
    with store.database.writer.begin() as connection:
        plain = connection.execution_options(no_parameters=True)
        for statement in ("SET LOCAL session_replication_role = replica", *statements):
            plain.exec_driver_sql(statement)


def adapter_file(store: Store) -> Path:
    assert isinstance(store.blobs, LocalBlobs)
    file = store.blobs.root / blob_key(digest_bytes(adapter_bytes("news", 1)))
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
    file = adapter_file(full)
    os.utime(file, (time.time() - 3601,) * 2)
    damage(file)
    problems = verify(full)
    assert {problem.kind for problem in problems} == kinds
    if not kinds & {"stray"}:
        assert any(problem.where == "news@1, adapter_model.safetensors" for problem in problems)


def test_a_blob_that_nothing_names_is_an_orphan_once_it_is_an_hour_old(full: Store) -> None:
    digest = full.blobs.put_bytes(b"left by a killed register")
    # somebody may be about to record it
    assert verify(full) == ()
    assert isinstance(full.blobs, LocalBlobs)
    os.utime(full.blobs.root / blob_key(digest), (time.time() - 3601,) * 2)
    assert [(problem.kind, problem.where) for problem in verify(full)] == [("orphan", digest)]


def test_damaged_splits_and_predictions_are_found(full: Store) -> None:
    assert isinstance(full.blobs, LocalBlobs)
    for digest in (tasks.get(full, "news").split("train").digest, digest_bytes(PREDICTIONS)):
        file = full.blobs.root / blob_key(digest)
        file.chmod(0o644)
        flip(file)
    assert sorted(problem.where for problem in verify(full)) == ["evaluation 1", "news, split train"]


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
        ("UPDATE versions SET deleted_at = '2026-01-02' WHERE id = 1", "alias", "news@production"),
        ("UPDATE versions SET number = 5 WHERE id = 1", "number", "news"),
        ("UPDATE log_events SET actor = 'eve' WHERE id = 2", "log", "event 2"),
        ("UPDATE log_events SET detail = '{}' WHERE action = 'promote'", "log", "news@production"),
        ("UPDATE log_events SET detail = '{' WHERE id = 2", "log", "event 2"),
        ("DELETE FROM log_events WHERE id = 2", "log", "event 3"),
        ("DELETE FROM log_events", "log", "news@production"),
        ("UPDATE alias_events SET actor = 'eve'", "log", "news@production"),
        ("UPDATE tasks SET splits = '[' WHERE id = 1", "database", "tasks"),
    ],
)
def test_each_edit_of_the_database_is_named(filled: Store, statement: str, kind: str, where: str) -> None:
    forge(filled, statement)
    assert (kind, where) in {(problem.kind, problem.where) for problem in verify(filled)}


def test_a_manifest_forged_with_its_own_digest_still_betrays_itself(full: Store) -> None:
    full.database.close()
    with sqlite3.connect(full.path / "limpet.db") as connection:
        (manifest,) = connection.execute("SELECT manifest FROM versions WHERE id = 1").fetchone()
        forged = manifest.replace('"r":8', '"r":9')
        connection.execute(
            "UPDATE versions SET manifest = ?, manifest_digest = ? WHERE id = 1",
            (forged, digest_bytes(forged.encode())),
        )
    assert [(problem.kind, problem.where) for problem in verify(full)] == [
        ("manifest", "news@1"),
        ("row", "versions 1"),
    ]


def test_progress_reaches_the_number_of_blobs(full: Store) -> None:
    calls: list[tuple[int, int]] = []
    verify(full, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (5, 5)


def test_a_file_that_somebody_is_writing_is_no_problem_until_it_is_an_hour_old(full: Store) -> None:
    assert isinstance(full.blobs, LocalBlobs)
    file = full.blobs.root / "tmp" / "half"
    file.write_bytes(b"x")
    assert verify(full) == ()
    os.utime(file, (time.time() - 3601,) * 2)
    assert [(problem.kind, problem.where) for problem in verify(full)] == [("stray", "tmp/half")]


def test_a_version_that_is_registered_meanwhile_leaves_no_orphan(full: Store) -> None:
    # its file was stored before the check began, and is recorded before it ends
    full.blobs.put_bytes(adapter_bytes("news", 9))
    registered: list[object] = []

    def register_once(done: int, total: int) -> None:
        if not registered:
            registered.append(add_version(full, seed=9))

    assert verify(full, progress=register_once) == ()
    assert registered


def test_what_is_deleted_and_collected_meanwhile_is_no_damage(filled: Store) -> None:
    other = again(filled)
    gone: list[object] = []

    def delete_and_collect(done: int, total: int) -> None:
        if not gone:
            deletion.delete(other, "films@1", "not wanted")
            gone.append(collect(other, grace_seconds=0, dry_run=False).deleted)

    assert verify(filled, deep=True, progress=delete_and_collect) == ()
    assert gone
    other.database.close()


def test_damage_is_named_though_the_version_was_deleted_meanwhile(full: Store) -> None:
    flip(adapter_file(full))
    other = again(full)

    def delete_once(done: int, total: int) -> None:
        aliases.promote(other, "news@2", "production")
        deletion.delete(other, "news@1", "not wanted")

    add_version(full, seed=5)
    assert [problem.kind for problem in verify(full, progress=delete_once)] == ["changed"]
    other.database.close()


@dataclass(frozen=True)
class Disturbed:
    """Blobs of a home, and what somebody does while they are read."""

    blobs: BlobStore
    disturb: Callable[[], object]

    def __getattr__(self, name: str) -> Any:
        if name in ("path", "read", "rehash"):
            self.disturb()
        return getattr(self.blobs, name)


def test_nobody_who_writes_waits_while_bytes_are_read(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 200)
    other, moves = again(full), []

    def promote() -> None:
        # an error where the check holds a lock of SQLite
        moves.append(aliases.promote(other, f"films@{1 + len(moves) % 2}", "live"))

    add_version(full, "films", seed=9)
    disturbed = replace(full, blobs=Disturbed(full.blobs, promote))  # type: ignore[arg-type]
    assert verify(disturbed, deep=True) == ()
    # once for each blob, for each tensor file, for each document, predictions and probe
    assert len(moves) > 10
    other.database.close()


def test_what_is_written_between_two_pages_of_a_check_is_no_edit(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, acts = again(filled), iter(range(10_000))
    # a page is one row, so that every table has several
    monkeypatch.setattr(row_digests, "_PAGE", 1)
    monkeypatch.setattr(records, "_PAGE", 1)

    def work() -> None:
        act = next(acts)
        add_version(other, seed=100 + act)
        tags.change(other, "news@1", {"turn": str(act)})
        aliases.promote(other, f"news@{1 + act % 2}", "live")
        if act % 3 == 2:
            deletion.delete(other, f"news@{act + 1}", "not wanted")

    turns = 0

    @contextmanager
    def read() -> Iterator[Session]:
        nonlocal turns
        turns += 1
        if turns < 12:
            work()
        with filled.database.read() as session:
            yield session

    for check in (check_log, check_records):
        turns = 0
        assert list(check(read)) == []
        assert turns > 12
    other.database.close()


def test_what_a_deleted_version_has_left_may_go_but_must_be_right(full: Store) -> None:
    deletion.delete(full, "films@1", "not wanted")
    assert verify(full, deep=True) == ()
    assert isinstance(full.blobs, LocalBlobs)
    file = full.blobs.root / blob_key(digest_bytes(adapter_bytes("films", 2)))
    file.chmod(0o644)
    flip(file)
    assert [problem.kind for problem in verify(full)] == ["changed"]
    file.unlink()
    assert verify(full, deep=True) == ()


def test_moves_from_before_the_log_began_are_no_problem(filled: Store) -> None:
    forge(filled, "DELETE FROM log_events")
    assert {problem.kind for problem in verify(filled)} == {"log", "row"}
    with filled.database.write() as session:
        cover_rows(session, "migrate", {}, rows=list(uncovered_rows(session)))
    assert verify(filled) == ()
    aliases.promote(filled, "films@1", "production")
    assert verify(filled) == ()


def test_a_move_taken_out_of_the_history_is_betrayed_by_the_log(full: Store) -> None:
    add_version(full, seed=5)
    aliases.promote(full, "news@2", "production")
    full.database.close()
    with sqlite3.connect(full.path / "limpet.db") as connection:
        connection.execute("DROP TRIGGER alias_events_no_delete")
        connection.execute("DELETE FROM alias_events WHERE id = 1")
    trigger, move, row = verify(full)
    assert (trigger.kind, trigger.where) == ("trigger", "alias_events_no_delete")
    assert (move.kind, move.where) == ("log", "news@production")
    assert "never was" in move.detail
    assert (row.kind, row.where) == ("row", "alias_events 1")
    assert "was taken out: event 7 (promote news@production, by " in row.detail


def test_a_probe_that_is_gone_or_changed_is_named(full: Store) -> None:
    assert isinstance(full.blobs, LocalBlobs)
    file = full.blobs.root / blob_key(digest_bytes(PROBE))
    file.chmod(0o644)
    flip(file)
    assert [(problem.kind, problem.where) for problem in verify(full, deep=True)] == [("changed", "news@1, probe")]
    file.unlink()
    assert [(problem.kind, problem.where) for problem in verify(full, deep=True)] == [("missing", "news@1, probe")]


def test_the_contents_are_counted(full: Store) -> None:
    assert contents(full) == {
        "abilities": 0,
        "aliases": 1,
        "bases": 1,
        "evaluations": 1,
        "files": 5,
        "log_events": 9,
        "probes": 1,
        "revisions": 2,
        "tasks": 2,
        "versions": 2,
    }


def test_a_sound_home_is_sound_on_each_database(home: Store) -> None:
    version = add_version(home, seed=1)
    aliases.promote(home, version.reference, "production")
    reference_outputs.keep(home, version.reference, PROBE)
    add_version(home, seed=2, parent="news@1")
    deletion.delete(home, "news@2", "not wanted")
    assert verify(home, deep=True) == ()


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE versions SET parent_id = 99 WHERE id = 1", "versions.parent_id"),
        ("UPDATE probes SET environment_id = 99", "probes.environment_id"),
        ("DELETE FROM versions WHERE id = 1", "evaluations.version_id"),
    ],
)
def test_a_reference_that_leads_nowhere_is_found_by_a_deep_check(full: Store, statement: str, where: str) -> None:
    forge(full, statement)
    assert ("database", where) in {(problem.kind, problem.where) for problem in verify(full, deep=True)}


def test_a_reference_that_leads_nowhere_is_found_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    store = stock(tmp_path / "home", postgres_url)
    add_version(store, seed=1)
    with store.database.write() as session:
        # as the owner of the server can
        session.execute(text("ALTER TABLE versions DROP CONSTRAINT fk_versions_parent_id"))
        session.execute(text("UPDATE versions SET parent_id = 99"))
    found = {(problem.kind, problem.where) for problem in verify(store, deep=True)}
    store.database.close()
    assert found == {("database", "versions.parent_id"), ("row", "versions 1")}


def test_a_damaged_index_is_found_by_a_deep_check(full: Store) -> None:
    full.database.close()
    with sqlite3.connect(full.path / "limpet.db") as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, '(digest)', '(name)') WHERE name = 'ix_version_files_digest'"
        )
    assert ("database", "limpet.db") in {(problem.kind, problem.where) for problem in verify(full, deep=True)}


CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16}
HEAD = {"labels": 2}


def register(store: Store, name: str, data: bytes) -> None:
    file = store.path / "file"
    file.write_bytes(data)
    versions.register(store, draft(config={"method": {"r": 8, "alpha": 16}}, seed=7), {name: file})


def tensors(dtype: str, shape: list[int], raw: bytes) -> bytes:
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(raw)]}}).encode()
    return struct.pack("<Q", len(header)) + header + raw


@pytest.mark.parametrize(
    ("name", "data", "detail"),
    [
        ("a.safetensors", b"no tensors", "not a sound safetensors file"),
        (
            "a.safetensors",
            tensors("F32", [2], struct.pack("<2f", 1, math.nan)),
            "tensor x has a value that is not finite",
        ),
        ("a.safetensors", tensors("F16", [2], struct.pack("<2e", 1, -math.inf)), "tensor x"),
        ("a.safetensors", tensors("F64", [1], struct.pack("<d", math.inf)), "tensor x"),
        ("a.safetensors", tensors("C64", [1], struct.pack("<2f", 0, math.inf)), "tensor x"),
        ("a.safetensors", tensors("BF16", [2], bytes.fromhex("803f 80ff")), "tensor x"),
        ("a.safetensors", tensors("F8_E5M2", [2], b"\x3c\x7c"), "tensor x"),
        ("a.safetensors", tensors("F8_E4M3", [2], b"\x38\xff"), "tensor x"),
        ("adapter_config.json", b"[1", "not JSON"),
        ("adapter_config.json", b"[]", "not a JSON object"),
        ("adapter_config.json", json.dumps(CONFIG | {"r": 4}).encode(), "its r is 4, and the manifest's r 8"),
        ("adapter_config.json", json.dumps(CONFIG | {"lora_alpha": 8}).encode(), "its lora_alpha is 8"),
        ("adapter_config.json", json.dumps(CONFIG | {"peft_type": "LOHA"}).encode(), "its peft_type is 'LOHA'"),
        ("head.json", json.dumps({"labels": 3}).encode(), "it has 3 labels, and the manifest 2"),
        ("labels.json", b'["y","x"]', "its labels are not those of the manifest"),
    ],
)
def test_bytes_that_were_wrong_from_the_first_are_found_by_a_deep_check(
    full: Store, name: str, data: bytes, detail: str
) -> None:
    register(full, name, data)
    assert verify(full) == ()
    (problem,) = verify(full, deep=True)
    assert (problem.kind, problem.where) == ("content", f"news@2, {name}")
    assert detail in problem.detail


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.safetensors", tensors("BF16", [2], bytes.fromhex("803f 7f7f"))),
        ("a.safetensors", tensors("F8_E4M3", [2], b"\x38\x7e")),
        ("a.safetensors", tensors("I64", [1], b"\xff" * 8)),
        ("a.safetensors", tensors("F32", [0], b"")),
        ("adapter_config.json", json.dumps(CONFIG).encode()),
        ("head.json", json.dumps(HEAD).encode()),
        ("labels.json", b'["x", "y"]'),
        ("anything.else", b"\x00"),
    ],
)
def test_bytes_that_are_right_pass_a_deep_check(full: Store, name: str, data: bytes) -> None:
    register(full, name, data)
    assert verify(full, deep=True) == ()


@pytest.mark.parametrize(
    ("predictions", "detail"),
    [
        (b"{", "not JSON"),
        (b"[]", "no list of predictions"),
        (b'{"predictions":[0],"targets":[0]}', "1 predictions and 1 targets for 2 examples"),
        (b'{"predictions":[0,1],"targets":[0,1]}', "recorded as 0.5, and its predictions give 1.0"),
    ],
)
def test_predictions_that_do_not_give_the_score_are_found_by_a_deep_check(
    full: Store, predictions: bytes, detail: str
) -> None:
    digest = full.blobs.put_bytes(predictions)
    full.database.close()
    with sqlite3.connect(full.path / "limpet.db") as connection:
        connection.execute("UPDATE evaluations SET predictions_digest = ?", (digest,))
    found = [problem for problem in verify(full, deep=True) if problem.kind not in ("orphan", "row")]
    assert [(problem.kind, problem.where) for problem in found] == [("content", "evaluation 1 of news@1")]
    assert detail in found[0].detail


def test_a_probe_of_another_task_is_found_by_a_deep_check(full: Store) -> None:
    reference_outputs.keep(full, "films@1", reference_outputs.write(("a",), ((0.5,),), 64, environment=ENVIRONMENT))
    (problem,) = verify(full, deep=True)
    assert (problem.kind, problem.where) == ("content", "films@1, probe")
