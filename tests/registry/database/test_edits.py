"""Edits of the database past the program: whichever row, table and column it is, the check names it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, PrimaryKeyConstraint, Table, UniqueConstraint, delete, func, select
from sqlalchemy.orm import Session

from limpet.registry.cleanup.gc import collect
from limpet.registry.database.row_digests import UNCOVERED
from limpet.registry.database.schema import APPEND_ONLY, AliasRow, PolicyRow, TableBase
from limpet.registry.findings import Finding
from limpet.registry.records import gate_refusals, log, policy, reference_outputs, streams
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft
from limpet.registry.verification.log import check_log
from limpet.registry.verification.records import check_records
from limpet.registry.verification.verify import verify
from limpet.registry.versions import aliases, deletion, notes, tags
from tests.registry.homes import (
    BASE,
    ENVIRONMENT,
    WHEN,
    Grow,
    add_ability,
    add_evaluation,
    add_version,
    revise,
    stock,
)
from tests.registry.verification.test_verify import forge

# what may be edited unseen, with the reason: it decides nothing
DECIDES_NOTHING = {
    ("log_events", "id"): "only the order of the events counts, and the chain covers it",
    **{(table, "*"): UNCOVERED[table] for table in ("mirror_items", "removed_blobs")},
}


@pytest.fixture
def lived(home_after: Callable[[Grow], Store]) -> Store:
    """A home in which every table holds something, once on each database."""
    return home_after(_live)


def _live(home: Store) -> None:
    for seed in (1, 2, 3):
        add_version(home, seed=seed)
    add_version(home, "films", seed=1, parent="news@1")
    reference_outputs.keep(
        home, "news@1", reference_outputs.write(["a text"], [[0.5, -0.5]], 64, environment=ENVIRONMENT)
    )
    accuracy = add_evaluation(home, "news@1")
    add_evaluation(home, "news@1", metric="f1_macro", score=0.4)
    aliases.promote(home, "news@2", "production")
    aliases.promote(home, "news@1", "production", reason="better")
    aliases.promote(home, "news@2", "staging")
    aliases.unpromote(home, "news", "staging", reason="worse")
    gate_refusals.record(home, "news@2", "max_forgetting", detail="0.3 > 0.1")
    tags.change(home, "news@1", {"owner": "ana"})
    notes.add(home, "news@1", "weak on capitals")
    policy.change(home, protect=["release"], keep_last=3)
    deletion.delete(home, "news@3", "not wanted")
    add_ability(home)
    revise(home)
    streams.create(home, "two", {"name": "two"}, base_digest=BASE, tasks=["news", "films"])
    arm = streams.arm_run(
        home, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={"r": 8})
    ).id
    streams.set_sweep(home, arm, [{"lr": 0.1}], chosen={"lr": 0.1})
    streams.add_step(home, arm, None, version="news@1", base_unchanged=True, row={"news": accuracy.id})
    with home.database.write() as session:
        for kind in TableBase.registry.mappers:
            if not session.scalar(select(func.count()).select_from(kind.class_)):
                # a table of which this test does not know yet
                columns = [column for column in kind.local_table.columns if column.name != "id"]
                session.add(kind.class_(**{column.name: _sample(column) for column in columns}))
    assert verify(home, deep=True) == ()


def _sample(column: Any) -> Any:
    if column.foreign_keys:
        return 1
    kind = column.type.python_type if not hasattr(column.type, "impl") else dict
    samples: dict[type, Any] = {int: 1, float: 0.5, bool: True, str: WHEN, dict: {"a": 1}}
    return samples[kind]


@contextmanager
def _opened(home: Store) -> Iterator[Connection]:
    """A transaction in which everything may be edited, and which leaves nothing."""
    is_sqlite = home.database.url.get_backend_name() == "sqlite"
    with home.database.writer.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        if is_sqlite:
            driver.execute("PRAGMA foreign_keys = OFF")
        with connection.begin() as transaction:
            if is_sqlite:
                for table in APPEND_ONLY:
                    connection.exec_driver_sql(f"DROP TRIGGER {table}_no_update")
                    connection.exec_driver_sql(f"DROP TRIGGER {table}_no_delete")
            else:
                connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            yield connection
            transaction.rollback()
        if is_sqlite:
            driver.execute("PRAGMA foreign_keys = ON")


def _named(connection: Connection) -> list[Finding]:
    with Session(connection) as session:
        return [problem for check in (check_records, check_log) for problem in check(lambda: nullcontext(session))]


def _is_named(table: str, problems: list[Finding]) -> bool:
    if table == "log_events":
        return any(problem.kind == "log" for problem in problems)
    if table == "version_files":
        return any(problem.kind == "manifest" for problem in problems)
    return any(problem.kind == "row" and problem.where.split()[0] == table for problem in problems)


def _other(value: Any, kind: str, rng: random.Random) -> Any:
    """A value of a column's type that is not the one that is there."""
    if "BOOL" in kind:
        return not value
    if "INT" in kind:
        return (value or 0) + rng.randrange(1, 10_000)
    if "FLOAT" in kind or "DOUBLE" in kind or "REAL" in kind:
        return (value or 0.0) + rng.choice((1e-9, 0.25, -3.0))
    if not value:
        return "x"
    place = rng.randrange(len(value))
    letter = rng.choice([letter for letter in "abc 01" if letter != value[place]])
    return str(value[:place] + letter + value[place + 1 :])


