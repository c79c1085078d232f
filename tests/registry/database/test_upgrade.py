"""Homes that released programs left, brought up to the schema of today: nothing is lost, and work goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from limpet.cli import cli
from limpet.errors import ConflictError, IntegrityError
from limpet.registry import versions
from limpet.registry.database.engine import Database, connect, database_url
from limpet.registry.database.migrate import Upgrade, current, head, upgrade
from limpet.registry.records import (
    bases,
    evaluations,
    gate_refusals,
    general_ability,
    log,
    policy,
    reference_outputs,
    streams,
    tasks,
)
from limpet.registry.records.renaming import rename
from limpet.registry.store import Store, open_store
from limpet.registry.system.failpoints import FAILPOINTS, VARIABLE
from limpet.registry.verification.verify import verify
from limpet.registry.versions import alias_history, aliases, notes, tags
from tests.registry.database.released import RELEASED, Rows, contents, lay_home, migrate, rows
from tests.registry.homes import add_version, draft, revise

ROOT = Path(__file__).parents[3]
DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Old:
    """A home with a released schema, and what its tables hold."""

    revision: str
    path: Path
    database: Database
    rows: Rows

    @property
    def backups(self) -> list[Path]:
        """Whatever an upgrade has put beside the database."""
        return sorted(file for file in self.path.iterdir() if "backup" in file.name)


@pytest.fixture(params=[(revision, kind) for revision in RELEASED for kind in DATABASES], ids="-".join)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Old]:
    revision, kind = request.param
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    made = _old(revision, tmp_path / "home", url)
    yield made
    made.database.close()


@pytest.fixture(params=RELEASED)
def old_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Old]:
    """As `old`, on SQLite only."""
    made = _old(request.param, tmp_path / "home")
    yield made
    made.database.close()


def _old(revision: str, path: Path, url: str | None = None) -> Old:
    path.mkdir()
    made = lay_home(revision, path, url)
    return Old(revision, path, made, contents(made))


def limpet(home: Path, *words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["--home", str(home), *words])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("revision", RELEASED)
def test_a_released_migration_is_never_edited(revision: str, tmp_path: Path) -> None:
    (tmp_path / "as it was").mkdir()
    (tmp_path / "as made now").mkdir()
    was = lay_home(revision, tmp_path / "as it was")
    now = connect(database_url(None, tmp_path / "as made now"))
    migrate(now, revision)
    assert _statements(now) == _statements(was)


def _statements(made: Database) -> list[str]:
    with closing(sqlite3.connect(str(made.url.database))) as connection:
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        return [_in_order(" ".join(sql.split())) for (sql,) in found]


def _in_order(sql: str) -> str:
    """A rebuilt table names its constraints in any order."""
    columns, *constraints = sql.removesuffix(" )").split(", CONSTRAINT ")
    return ", CONSTRAINT ".join([columns, *sorted(constraints)])


def test_every_table_of_a_released_home_holds_something(old: Old) -> None:
    assert all(old.rows.values())
    assert sum(map(len, old.rows.values())) == len(rows(old.revision))


def test_an_older_home_says_to_upgrade(old: Old) -> None:
    with pytest.raises(ConflictError, match=f"older schema {old.revision}"):
        open_store(old.path)
    for words in (["task", "list"], ["adapter", "promote", "news@1", "production"], ["verify"]):
        code, _, said = limpet(old.path, *words)
        assert (code, said.splitlines()[-1]) == (4, "hint: limpet db upgrade")
    assert contents(old.database) == old.rows


def test_an_upgrade_keeps_every_row_and_the_home_is_whole(old: Old) -> None:
    done = upgrade(old.database)
    assert (done.before, done.revision) == (old.revision, head())
    assert contents(old.database, like=old.rows) == old.rows
    home = open_store(old.path)
    assert verify(home) == ()
    home.database.close()


def test_an_upgraded_home_reads_as_before(old: Old) -> None:
    upgrade(old.database)
    home = open_store(old.path)
    assert [base.name for base in bases.list_all(home)] == ["sample:tiny", "hub:rock/large@1f3c"]
    assert [task.labels for task in tasks.list_all(home)] == [
        ("sport", "politics"),
        ("schön", "schlecht"),
        ("a", "b"),
    ]
    found = versions.find(home).items
    assert [version.reference for version in found] == ["news@4", "news@3", "films@2", "films@1", "news@2", "news@1"]
    assert versions.resolve(home, "news").reference == "news@1"
    assert versions.resolve(home, "news@latest").parent == "news@2"
    assert versions.resolve(home, "news@staging").lineage == {"note": 'it\'s from news@1; see "log"'}
    for version in found:
        assert all(path.read_bytes() for path in versions.files(home, version).values())
    moves = [(move.action, move.to_number, move.actor, move.reason) for move in alias_history.moves(home, "news")]
    assert moves == [
        ("promote", 1, "ada", "the first"),
        ("promote", 2, "bob", "better; it's tested"),
        ("rollback", 1, "ada", "worse at night"),
        ("promote", 2, "ada", ""),
    ]
    assert [refusal.rule for refusal in gate_refusals.for_version(home, "films@2")] == ["max_forgetting"]
    evaluation = next(iter(evaluations.full(home, "news@1", "films@1")), None)
    assert evaluation is not None
    assert evaluations.predictions(home, evaluation)["predictions"] == [0]
    isolated, sequential = streams.arm_runs(home, "two-topics")
    assert isolated.finished
    assert [step.row.keys() for step in streams.steps(home, isolated.id)] == [{"news"}, {"news", "films"}]
    assert [step.base_unchanged for step in streams.steps(home, sequential.id)] == [None]
    home.database.close()


def test_what_the_life_cycle_left_in_an_older_home_is_read_as_before(tmp_path: Path) -> None:
    lived = _old("0003", tmp_path / "home")
    upgrade(lived.database)
    home = open_store(lived.path)
    assert tags.get(home, "news@1") == {"tier": "2"}
    assert [(note.actor, note.text) for note in notes.get(home, "news@1")] == [
        ("ana", "weak on capitals; it's known")
    ]
    assert policy.get(home) == policy.Policy(("release",), keep_last=5, keep_days=None)
    assert versions.look_up(home, "empty@1").deleted is not None
    probe = reference_outputs.of(home, "news@1")
    assert probe is not None
    assert probe.logits == ((0.5, -0.25),)
    base = versions.resolve(home, "news@1").base_digest
    asked = {"name": "words", "data": "sample:words"}
    found = [
        general_ability.find(home, asked, base),
        general_ability.find(home, asked, base, head="news@1", state="news@3", after="films@1"),
    ]
    assert [ability and ability.score for ability in found] == [0.75, 0.5]
    actions = [event.action for event in log.read(home, "news@1").items]
    assert actions == ["note", "tag", "tag", "register"]
    home.database.close()


def test_work_goes_on_in_an_upgraded_home(old: Old) -> None:
    upgrade(old.database)
    home = open_store(old.path)
    base = versions.resolve(home, "news@1").base_digest
    data = {name: {"data_digest": tasks.get(home, name).data_digest} for name in ("news", "films")}
    assert add_version(home, seed=9, base_digest=base, parent="news@4", **data["news"]).reference == "news@5"
    assert add_version(home, "films", seed=9, base_digest=base, **data["films"]).reference == "films@3"
    assert _same_again(home) == ("news@1", False)
    with pytest.raises(ConflictError):
        aliases.promote(home, "news@5", "production", expect="news@2")
    aliases.promote(home, "news@5", "production", expect="news@1")
    assert aliases.rollback(home, "news", "production").to_number == 1
    assert len(alias_history.moves(home, "news")) == 6
    streams.add_step(
        home, streams.arm_runs(home, "two-topics")[1].id, None, version="films@3", base_unchanged=None, row={}
    )
    assert verify(home) == ()
    home.database.close()


def _same_again(home: Store) -> tuple[str, bool]:
    """Register what the older program registered as `news@1`."""
    there = versions.resolve(home, "news@1")
    changes = {name: getattr(there, name) for name in ("method", "config", "base_digest", "data_digest", "labels")}
    again, created = versions.register(home, draft("news", there.seed, **changes), versions.files(home, there))
    return again.reference, created


def test_the_log_of_an_older_home_goes_on_with_its_migration(old: Old) -> None:
    upgrade(old.database)
    home = open_store(old.path)
    claim, event, *before = log.read(home).items
    assert (claim.action, claim.subject) == ("claim", "home")
    # the first schema had no log
    assert len(before) == len(old.rows.get("log_events", ()))
    assert (event.action, event.subject) == ("migrate", "database")
    assert event.detail == {"from": old.revision, "to": head()}
    aliases.promote(home, "films@1", "staging")
    assert verify(home) == ()
    home.database.close()


def test_a_new_home_was_not_migrated(store: Store) -> None:
    assert "migrate" not in [event.action for event in log.read(store).items]


def test_a_file_is_copied_before_and_only_once(old_file: Old) -> None:
    file = old_file.path / "limpet.db"
    file.chmod(0o600)
    with closing(sqlite3.connect(file)) as connection:
        before = list(connection.iterdump())
    done = upgrade(old_file.database)
    assert old_file.backups == [done.backup]
    assert done.backup is not None
    assert done.backup.name.startswith(f"limpet.db.{old_file.revision}-")
    assert done.backup.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(done.backup)) as connection:
        assert list(connection.iterdump()) == before
    assert upgrade(old_file.database) == Upgrade(head(), head())
    assert old_file.backups == [done.backup]


def test_the_copy_put_back_is_the_home_as_it_was(old_file: Old) -> None:
    done = upgrade(old_file.database)
    old_file.database.close()
    assert done.backup is not None
    done.backup.replace(old_file.path / "limpet.db")
    with pytest.raises(ConflictError, match="older schema"):
        open_store(old_file.path)
    assert contents(old_file.database) == old_file.rows
    assert upgrade(old_file.database).before == old_file.revision


def test_a_downgrade_gives_the_older_schema_its_rows_back(old: Old) -> None:
    upgrade(old.database)
    migrate(old.database, old.revision, down=True)
    assert contents(old.database, like=old.rows) == old.rows
    assert upgrade(old.database).before == old.revision
    assert verify(open_store(old.path)) == ()


@pytest.mark.parametrize("change", [revise, lambda home: rename(home, "films", "movies")], ids=["revised", "renamed"])
def test_a_downgrade_is_refused_where_the_older_schema_would_lose_something(
    old: Old, change: Callable[[Store], object]
) -> None:
    upgrade(old.database)
    home = open_store(old.path)
    change(home)
    home.database.close()
    before = contents(old.database)
    with pytest.raises(ConflictError, match="can't go back to the older schema: it has 1"):
        migrate(old.database, old.revision, down=True)
    assert contents(old.database) == before
    home = open_store(old.path)
    assert verify(home) == ()
    home.database.close()


def test_rows_that_contradict_each_other_are_not_migrated(old_file: Old) -> None:
    with closing(sqlite3.connect(old_file.path / "limpet.db")) as connection:
        connection.execute("UPDATE aliases SET version_id = 99 WHERE name = 'staging'")
        connection.commit()
        before = list(connection.iterdump())
    with pytest.raises(IntegrityError, match=r"1 rows .* the first in aliases"):
        upgrade(old_file.database)
    code, _, _ = limpet(old_file.path, "db", "upgrade")
    assert code == 5
    with closing(sqlite3.connect(old_file.path / "limpet.db")) as connection:
        assert list(connection.iterdump()) == before


UPGRADE = """
import sys
from pathlib import Path
from limpet.registry.database.engine import connect, database_url
from limpet.registry.database.migrate import upgrade
from limpet.registry.settings import load_settings
home = Path(sys.argv[1])
upgrade(connect(database_url(load_settings(home).db, home)))
"""


@pytest.mark.parametrize(
    "old",
    [
        pytest.param((revision, kind), marks=pytest.mark.slow if revision != RELEASED[-1] else ())
        for revision in RELEASED
        for kind in DATABASES
    ],
    ids="-".join,
    indirect=True,
)
def test_a_death_at_any_point_of_an_upgrade_is_survived(old: Old, tmp_path: Path) -> None:
    is_file = old.database.url.get_backend_name() == "sqlite"
    places = [name for name in FAILPOINTS if name.startswith("migrate.") and (is_file or "back" not in name)]
    for place in places:
        assert _die(old.path, place) == -signal.SIGKILL, place
        after = current(old.database)
        assert after == (head() if place == "migrate.committed" else old.revision), place
        assert contents(old.database, like=old.rows) == old.rows
        if after == old.revision:
            assert contents(old.database) == old.rows
    assert places[-1] == "migrate.committed"
    assert upgrade(old.database) == Upgrade(head(), head())
    assert verify(open_store(old.path)) == ()
    assert all(file.name.startswith("limpet.db.") for file in old.backups)


def _die(home: Path, place: str) -> int:
    environment = os.environ | {VARIABLE: place}
    return subprocess.run([sys.executable, "-c", UPGRADE, str(home)], cwd=ROOT, env=environment).returncode


def test_what_a_death_left_of_a_copy_goes_at_the_next_upgrade(old_file: Old) -> None:
    left = old_file.path / f".limpet.db.{old_file.revision}-20260102T030405.backup.0123456789abcdef"
    left.write_bytes(b"half a copy")
    done = upgrade(old_file.database)
    assert old_file.backups == [done.backup]


def test_the_command_upgrades_and_names_the_copy(old: Old) -> None:
    code, said, _ = limpet(old.path, "db", "upgrade")
    lines = [f"the database went from the schema {old.revision} to {head()}"]
    lines += [f"as it was before, it is kept in {backup}" for backup in old.backups]
    assert (code, said.splitlines()) == (0, lines)
    assert len(old.backups) == (old.database.url.get_backend_name() == "sqlite")
    code, said, _ = limpet(old.path, "db", "upgrade")
    assert (code, said) == (0, f"the database has the schema {head()} already\n")


def test_the_command_says_it_to_programs_too(old_file: Old) -> None:
    code, said, _ = limpet(old_file.path, "db", "upgrade", "--json")
    (backup,) = old_file.backups
    assert (code, json.loads(said)) == (
        0,
        {"schema": 1, "revision": head(), "before": old_file.revision, "backup": str(backup)},
    )
    _, said, _ = limpet(old_file.path, "db", "upgrade", "--json")
    assert json.loads(said)["backup"] is None


def _upgrade_together(path: Path, start: Any, answers: Any) -> None:
    from limpet.registry.settings import load_settings

    made = connect(database_url(load_settings(path).db, path))
    start.wait()
    answers.put(upgrade(made).before)


def test_of_four_upgrades_at_once_one_does_it(old: Old) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    start, answers = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_upgrade_together, args=(old.path, start, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = sorted(answers.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
    assert found == [old.revision] + [head()] * 3
    assert contents(old.database, like=old.rows) == old.rows
    assert len(old.backups) <= 1


def test_a_task_of_an_older_home_is_its_first_revision_and_can_have_another(old: Old) -> None:
    upgrade(old.database)
    home = open_store(old.path)
    first = tasks.get(home, "films")
    assert (first.revision, first.previous) == (1, None)
    digest = versions.resolve(home, "films@1").digest
    split = replace(first.splits[0], name="evaluation-r2")
    splits = (*first.splits, split)
    content = tasks.data_digest(first.definition, first.labels, splits)
    made = tasks.add(home, replace(first, splits=splits, data_digest=content, revision=2, previous=first.data_digest))
    assert tasks.get(home, "films") == made
    assert tasks.get(home, "films@r1") == first
    assert tasks.of_version(home, versions.resolve(home, "films@1")).revision == 1
    assert versions.resolve(home, "films@1").digest == digest
    assert verify(home) == ()
    home.database.close()
