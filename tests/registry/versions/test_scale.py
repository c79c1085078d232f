"""Reads and writes cost the same however many versions there are: SQLite's own steps are counted, not seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from limpet.registry import versions
from limpet.registry.records.rows import references
from limpet.registry.store import Store
from limpet.registry.versions import VersionQuery, alias_history, aliases, tags
from limpet.registry.versions.sort_and_page import SORTS
from tests.registry.homes import add_version, draft, register, stock

# a step of the counter is so many instructions of SQLite's machine
_INSTRUCTIONS = 10
FEW, MANY = 10, 200
_WITHOUT_NUMBER = (
    "digest, manifest, manifest_digest, method, role, seed, score, size, trainable_parameters, base_digest, "
    "data_digest, environment_id, created_at"
)
_COPIED = f"number, {_WITHOUT_NUMBER}"


@dataclass
class Counted:
    """What was asked of the database meanwhile."""

    statements: list[tuple[str, Any]] = field(default_factory=list)
    steps: int = 0


@contextmanager
def counting(store: Store) -> Iterator[Counted]:
    """Count the statements and the steps of SQLite on all connections."""
    counted = Counted()

    def step() -> int:
        counted.steps += 1
        return 0

    def note(_: object, cursor: Any, statement: str, parameters: Any, *__: object) -> None:
        cursor.connection.set_progress_handler(step, _INSTRUCTIONS)
        if not statement.startswith(("BEGIN", "EXPLAIN")):
            counted.statements.append((statement, parameters))

    def done(_: object, cursor: Any, *__: object) -> None:
        cursor.connection.set_progress_handler(None, 0)

    # the engine that the writer is derived from
    engine = store.database.reader
    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "after_cursor_execute", done)
    try:
        yield counted
    finally:
        event.remove(engine, "before_cursor_execute", note)
        event.remove(engine, "after_cursor_execute", done)


def multiply(store: Store, task_count: int) -> None:
    """Give the home so many more tasks, each with copies of the first task's versions, its alias and its tag."""
    with store.database.write() as session:
        for statement in (
            "INSERT INTO tasks (id, name, definition, labels, splits, data_digest, checks, created_at) "
            "SELECT n, 'task-' || n, definition, labels, splits, data_digest, checks, created_at FROM tasks, numbers "
            "WHERE tasks.id = 1",
            f"INSERT INTO versions (id, task_id, {_COPIED}) SELECT n * 1000 + versions.id, n, {_COPIED} "
            "FROM versions, numbers WHERE task_id = 1",
            "INSERT INTO version_files SELECT n * 1000 + version_id, version_files.name, digest, size "
            "FROM version_files, numbers WHERE version_id < 1000",
            "INSERT INTO aliases SELECT n, aliases.name, n * 1000 + version_id FROM aliases, numbers "
            "WHERE task_id = 1",
            "INSERT INTO version_tags SELECT n * 1000 + version_id, name, value || n FROM version_tags, numbers",
        ):
            numbers = (
                f"WITH RECURSIVE numbers (n) AS (SELECT 3 UNION SELECT n + 1 FROM numbers WHERE n < {task_count})"
            )
            insert, select = statement.split("SELECT", 1)
            session.execute(text(f"{insert} {numbers} SELECT {select}"))


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """The same home with few versions and with many."""
    made = []
    for task_count in (FEW, MANY):
        store = stock(tmp_path_factory.mktemp("scale") / "home")
        for seed in range(20):
            add_version(store, seed=seed, metrics={} if seed % 5 == 0 else {"score": seed / 100})
        aliases.promote(store, "news@7", "production")
        tags.change(store, "news@8", {"owner": "ada"})
        multiply(store, task_count)
        made.append(store)
    return made[0], made[1]


READS: dict[str, tuple[int, Callable[[Store], object]]] = {
    "an alias": (1, lambda store: versions.resolve(store, "task-9@production")),
    "a number": (1, lambda store: versions.resolve(store, "task-9@20")),
    "a bare task": (1, lambda store: versions.resolve(store, "task-9")),
    "latest": (1, lambda store: versions.resolve(store, "task-9@latest")),
    "the newest": (2, lambda store: versions.find(store, limit=10)),
    "the next page": (2, lambda store: versions.find(store, limit=10, cursor=versions.find(store).cursor)),
    "of a task": (3, lambda store: versions.find(store, VersionQuery(task="task-9"), limit=10)),
    "of a method": (2, lambda store: versions.find(store, VersionQuery(method="lora"), limit=10)),
    "by a tag": (2, lambda store: versions.find(store, VersionQuery(where="tag.owner = ada9"), limit=10)),
    **{
        f"sorted by {sign}{name}": (
            2,
            lambda store, sort=sign + name: versions.find(store, VersionQuery(sort=sort), limit=10),  # type: ignore[misc]
        )
        for name in SORTS
        for sign in ("", "-")
    },
}


@pytest.mark.parametrize("read", READS)
def test_a_read_takes_the_same_steps_among_few_versions_and_among_many(homes: tuple[Store, Store], read: str) -> None:
    statements, call = READS[read]
    steps = []
    for store in homes:
        with counting(store) as counted:
            call(store)
        steps.append(counted.steps)
        assert len(counted.statements) == statements * (2 if read == "the next page" else 1)
    # the many are twenty times the few
    assert steps[0] > 0
    assert steps[1] <= steps[0] * 1.1 + 2


