from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from limpet.errors import ConflictError
from limpet.registry.database import migrate
from limpet.registry.database.engine import Database, connect, database_url
from limpet.registry.database.migrate import _alembic_config
from limpet.registry.database.schema import TableBase
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def empty(url: str, tmp_path: Path) -> Database:
    return connect(database_url(url, tmp_path))


def test_the_migrations_make_exactly_the_models(home: Store) -> None:
    with home.database.reader.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, TableBase.metadata) == []


def test_the_migrations_make_indexes_of_live_rows_where_the_models_note_it(home: Store) -> None:
    noted = {
        str(index.name): index.info.get("where")
        for table in TableBase.metadata.tables.values()
        for index in table.indexes
    }
    with home.database.reader.connect() as connection:
        inspector, kind = inspect(connection), connection.dialect.name
        made = {
            str(index["name"]): index.get("dialect_options", {}).get(f"{kind}_where")
            for table in TableBase.metadata.tables
            for index in inspector.get_indexes(table)
        }
    conditions = {name: None if where is None else str(where).strip("()") for name, where in made.items()}
    assert {name: conditions[name] for name in noted} == noted
    assert any(noted.values())


def test_the_head_in_the_code_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(_alembic_config()).get_current_head() == migrate.head()


def test_upgrading_is_repeatable_and_says_the_revision(empty: Database) -> None:
    assert migrate.current(empty) is None
    assert migrate.upgrade(empty) == migrate.Upgrade(None, migrate.head())
    assert migrate.upgrade(empty) == migrate.Upgrade(migrate.head(), migrate.head())
    assert migrate.current(empty) == migrate.head()
    empty.close()


def test_a_downgrade_to_nothing_leaves_nothing(empty: Database) -> None:
    migrate.upgrade(empty)
    config = _alembic_config()
    with empty.writer.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with empty.reader.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    empty.close()


def test_a_newer_schema_is_neither_used_nor_migrated(empty: Database) -> None:
    migrate.upgrade(empty)
    with empty.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (migrate.check_schema, migrate.upgrade):
        with pytest.raises(ConflictError, match="newer"):
            act(empty)
    assert migrate.current(empty) == "9999"
    empty.close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty: Database) -> None:
    with empty.writer.begin() as connection:
        # the last table of the migration is in the way
        connection.execute(text("CREATE TABLE mirror_items (key INTEGER)"))
    with pytest.raises(Exception, match="mirror_items"):
        migrate.upgrade(empty)
    with empty.reader.connect() as connection:
        assert inspect(connection).get_table_names() == ["mirror_items"]
    empty.close()


def _init(path: Path, url: str, blobs: str | None, outcome: multiprocessing.Queue[str]) -> None:
    try:
        create_store(path, Settings(db=url, blobs=blobs))
        outcome.put("made")
    except ConflictError:
        outcome.put("refused")


@pytest.mark.parametrize(
    "shared",
    [pytest.param(True, id="one blob store", marks=pytest.mark.slow), pytest.param(False, id="a blob store each")],
)
def test_of_four_processes_that_make_a_home_of_one_database_those_with_its_blobs_are_let_in(
    url: str, tmp_path: Path, shared: bool
) -> None:
    # they are forked from a process that has imported what they need, and has no threads
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    outcome: multiprocessing.Queue[str] = context.Queue()
    blobs = str(tmp_path / "blobs") if shared else None
    workers = [context.Process(target=_init, args=(tmp_path / f"home{i}", url, blobs, outcome)) for i in range(4)]
    for worker in workers:
        worker.start()
    answers = sorted(outcome.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
    assert answers == ["made"] * 4 if shared else ["made", "refused", "refused", "refused"]
    assert len(list(tmp_path.glob("home*"))) == answers.count("made")
