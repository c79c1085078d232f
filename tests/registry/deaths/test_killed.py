from __future__ import annotations

import random
import time

import pytest

from limpet.registry import versions
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.registry.verification.verify import verify
from tests.registry.homes import add_version, again
from tests.warm import Warm

# what a death may leave: bytes that nothing names, never a name without bytes
HARMLESS = {"orphan", "stray"}
SCRIPT = """
from pathlib import Path
from limpet.registry.store import open_store
from limpet.registry.versions import aliases
from tests.registry.homes import add_version
store = open_store(Path({path!r}))
print("ready", flush=True)
for seed in range({first}, {first} + 10_000):
    version = add_version(store, seed=seed)
    print(version.reference, flush=True)
    aliases.promote(store, version.reference, "production")
"""


def _kill_a_writer(warm: Warm, home: Store, first: int, *, after: float) -> list[str]:
    """Let a process register and promote, kill it after some seconds, return what it said it had registered."""
    script = SCRIPT.format(path=str(home.path), first=first)
    process = warm.start("-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(after)
    process.kill()
    said = process.stdout.read().splitlines()
    process.wait()
    process.close()
    return [line for line in said if "@" in line]


def _attack(warm: Warm, home: Store, kills: int) -> None:
    chance = random.Random(0)
    said: set[str] = set()
    for kill in range(kills):
        said |= set(_kill_a_writer(warm, home, 1_000_000 * (kill + 1), after=chance.uniform(0, 0.15)))
        store = again(home)
        assert {problem.kind for problem in verify(store)} <= HARMLESS
        # what was reported as registered is there, and the next one gets the next number
        new = add_version(store, seed=kill)
        numbers = sorted(version.number for version in _all(store))
        assert numbers == list(range(1, new.number + 1))
        assert {int(reference.split("@")[1]) for reference in said} <= set(numbers)
        store.database.close()
    assert said


def _all(store: Store) -> list[VersionRecord]:
    found: list[VersionRecord] = []
    cursor: str | None = None
    while True:
        page = versions.find(store, limit=1000, cursor=cursor)
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


def test_a_killed_writer_leaves_only_whole_versions(home: Store, warm: Warm) -> None:
    _attack(warm, home, 5)


@pytest.mark.slow
def test_a_hundred_killed_writers_leave_only_whole_versions(home: Store, warm: Warm) -> None:
    _attack(warm, home, 100)