@pytest.mark.parametrize("read", READS)
def test_a_read_sorts_nothing_and_scans_no_table(homes: tuple[Store, Store], read: str) -> None:
    with counting(homes[1]) as counted:
        READS[read][1](homes[1])
    with homes[1].database.read() as session:
        for statement, parameters in counted.statements:
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            details = [str(row.detail) for row in plan]
            # by id, newest first, a table is its own index
            in_order = "ORDER BY versions.id DESC" in statement
            assert not [d for d in details if d.startswith("SCAN") and "INDEX" not in d and not in_order], details
            # the few aliases of one version, or of one page
            by_alias = "version_id" in statement and "aliases" in statement
            assert by_alias or not [d for d in details if "TEMP B-TREE" in d], details


def test_a_page_deep_in_a_list_costs_what_the_first_one_costs(homes: tuple[Store, Store]) -> None:
    store = homes[1]
    for sort in (None, "score", "-score", "size", "-seed"):
        with counting(store) as first:
            page = versions.find(store, VersionQuery(sort=sort), limit=10)
        for _ in range(100):
            page = versions.find(store, VersionQuery(sort=sort), limit=10, cursor=page.cursor)
        with counting(store) as deep:
            versions.find(store, VersionQuery(sort=sort), limit=10, cursor=page.cursor)
        assert deep.steps <= first.steps * 1.1 + 2, sort


def test_each_tasks_newest_version_is_found_by_one_step_in_an_index(homes: tuple[Store, Store]) -> None:
    for store in homes:
        with counting(store) as counted:
            found = versions.current(store)
        assert len(counted.statements) == 2
        # so many for each task, whatever versions it has
        assert counted.steps * _INSTRUCTIONS <= len(found) * 100 + 100


def test_registering_takes_the_same_steps_among_few_versions_and_among_many(homes: tuple[Store, Store]) -> None:
    steps = []
    for store in homes:
        register(store, draft(seed=100))
        with counting(store) as counted:
            register(store, draft(seed=101))
        steps.append(counted.steps)
        assert len(counted.statements) <= 12
    assert steps[1] <= steps[0] * 1.1 + 2


def test_moving_an_alias_takes_the_same_steps_after_few_moves_and_after_many(tmp_path: Path) -> None:
    store = stock(tmp_path / "home")
    for seed in range(3):
        add_version(store, seed=seed)
    aliases.promote(store, "news@1", "production")
    steps: list[list[int]] = []
    for moves in (FEW, 100 * FEW):
        with store.database.write() as session:
            # there and back again, as a nightly job does
            session.execute(
                text(
                    f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION SELECT n + 1 FROM numbers WHERE n < {moves}) "
                    "INSERT INTO alias_events "
                    "(task_id, alias, action, from_version_id, to_version_id, actor, reason, created_at) "
                    "SELECT 1, 'production', 'promote', 2 - n % 2, 1 + n % 2, 'ci', '', '' FROM numbers"
                )
            )
        counts = []
        for act in (
            lambda: aliases.promote(store, "news@3", "production"),
            lambda: aliases.promote(store, "news@3", "production"),
            lambda: aliases.rollback(store, "news", "production"),
            lambda: alias_history.moves_page(store, "news", "production"),
        ):
            with counting(store) as counted:
                act()
            counts.append(counted.steps)
        steps.append(counts)
    for few, many in zip(*steps, strict=True):
        assert many <= few * 1.2 + 5
    store.database.close()


def test_deleted_versions_cost_a_reader_of_a_task_nothing(homes: tuple[Store, Store]) -> None:
    store = homes[1]
    reads = [
        READS["latest"][1],
        lambda store: versions.resolve(store, "task-9"),
        lambda store: versions.find(store, VersionQuery(task="task-9"), limit=5),
        lambda store: versions.find(store, VersionQuery(method="prefix"), limit=5),
        *(
            lambda store, sort=sort: versions.find(store, VersionQuery(sort=sort), limit=5)
            for sort in ("number", "-number")
        ),
    ]
    steps: list[list[int]] = []
    for deleted in (0, 3000):
        with store.database.write() as session:
            session.execute(
                text(
                    "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION SELECT n + 1 FROM numbers WHERE n < :deleted) "
                    f"INSERT INTO versions (task_id, number, deleted_at, {_WITHOUT_NUMBER}) "
                    f"SELECT 9, n + 100, 'then', {_WITHOUT_NUMBER} FROM versions, numbers "
                    "WHERE versions.id = 9001 AND :deleted > 0"
                ),
                {"deleted": deleted},
            )
            session.execute(text("UPDATE versions SET method = 'prefix' WHERE task_id = 9"))
        counts = []
        for read in reads:
            with counting(store) as counted:
                read(store)
            counts.append(counted.steps)
        steps.append(counts)
    assert all(many <= few * 1.1 + 4 for few, many in zip(*steps, strict=True)), steps


def test_many_ids_fit_into_statements(store: Store) -> None:
    with store.database.read() as session:
        assert references(session, range(100_000)) == {}
