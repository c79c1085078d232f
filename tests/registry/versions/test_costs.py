"""What a version cost is told with null for what is not known, and held against `full` only where it can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limpet.registry import versions
from limpet.registry.exchange.document_schemas import MANIFEST
from limpet.registry.store import Store
from limpet.registry.versions import deletion
from limpet.registry.versions.costs import COMPARED, COSTS, against_full, figures, find_full, full_versions
from tests.registry.homes import ENVIRONMENT, add_version, stock

COST = {"train_seconds": 2.0, "examples_per_second": 30.0, "peak_memory_bytes": 600, "peak_memory_added_bytes": 100}
FULL = {"train_seconds": 8.0, "examples_per_second": 10.0, "peak_memory_bytes": 800, "peak_memory_added_bytes": 400}


@pytest.fixture
def home(tmp_path: Path) -> Store:
    return stock(tmp_path / "home")


def test_a_figure_that_a_version_has_not_is_null() -> None:
    found = figures({"train_seconds": 2.0, "something_else": 1})
    assert list(found) == list(COSTS)
    assert {key: value for key, value in found.items() if value is not None} == {"train_seconds": 2.0}


def test_figures_are_no_part_of_a_versions_identity(home: Store) -> None:
    first = add_version(home, cost=COST)
    second = add_version(home, cost=COST | {"train_seconds": 3.0, "latency": {"ratio": 1.2}})
    assert second == first
    assert first.cost["train_seconds"] == 2.0


def test_a_version_is_held_against_the_newest_full_one_of_the_same_task(home: Store) -> None:
    add_version(home, seed=1, method="full", cost=FULL | {"train_seconds": 5.0})
    newest = add_version(home, seed=2, method="full", cost=FULL, role="baseline")
    add_version(home, "films", seed=3, method="full", cost=FULL)
    version = add_version(home, seed=4, cost=COST)
    assert find_full(version, full_versions(home, "news")) == newest
    assert against_full(version, newest) == {
        "train_seconds": 0.25,
        "examples_per_second": 3.0,
        "peak_memory_bytes": 0.75,
        "peak_memory_added_bytes": 0.25,
    }


def test_versions_at_hand_come_before_those_of_the_home(home: Store) -> None:
    here = add_version(home, seed=1, method="full", cost=FULL)
    add_version(home, seed=2, method="full", cost=FULL)
    version = add_version(home, seed=3, cost=COST)
    assert find_full(version, [version, here, *full_versions(home, "news")]) == here


@pytest.mark.parametrize("name", ["device", "dtype", "threads"])
def test_times_of_another_machine_are_not_compared(home: Store, name: str) -> None:
    elsewhere = replace(ENVIRONMENT, **{name: 8 if name == "threads" else "other"})
    add_version(home, seed=1, method="full", cost=FULL, environment=elsewhere)
    assert find_full(add_version(home, seed=2, cost=COST), full_versions(home, "news")) is None


def test_what_is_not_known_is_not_compared(home: Store) -> None:
    full = add_version(home, seed=1, method="full", cost={"train_seconds": None, "examples_per_second": 0.0})
    version = add_version(home, seed=2, cost=COST)
    assert against_full(version, full) == dict.fromkeys(COMPARED)
    assert against_full(version, None) == dict.fromkeys(COMPARED)


def test_a_full_version_is_its_own_measure(home: Store) -> None:
    full = add_version(home, seed=1, method="full", cost=FULL)
    assert find_full(full, ()) == full
    assert set(against_full(full, full).values()) == {1.0}


def test_a_deleted_full_version_is_no_measure(home: Store) -> None:
    full = add_version(home, seed=1, method="full", cost=FULL)
    add_version(home, seed=2, method="full", cost={})
    deletion.delete(home, "news@2", "not needed")
    version = add_version(home, seed=3, cost=COST)
    assert find_full(version, full_versions(home, "news")) == full
    assert versions.look_up(home, "news@2").deleted is not None


@pytest.mark.parametrize(
    "cost",
    [
        {"bytes": "many"},
        {"peak_memory_added_bytes": float("nan")},
        {"train_seconds": True},
        {"latency": 1.0},
        {"latency": {"ratio": "fast"}},
        {"latency": {"device": ["cpu"]}},
        {"base_unchanged": 1},
        {"base_unchanged": []},
    ],
    ids=str,
)
def test_a_bundle_with_a_figure_of_another_kind_is_refused(cost: dict[str, Any]) -> None:
    check, _ = MANIFEST["cost"]
    assert check({})
    assert check({"bytes": 1, "latency": {"ratio": 1.01, "device": "cpu"}, "base_unchanged": True})
    assert not check(cost)
