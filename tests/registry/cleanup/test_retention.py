from __future__ import annotations

from collections.abc import Iterable

import pytest
from sqlalchemy import text

from limpet.registry import versions
from limpet.registry.cleanup import retention
from limpet.registry.records import log, policy, streams
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft
from limpet.registry.versions import aliases, deletion
from tests.registry.homes import BASE, add_version


@pytest.fixture
def seven(home: Store) -> Store:
    """Versions 1 to 7 of one task, one of another."""
    for seed in range(7):
        add_version(home, seed=seed)
    add_version(home, "films")
    return home


def _expired(store: Store) -> list[str]:
    with store.database.read() as session:
        return list(retention.describe(session, retention.expired(session)))


def _age(store: Store, numbers: Iterable[int], when: str = "2020-01-01T00:00:00.000000Z") -> None:
    """Let versions look old; only the column that is searched by, which is what retention reads."""
    with store.database.write() as session:
        for number in numbers:
            session.execute(
                text("UPDATE versions SET created_at = :when WHERE task_id = 1 AND number = :number"),
                {"when": when, "number": number},
            )


def _stepped(store: Store, stream: str, version: str) -> None:
    streams.create(store, stream, {"name": stream}, base_digest=BASE, tasks=["news"])
    arm = streams.arm_run(
        store, stream, ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={})
    )
    streams.add_step(store, arm.id, None, version=version, base_unchanged=True, row={})


def test_without_rules_everything_stays(seven: Store) -> None:
    _age(seven, range(1, 8))
    assert _expired(seven) == []
    assert retention.apply(seven) == {}


def test_adapters_beyond_the_newest_go_task_by_task(seven: Store) -> None:
    policy.change(seven, keep_last=5)
    assert _expired(seven) == ["news@1", "news@2"]
    deletion.delete(seven, "news@7", "not wanted")
    assert _expired(seven) == ["news@1"]


def test_adapters_older_than_some_days_go_but_the_newest_stays(seven: Store) -> None:
    policy.change(seven, keep_days=30)
    assert _expired(seven) == []
    _age(seven, range(1, 8))
    assert _expired(seven) == [f"news@{number}" for number in range(1, 7)]


def test_each_rule_that_is_set_must_agree(seven: Store) -> None:
    policy.change(seven, keep_days=30, keep_last=4)
    _age(seven, (2, 6))
    assert _expired(seven) == ["news@2"]
    assert list(retention.apply(seven)) == ["news@2"]


def test_what_is_in_use_stays(seven: Store) -> None:
    policy.change(seven, keep_last=1)
    # production stands at 3 and would go back to 1; what it left before that is free
    for number in (2, 1, 3):
        aliases.promote(seven, f"news@{number}", "production")
    aliases.promote(seven, "news@4", "staging")
    assert _expired(seven) == ["news@2", "news@5", "news@6"]


def test_the_evidence_of_a_stream_stays_and_the_growth_of_the_home_holds_nothing(seven: Store) -> None:
    policy.change(seven, keep_last=5)
    _stepped(seven, "four-topics", "news@1")
    _stepped(seven, streams.HOME_STREAM, "news@2")
    assert _expired(seven) == ["news@2"]


def test_what_a_version_that_stays_was_trained_from_stays(home: Store) -> None:
    add_version(home, seed=1)
    add_version(home, seed=2, parent="news@1")
    add_version(home, seed=3, parent="news@2")
    add_version(home, seed=4)
    policy.change(home, keep_last=2)
    assert _expired(home) == []
    policy.change(home, keep_last=1)
    assert _expired(home) == ["news@1", "news@2", "news@3"]


def test_baselines_are_no_adapters_and_stay(home: Store) -> None:
    add_version(home, seed=1, role="baseline")
    add_version(home, seed=2)
    add_version(home, seed=3)
    policy.change(home, keep_last=1)
    assert _expired(home) == ["news@2"]


def test_retention_leaves_tombstones_that_name_the_rules(seven: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    policy.change(seven, keep_last=6, keep_days=0)
    monkeypatch.setenv("LIMPET_ACTOR", "cron")
    assert list(retention.apply(seven)) == ["news@1"]
    gone = versions.look_up(seven, "news@1").deleted
    assert gone is not None
    assert (gone.actor, gone.reason) == ("cron", "retention: beyond the newest 6 and older than 0 days")
    assert log.read(seven, "news@1").items[0].action == "delete"
    assert retention.apply(seven) == {}


def test_many_versions_go_in_several_transactions(seven: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    policy.change(seven, keep_last=1)
    assert list(retention.apply(seven)) == [f"news@{number}" for number in range(1, 7)]
    assert _expired(seven) == []
