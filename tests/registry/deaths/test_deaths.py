"""A process killed anywhere in an operation leaves the state before or after it, and the same again succeeds."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from limpet.registry.cleanup import gc
from limpet.registry.store import Store
from limpet.registry.system.failpoints import FAILPOINTS
from limpet.registry.verification.verify import verify
from tests.registry.deaths.deaths import copy_home, drop_home, run_and_die, state
from tests.registry.operations import OPERATIONS

# what a death may leave: bytes that nothing names, never a name without bytes
HARMLESS = {"orphan", "stray"}


def _check_death(died: Store, name: str, before: object, after: object) -> None:
    """Check a home that an operation has died in, do the operation again, and collect what the death left."""
    assert state(died) in (before, after)
    assert {problem.kind for problem in verify(died, deep=True)} <= HARMLESS
    OPERATIONS[name].run(died)
    assert state(died) == after
    _make_older(died)
    gc.collect(died, grace_seconds=0, dry_run=False)
    assert verify(died, deep=True) == ()
    assert state(died) == after


def _make_older(store: Store) -> None:
    """Let the hour pass that a temporary file has."""
    long_ago = time.time() - 7200
    for file in (store.path / "blobs" / "tmp").glob("*"):
        os.utime(file, (long_ago, long_ago))


class Attack:
    """Homes where each operation can be done, with the states before and after it."""

    def __init__(self, home: Store, folder: Path) -> None:
        self.folder = folder
        self.kills = 0
        self._stock = home
        self._prepared: dict[str, tuple[Store, object, object]] = {}
        home.database.close()

    def prepare(self, name: str) -> None:
        """Bring a home to where the operation can be done, and see what it does undisturbed, once and twice."""
        home = copy_home(self._stock, self.folder / f"{name}-home")
        OPERATIONS[name].prepare(home)
        before = state(home)
        home.database.close()
        done = copy_home(home, self.folder / f"{name}-done")
        OPERATIONS[name].run(done)
        after = state(done)
        assert after != before or name == "gc"
        OPERATIONS[name].run(done)
        assert state(done) == after
        drop_home(done)
        self._prepared[name] = (home, before, after)

    def kill(self, name: str, failpoint: str = "", after: float | None = None) -> bool:
        """Let the operation die once, and check what it left; returns whether it died before its end."""
        home, before, done = self._prepared[name]
        died = copy_home(home, self.folder / f"{name}-{self.kills}")
        killed = run_and_die(died.path, name, failpoint, after) == -signal.SIGKILL
        self.kills += killed
        _check_death(died, name, before, done)
        drop_home(died)
        return killed

    def close(self) -> None:
        """Remove the prepared homes."""
        for home, _, _ in self._prepared.values():
            drop_home(home)


@pytest.fixture
def attack(home: Store, tmp_path: Path) -> Iterator[Attack]:
    made = Attack(home, tmp_path)
    yield made
    made.close()


# each failpoint once on SQLite, and on PostgreSQL those of two operations; the rest of them there takes longer
QUICK = [*(("sqlite", name) for name in OPERATIONS), ("postgresql", "promote")]
LATER = [("postgresql", name) for name in OPERATIONS if name != "promote"]


@pytest.mark.parametrize(
    ("home_after", "name"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in LATER)],
    indirect=["home_after"],
)
def test_a_death_at_any_failpoint_is_survived(attack: Attack, name: str) -> None:
    attack.prepare(name)
    for failpoint in OPERATIONS[name].failpoints:
        assert attack.kill(name, failpoint), failpoint


def test_every_failpoint_is_died_at() -> None:
    elsewhere = {name for name in FAILPOINTS if name.startswith("migrate.")}
    reached = {failpoint for operation in OPERATIONS.values() for failpoint in operation.failpoints}
    assert reached == set(FAILPOINTS) - elsewhere


@pytest.mark.slow
def test_five_hundred_deaths_at_random_are_survived(attack: Attack) -> None:
    chance = random.Random(0)
    took: dict[str, float] = {}
    for name in OPERATIONS:
        attack.prepare(name)
        began = time.perf_counter()
        attack.kill(name)
        took[name] = time.perf_counter() - began
    deaths: Counter[str] = Counter()
    while attack.kills < 500:
        name = chance.choice(list(OPERATIONS))
        if chance.random() < 0.5:
            places = OPERATIONS[name].failpoints
            deaths[name] += attack.kill(name, chance.choice(places))
        else:
            deaths[name] += attack.kill(name, after=chance.uniform(0, took[name]))
    print(f"{attack.kills} deaths: {dict(deaths)}")
