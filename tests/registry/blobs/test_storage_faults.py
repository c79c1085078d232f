"""Full disks, read-only disks and disks that fail: a typed error, nothing half done, and the next try succeeds."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from limpet.cli import cli
from limpet.errors import LimpetError
from limpet.registry import versions
from limpet.registry.cleanup import gc
from limpet.registry.database.engine import connect, database_url
from limpet.registry.database.migrate import current, head
from limpet.registry.settings import Settings
from limpet.registry.store import create_store, open_store
from limpet.registry.verification.verify import verify
from limpet.registry.versions import alias_history, aliases
from tests.registry.blobs.faulty import ACTIONS, FAULTS, Outcome, beside, build, sweep
from tests.registry.blobs.small_disk import PAGE, SmallDisk, small_disk
from tests.registry.database.released import RELEASED, Rows, contents, lay_home
from tests.registry.deaths.deaths import state
from tests.registry.homes import adapter_file, add_version, draft, stock
from tests.registry.operations import OPERATIONS

# what a failure may leave: bytes that nothing names, never a name without bytes
HARMLESS = {"orphan", "stray"}
# what is tried where not everything is: each fault with the step from one failing call to the next
QUICK = {"a sync fails": 1, "no room is left": 40, "a name can't be changed": 1}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "2m") as made:
        yield made


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("faulty"))


@dataclass(frozen=True)
class Act:
    """An action, a home where it can be done, and what the registry says before and after it."""

    name: str
    home: Path
    before: object
    after: object

    def check_failed(self, home: Path) -> None:
        """Check a home where the action failed: nothing half done."""
        # an import is a task, a version, a probe: each of them whole, one after the other
        assert self.look(home) in (self.before, self.after) or self.name == "import"
        assert self.problems(home) <= HARMLESS
        for target in (beside(home, "folder"), beside(home, "limpet")):
            assert not target.exists()

    def check_done(self, home: Path) -> None:
        """Check a home where the action succeeded; what failed tries left can be collected."""
        assert self.look(home) == self.after
        if self.name == "upgrade":
            assert current(connect(database_url(None, home))) == head()
        else:
            store = open_store(home)
            make_older(home)
            gc.collect(store, grace_seconds=0, dry_run=False)
            store.database.close()
        assert self.problems(home) == set()
        if self.name == "export":
            assert len(list(beside(home, "folder").iterdir())) == 3
        if self.name == "export a bundle":
            assert beside(home, "limpet").stat().st_size > PAGE

    def look(self, home: Path) -> object:
        return _look(self.name, home)

    def problems(self, home: Path) -> set[str]:
        """The kinds of what is wrong with a home; of one that waits for its upgrade nothing can be said."""
        database = connect(database_url(None, home))
        found = current(database)
        database.close()
        if found != head():
            return set()
        store = open_store(home)
        kinds = {problem.kind for problem in verify(store)}
        store.database.close()
        return kinds


def _look(name: str, home: Path) -> object:
    if name == "upgrade":
        database = connect(database_url(None, home))
        said: object = contents(database, like=_released_rows())
        database.close()
        return said
    store = open_store(home)
    said = state(store)
    store.database.close()
    return said


@cache
def _released_rows() -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        database = lay_home(RELEASED[0], Path(folder))
        rows = contents(database)
        database.close()
        return rows


def prepare(name: str, home: Path, scratch: Path) -> Act:
    """Make a home where an action can be done; what the action makes of it was seen in a copy."""
    template = _template(name, scratch)
    shutil.copytree(template.home, home)
    return replace(template, home=home)


_TEMPLATES: dict[str, Act] = {}


def _template(name: str, scratch: Path) -> Act:
    """Return a home where an action can be done, made once for all tests of this file, by the first of them."""
    if name not in _TEMPLATES:
        _TEMPLATES[name] = _made(name, scratch / "template" / "home", scratch)
    return _TEMPLATES[name]


def _made(name: str, home: Path, scratch: Path) -> Act:
    home.parent.mkdir()
    if name == "upgrade":
        home.mkdir()
        lay_home(RELEASED[0], home).close()
    else:
        store = stock(home)
        if name in OPERATIONS:
            OPERATIONS[name].prepare(store)
        else:
            add_version(store, seed=1)
        # a trainer wrote its file before it came to the registry
        adapter_file(store, draft("news", 3))
        store.database.close()
    done = shutil.copytree(home, scratch / "done" / home.name)
    ACTIONS[name](done)
    act = Act(name, home, _look(name, home), _look(name, done))
    shutil.rmtree(done.parent)
    return act


def make_older(home: Path) -> None:
    """Let the hour pass that a temporary file has."""
    long_ago = time.time() - 7200
    for file in (home / "blobs" / "tmp").glob("*"):
        os.utime(file, (long_ago, long_ago))


def fails(name: str, home: Path) -> bool:
    """Do an action; say whether it failed, with exit code 1 and words."""
    try:
        ACTIONS[name](home)
    except LimpetError as error:
        assert error.exit_code == 1, error
        assert error.message
        assert error.hint
        return True
    return False


def _fill_further(disk: SmallDisk, act: Act, step: int) -> int:
    """Do an action with no room, with a little, with a little more, until it succeeds; return how often it failed."""
    for failures, free in enumerate(range(0, 400 * PAGE, step * PAGE)):
        disk.fill(free)
        if not fails(act.name, act.home):
            disk.drain()
            act.check_done(act.home)
            return failures
        act.check_failed(act.home)
    pytest.fail(f"{act.name} never succeeded")


@pytest.mark.parametrize("name", ACTIONS)
def test_a_full_disk_stops_an_action_whole_and_room_lets_it_succeed(
    disk: SmallDisk, tmp_path: Path, name: str
) -> None:
    act = prepare(name, disk.path / "home", tmp_path)
    assert _fill_further(disk, act, step=16 if name == "upgrade" else 4) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIONS)
def test_a_disk_that_fills_up_at_any_page_stops_an_action_whole(
    disk: SmallDisk, tmp_path: Path, name: str, record_property: pytest.RecordProperty
) -> None:
    act = prepare(name, disk.path / "home", tmp_path)
    record_property("failures", _fill_further(disk, act, step=1))


@pytest.mark.parametrize("part", ["blobs", "db"])
def test_either_part_of_a_home_may_be_the_one_that_is_full(disk: SmallDisk, tmp_path: Path, part: str) -> None:
    place = f"{disk.path}/blobs" if part == "blobs" else f"sqlite:///{disk.path}/limpet.db"
    store = stock(tmp_path / "home", **{part: place})
    add_version(store, seed=1)
    disk.fill()
    with pytest.raises(LimpetError, match=r"Nothing was (stored|recorded)") as caught:
        add_version(store, seed=2)
    assert caught.value.exit_code == 1
    assert [version.reference for version in versions.find(store).items] == ["news@1"]
    assert {problem.kind for problem in verify(store)} <= HARMLESS
    disk.drain()
    assert add_version(store, seed=2).reference == "news@2"
    assert verify(store) == ()
    store.database.close()


def test_a_home_can_be_made_once_there_is_room(disk: SmallDisk, tmp_path: Path) -> None:
    settings = Settings(cache=tmp_path / "cache")
    for pages in range(0, 400, 8):
        disk.fill(pages * PAGE)
        try:
            create_store(disk.path / "home", settings).database.close()
            break
        except LimpetError as error:
            assert error.exit_code == 1
    assert pages > 0
    disk.drain()
    assert verify(open_store(disk.path / "home")) == ()


def limpet(home: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["--home", str(home), *words])
    return done.exit_code, done.stderr


def test_the_command_says_that_the_disk_is_full_and_exits_with_1(disk: SmallDisk) -> None:
    home = disk.path / "home"
    store = stock(home)
    add_version(store, seed=1)
    store.database.close()
    disk.fill()
    code, said = limpet(home, "adapter", "promote", "news@1", "production")
    assert code == 1
    assert said.startswith("error: Nothing was recorded")
    assert "database or disk is full" in said
    assert said.splitlines()[-1].startswith("hint: ")
    disk.drain()
    assert limpet(home, "adapter", "promote", "news@1", "production")[0] == 0


@pytest.mark.parametrize("name", ACTIONS)
def test_a_read_only_disk_refuses_every_action(disk: SmallDisk, tmp_path: Path, name: str) -> None:
    act = prepare(name, disk.path / "home", tmp_path)
    with disk.read_only():
        assert fails(name, act.home)
    act.check_failed(act.home)
    assert not fails(name, act.home)
    act.check_done(act.home)


@pytest.mark.parametrize("name", [name for name in ACTIONS if not name.startswith("export")])
def test_a_read_only_database_refuses_every_action(disk: SmallDisk, tmp_path: Path, name: str) -> None:
    act = prepare(name, disk.path / "home", tmp_path)
    with disk.read_only_file(act.home / "limpet.db"):
        assert fails(name, act.home)
    act.check_failed(act.home)
    assert not fails(name, act.home)
    act.check_done(act.home)


def test_a_home_on_a_read_only_disk_can_be_read(disk: SmallDisk) -> None:
    home = disk.path / "home"
    store = stock(home)
    made = add_version(store, seed=1)
    aliases.promote(store, "news@1", "production")
    store.database.close()
    with disk.read_only():
        store = open_store(home)
        assert versions.resolve(store, "news@production").digest == made.digest
        assert versions.files(store, made)
        assert len(alias_history.moves(store, "news")) == 1
        assert verify(store) == ()
        store.database.close()


def _check_outcomes(act: Act, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        # one sync may: SQLite does not insist on its journal's folder. What is not needed any more may stay
        assert outcome.code == 1 or (outcome.code == 0 and outcome.fault != "every sync fails"), outcome
        if outcome.code:
            act.check_failed(outcome.home)
            ACTIONS[act.name](outcome.home)
        act.check_done(outcome.home)
        shutil.rmtree(outcome.home)


@pytest.mark.parametrize("name", ["register", "promote", pytest.param("upgrade", marks=pytest.mark.slow)])
def test_a_call_that_fails_stops_an_action_whole_and_the_next_try_succeeds(
    library: Path, tmp_path: Path, name: str
) -> None:
    act = prepare(name, tmp_path / "home", tmp_path)
    # one migration after the other makes calls of the same kinds, by the dozen
    steps = {fault: 3 * step for fault, step in QUICK.items()} if name == "upgrade" else QUICK
    outcomes = sweep(library, act.home, tmp_path / "copies", name, steps)
    assert {outcome.fault for outcome in outcomes} == set(QUICK)
    _check_outcomes(act, outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ACTIONS)
def test_every_call_of_every_action_may_fail(
    library: Path, tmp_path: Path, name: str, fault: str, record_property: pytest.RecordProperty
) -> None:
    act = prepare(name, tmp_path / "home", tmp_path)
    outcomes = sweep(library, act.home, tmp_path / "copies", name, {fault: 1})
    record_property("failures", len(outcomes))
    _check_outcomes(act, outcomes)
