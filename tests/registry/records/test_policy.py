from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from limpet.errors import ConflictError, NotFoundError, UsageError
from limpet.registry import versions
from limpet.registry.records import log, policy
from limpet.registry.records.policy import Policy
from limpet.registry.store import Store
from limpet.registry.versions import aliases
from tests.registry.homes import add_version, again, stock


@pytest.fixture
def guarded(home: Store) -> Store:
    """Three versions, the second in production, and production is protected."""
    for seed in range(3):
        add_version(home, seed=seed)
    aliases.promote(home, "news@1", "production")
    aliases.promote(home, "news@2", "production")
    policy.change(home, protect=["production"], reason="it serves")
    return home


def test_a_new_home_has_no_rules(home: Store) -> None:
    assert policy.get(home) == Policy((), None, None)


def test_rules_change_one_by_one_and_hold_for_everyone(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_ACTOR", "ana")
    policy.change(home, protect=["production", "live"], keep_last=3, reason="we go live")
    policy.change(home, unprotect=["live"], keep_days=30)
    assert policy.get(again(home)) == Policy(("production",), 3, 30)
    policy.change(home, keep_last="none")
    assert policy.get(home) == Policy(("production",), None, 30)


def test_every_change_is_logged_and_no_change_is_not(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_ACTOR", "ana")
    policy.change(home, protect=["production"], reason="we go live")
    policy.change(home, protect=["production"], keep_last="none")
    events = [event for event in log.read(home).items if event.action == "policy"]
    assert len(events) == 1
    assert (events[0].actor, events[0].detail["reason"]) == ("ana", "we go live")
    assert events[0].detail["from"]["protected_aliases"] == []
    assert events[0].detail["to"]["protected_aliases"] == ["production"]


def test_rules_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    home = stock(tmp_path / "home")
    for act in (
        lambda: policy.change(home, protect=["latest"]),
        lambda: policy.change(home, protect=["3"]),
        lambda: policy.change(home, keep_last=0),
        lambda: policy.change(home, keep_days=-1),
        lambda: policy.change(home, keep_days=100_000),
        lambda: policy.change(home, keep_last=3, reason="\x07"),
    ):
        with pytest.raises(UsageError):
            act()
    with pytest.raises(NotFoundError, match="'production' is not protected"):
        policy.change(home, unprotect=["production"], keep_last=3)
    assert policy.get(home) == Policy()


@pytest.mark.parametrize(
    "move",
    [
        lambda store, **how: aliases.promote(store, "news@3", "production", **how),
        lambda store, **how: aliases.rollback(store, "news", "production", **how),
    ],
    ids=["promote", "rollback"],
)
def test_a_protected_alias_moves_with_an_expectation_and_a_reason_only(
    guarded: Store, move: Callable[..., object]
) -> None:
    for how in ({}, {"expect": "news@2"}, {"reason": "better"}, {"expect": "news@2", "reason": "  "}):
        with pytest.raises(ConflictError, match="is protected") as refused:
            move(guarded, **how)
        assert "--expect news@2 --reason TEXT" in refused.value.hint
    with pytest.raises(ConflictError, match="not as expected"):
        move(guarded, expect="news@1", reason="better")
    assert versions.resolve(guarded, "news@production").number == 2
    move(guarded, expect="news@2", reason="better")
    assert versions.resolve(guarded, "news@production").number != 2


def test_a_protected_alias_is_taken_off_with_an_expectation_only(guarded: Store) -> None:
    with pytest.raises(ConflictError, match="is protected") as refused:
        aliases.unpromote(guarded, "news", "production", reason="worse")
    assert "limpet adapter unpromote news production --expect news@2 --reason TEXT" in refused.value.hint
    assert aliases.unpromote(guarded, "news", "production", reason="worse", expect="news@2").to_number is None


def test_a_protected_alias_is_set_for_the_first_time_in_the_same_way(guarded: Store) -> None:
    add_version(guarded, "films")
    with pytest.raises(ConflictError, match="is protected") as refused:
        aliases.promote(guarded, "films@1", "production")
    assert "limpet adapter promote films@1 production --expect none --reason TEXT" in refused.value.hint
    aliases.promote(guarded, "films@1", "production", expect="none", reason="first")


def test_other_aliases_move_freely(guarded: Store) -> None:
    aliases.promote(guarded, "news@3", "staging")
    aliases.check_unprotected(guarded, "news", "staging")
    with pytest.raises(ConflictError, match="alias production is protected"):
        aliases.check_unprotected(guarded, "news", "production")


def test_a_stale_expectation_stops_a_rollback(guarded: Store) -> None:
    policy.change(guarded, unprotect=["production"])
    with pytest.raises(ConflictError, match="not as expected"):
        aliases.rollback(guarded, "news", "production", expect="news@3")
    assert aliases.rollback(guarded, "news", "production", expect="news@2").to_number == 1