def _tables(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def test_an_edit_of_any_column_of_any_table_is_named(lived: Store) -> None:
    rng = random.Random(14)
    unseen = []
    with _opened(lived) as connection:
        tables = _tables(connection)
        for table in tables:
            rows = connection.execute(table.select()).mappings().all()
            # on SQLite all of them; the mechanism is the same, and a server takes its time
            columns = list(table.columns)
            for column in columns if connection.dialect.name == "sqlite" else rng.sample(columns, 1):
                if (table.name, column.name) in DECIDES_NOTHING or (table.name, "*") in DECIDES_NOTHING:
                    continue
                row = rng.choice(rows)
                value = _other(row[column.name], str(column.type).upper(), rng)
                if column.nullable and row[column.name] is not None and rng.random() < 0.5:
                    value = None
                where = [key == row[key.name] for key in table.primary_key.columns]
                with connection.begin_nested() as edit:
                    connection.execute(table.update().where(*where).values({column.name: value}))
                    if not _is_named(table.name, _named(connection)):
                        unseen.append(f"{table.name}.{column.name} = {value!r}")
                    edit.rollback()
        assert {table.name for table in tables} == set(TableBase.metadata.tables)
    assert unseen == []


def test_a_row_of_any_table_that_is_taken_out_or_put_in_is_named(lived: Store) -> None:
    rng = random.Random(12)
    unseen = []
    with _opened(lived) as connection:
        tables = _tables(connection)
        for table in tables if connection.dialect.name == "sqlite" else rng.sample(tables, 6):
            if (table.name, "*") in DECIDES_NOTHING:
                continue
            rows = connection.execute(table.select().order_by(*table.primary_key.columns)).mappings().all()
            # the log's end can be cut off, with what it tells of, unseen; it is covered by the digest of its head
            row = rng.choice(rows[:-1] if table.name == "log_events" else rows)
            where = [key == row[key.name] for key in table.primary_key.columns]
            twin = {key.name: _other(row[key.name], str(key.type).upper(), rng) for key in _distinguishing(table)}
            for statement in (table.delete().where(*where), table.insert().values({**row, **twin})):
                with connection.begin_nested() as edit:
                    connection.execute(statement)
                    if not _is_named(table.name, _named(connection)):
                        unseen.append(str(statement))
                    edit.rollback()
    assert unseen == []


def _distinguishing(table: Table) -> list[Any]:
    """The columns by which a copy of a row may stand beside it."""
    unique = [list(kept.columns) for kept in (*table.constraints, *table.indexes) if _is_unique(kept)]
    # a row of the same version or task, where the rest of the key tells them apart
    own = [[column for column in columns if not column.foreign_keys] or columns for columns in unique]
    return [column for columns in own for column in columns]


def _is_unique(kept: Any) -> bool:
    return isinstance(kept, (PrimaryKeyConstraint, UniqueConstraint)) or getattr(kept, "unique", False)


EDITS = {
    "an alias moved, its event dated back": (
        "UPDATE aliases SET version_id = 2",
        "INSERT INTO alias_events "
        "(id, task_id, alias, action, from_version_id, to_version_id, actor, reason, created_at) "
        "VALUES (99, 1, 'production', 'promote', 1, 2, 'nobody', '', '2000-01-01T00:00:00.000000Z')",
    ),
    "a gate's refusal deleted": ("DELETE FROM gate_refusals",),
    "a live version marked as deleted": (
        "UPDATE versions SET deleted_at = '2020-01-01T00:00:00.000000Z', deleted_by = 'x', deleted_because = 'y' "
        "WHERE id = 2",
    ),
    "a task's labels swapped": ('UPDATE tasks SET labels = \'["y","x"]\'',),
    "a task's metric changed": ("UPDATE tasks SET definition = replace(definition, 'accuracy', 'f1_macro')",),
    "a score by F1 raised": ("UPDATE evaluations SET score = 0.99 WHERE metric = 'f1_macro'",),
    "an evaluation moved to another version": ("UPDATE evaluations SET version_id = 2, state_version_id = 2",),
    "a tag changed": ("UPDATE version_tags SET value = 'eve'",),
    "an alias unprotected": ("UPDATE policies SET value = '[]' WHERE key = 'protected_aliases'",),
    "a note rewritten": ("UPDATE version_notes SET text = 'excellent'",),
    "an environment rewritten": ("UPDATE environments SET content = replace(content, 'float32', 'bfloat16')",),
    "the score column of a version raised": ("UPDATE versions SET score = 0.99 WHERE id = 1",),
    "a version's tombstone taken away": (
        "UPDATE versions SET deleted_at = NULL, deleted_by = NULL, deleted_because = NULL",
    ),
    "an ability task raised": ("UPDATE abilities SET score = 0.99",),
    "a cell of the matrix exchanged": ("UPDATE step_cells SET evaluation_id = 2",),
    "an arm's choice rewritten": ("UPDATE arm_runs SET chosen = '{}'",),
}


def test_each_edit_that_changes_what_people_are_told_is_named(lived: Store) -> None:
    for name, statements in EDITS.items():
        with _opened(lived) as connection:
            for statement in statements:
                connection.execution_options(no_parameters=True).exec_driver_sql(statement)
            assert any(problem.kind == "row" for problem in _named(connection)), name


def test_what_an_edit_did_stands_beside_what_the_log_tells(lived: Store) -> None:
    forge(lived, EDITS["a gate's refusal deleted"][0], EDITS["a tag changed"][0])
    refusal, tag = verify(lived, deep=True)
    assert (refusal.kind, refusal.where) == ("row", "gate_refusals 1")
    assert "was taken out: event" in refusal.detail
    assert "(refuse news@2, by" in refusal.detail
    assert (tag.kind, tag.where) == ("row", "version_tags 1, owner")
    assert "(tag news@1, by" in tag.detail


@pytest.mark.parametrize(
    ("statements", "detail"),
    [
        (["DROP TRIGGER log_events_no_update"], "is gone"),
        (
            [
                "DROP TRIGGER log_events_no_update",
                "CREATE TRIGGER log_events_no_update BEFORE UPDATE ON log_events BEGIN SELECT 1; END",
            ],
            "is not as limpet made it",
        ),
        (
            ["CREATE TRIGGER quiet AFTER INSERT ON gate_refusals BEGIN DELETE FROM gate_refusals; END"],
            "is not one of limpet's",
        ),
    ],
)
def test_a_trigger_that_is_gone_other_or_foreign_is_named_on_sqlite(
    tmp_path: Path, statements: list[str], detail: str
) -> None:
    home = stock(tmp_path / "home")
    with home.database.writer.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    (problem,) = verify(home)
    home.database.close()
    assert problem.kind == "trigger"
    assert detail in problem.detail


@pytest.mark.parametrize(
    ("statement", "detail"),
    [
        ("DROP TRIGGER log_events_no_change ON log_events", "is gone"),
        ("ALTER TABLE log_events DISABLE TRIGGER log_events_no_change", "; off;"),
        (
            "CREATE OR REPLACE FUNCTION limpet_only_added_to() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RETURN NEW; END'",
            "RETURN NEW",
        ),
        ("ALTER TABLE aliases DISABLE TRIGGER ALL", "is not one of limpet's"),
    ],
)
def test_a_trigger_that_is_gone_off_or_other_is_named_on_postgresql(
    postgres_url: str, tmp_path: Path, statement: str, detail: str
) -> None:
    home = stock(tmp_path / "home", postgres_url)
    with home.database.writer.begin() as connection:
        connection.exec_driver_sql(statement)
    problems = verify(home)
    home.database.close()
    assert {problem.kind for problem in problems} == {"trigger"}
    assert all(detail in problem.detail for problem in problems)


def test_a_version_that_was_never_deleted_is_not_collected_unnoticed(lived: Store) -> None:
    forge(lived, *EDITS["a live version marked as deleted"])
    collect(lived, grace_seconds=0, dry_run=False)
    assert ("row", "versions 2") in {(problem.kind, problem.where) for problem in verify(lived)}


def test_rows_written_past_the_sessions_objects_are_refused(home: Store) -> None:
    with pytest.raises(TypeError, match="aliases"), home.database.write() as session:
        session.execute(delete(AliasRow))


def test_rows_of_which_the_caller_logs_nothing_are_covered_all_the_same(home: Store) -> None:
    with home.database.write("careless") as session:
        session.add(PolicyRow(key="unheard", value=1))
    (event,) = log.read(home, limit=1).items
    assert (event.action, event.subject) == ("careless", "policies")
    assert verify(home) == ()
