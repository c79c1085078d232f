"""Processes register, delete and evaluate while others collect without any grace period: nothing is ever lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from limpet.errors import ConflictError
from limpet.registry import versions
from limpet.registry.cleanup.gc import collect
from limpet.registry.records import policy
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.registry.verification.verify import verify
from limpet.registry.versions import deletion
from tests.registry.homes import add_evaluation, add_version
from tests.registry.versions.test_concurrency import PROCESSES, run_together

COLLECTORS = 2
Result = TypeVar("Result")


def _insist(work: Callable[[], Result]) -> Result:
    """Run again where a gc was quicker, as the message says."""
    for _ in range(100):
        try:
            return work()
        except ConflictError as error:
            assert "taken away by a gc" in error.message
    raise AssertionError("a gc was quicker a hundred times")


def _evaluate(store: Store, version: VersionRecord) -> None:
    add_evaluation(store, version.reference, f"predictions of {version.reference}".encode())


def _work(store: Store, i: int, rounds: int) -> Any:
    if i < COLLECTORS:
        return sum(collect(store, grace_seconds=0, dry_run=False).deleted.count for _ in range(rounds))
    kept = []
    for n in range(rounds):
        seed = 1000 * i + n
        first = _insist(lambda seed=seed: add_version(store, seed=seed))  # type: ignore[misc]
        deletion.delete(store, first.reference, "to be registered again")
        # the same bytes, which may be marked, going, or gone
        version = _insist(lambda seed=seed: add_version(store, seed=seed))  # type: ignore[misc]
        assert version.number > first.number
        _insist(lambda version=version: _evaluate(store, version))  # type: ignore[misc]
        kept.append(version.reference)
    return kept


def _a_few(store: Store, i: int) -> Any:
    return _work(store, i, 6)


def _many(store: Store, i: int) -> Any:
    return _work(store, i, 60)


def _attack(home: Store, work: Callable[[Store, int], Any]) -> None:
    results = run_together(home, work)
    assert all(isinstance(result, int | list) for result in results), results
    kept = {reference for result in results if isinstance(result, list) for reference in result}
    assert {version.reference for version in _all(home)} == kept
    assert verify(home) == ()
    policy.change(home, keep_last=1)
    collect(home, grace_seconds=0, dry_run=False)
    assert len(_all(home)) == 1
    assert verify(home) == ()


def _all(store: Store) -> list[VersionRecord]:
    found = list(versions.find(store, limit=1000).items)
    for version in found:
        assert versions.files(store, version)
    return found


def test_nothing_is_lost_beside_collectors_without_a_grace_period(home: Store) -> None:
    _attack(home, _a_few)


@pytest.mark.slow
def test_nothing_is_lost_beside_collectors_for_long(home: Store) -> None:
    assert PROCESSES > COLLECTORS
    _attack(home, _many)
