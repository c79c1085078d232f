from __future__ import annotations

import pytest

from limpet.errors import ConflictError, GateError, NotFoundError, UsageError
from limpet.registry import versions
from limpet.registry.cleanup import retention
from limpet.registry.records import gate_refusals, log, policy
from limpet.registry.store import Store
from limpet.registry.verification.verify import verify
from limpet.registry.versions import alias_history, aliases
from tests.registry.homes import add_version


@pytest.fixture
def three(home: Store) -> Store:
    for seed in range(3):
        add_version(home, seed=seed)
    return home


def test_a_promote_moves_the_alias_and_is_kept_in_the_history(three: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_ACTOR", "ana")
    first = aliases.promote(three, "news@1", "production", expect="none", reason="first")
    second = aliases.promote(three, "news@2", "production", expect="news@1", reason="better")
    assert (first.from_number, first.to_number, first.actor, first.reason) == (None, 1, "ana", "first")
    assert (second.from_number, second.to_number, second.action) == (1, 2, "promote")
    assert second.actor
    assert alias_history.moves(three, "news") == (first, second)
    assert versions.resolve(three, "news@production").number == 2


def test_a_stale_expectation_moves_nothing(three: Store) -> None:
    aliases.promote(three, "news@1", "production")
    for expect in ("none", "news@2"):
        with pytest.raises(ConflictError):
            aliases.promote(three, "news@3", "production", expect=expect)
    with pytest.raises(ConflictError, match="is not set"):
        aliases.promote(three, "news@3", "staging", expect="news@1")
    assert versions.resolve(three, "news@production").number == 1
    assert len(alias_history.moves(three, "news")) == 1


def test_promoting_where_it_stands_adds_no_move(three: Store) -> None:
    event = aliases.promote(three, "news@1", "production")
    assert aliases.promote(three, "news@1", "production", reason="again") == event
    assert alias_history.moves(three, "news") == (event,)


def test_rollbacks_undo_promotes_one_by_one(three: Store) -> None:
    for number in (1, 2, 3):
        aliases.promote(three, f"news@{number}", "production")
    assert aliases.rollback(three, "news", "production", reason="bad").to_number == 2
    assert aliases.rollback(three, "news", "production").to_number == 1
    with pytest.raises(ConflictError):
        aliases.rollback(three, "news", "production")
    aliases.promote(three, "news@3", "production")
    assert aliases.rollback(three, "news", "production").to_number == 1
    assert [event.action for event in alias_history.moves(three, "news", "production")] == [
        "promote", "promote", "promote", "rollback", "rollback", "promote", "rollback",
    ]  # fmt: skip


def test_an_alias_that_is_taken_off_is_not_set_and_the_history_says_who_did_it_and_why(three: Store) -> None:
    for number in (1, 2):
        aliases.promote(three, f"news@{number}", "production")
    with pytest.raises(ConflictError, match="not as expected"):
        aliases.unpromote(three, "news", "production", reason="wrong", expect="news@1")
    event = aliases.unpromote(three, "news", "production", reason="it is wrong", expect="news@2")
    assert (event.action, event.from_number, event.to_number, event.reason) == ("unpromote", 2, None, "it is wrong")
    assert alias_history.moves(three, "news")[-1] == event
    assert versions.resolve(three, "news").number == 3
    assert versions.resolve(three, "news@2").aliases == ()
    with pytest.raises(NotFoundError):
        versions.resolve(three, "news@production")
    assert log.read(three, "news@production").items[0].detail == {"from": 2, "to": None, "reason": "it is wrong"}
    assert verify(three) == ()


def test_a_command_that_takes_an_alias_off_may_be_typed_again(three: Store) -> None:
    aliases.promote(three, "news@1", "production")
    event = aliases.unpromote(three, "news", "production", reason="wrong")
    assert aliases.unpromote(three, "news", "production", reason="wrong") == event
    with pytest.raises(NotFoundError, match="took it off"):
        aliases.unpromote(three, "news", "production", reason="another one")
    for alias, reason, error in (("staging", "x", NotFoundError), ("production", " ", UsageError)):
        with pytest.raises(error):
            aliases.unpromote(three, "news", alias, reason=reason)


def test_a_rollback_sets_an_alias_again_that_was_taken_off_and_then_goes_on_back(three: Store) -> None:
    for number in (1, 2):
        aliases.promote(three, f"news@{number}", "production")
    aliases.unpromote(three, "news", "production", reason="wrong")
    back = aliases.rollback(three, "news", "production", expect="none")
    assert (back.from_number, back.to_number) == (None, 2)
    assert aliases.rollback(three, "news", "production").to_number == 1
    with pytest.raises(ConflictError, match="no version stood there"):
        aliases.rollback(three, "news", "production")
    aliases.unpromote(three, "news", "production", reason="wrong again")
    aliases.promote(three, "news@3", "production", expect="none")
    with pytest.raises(ConflictError, match="no version stood there"):
        aliases.rollback(three, "news", "production")
    assert verify(three) == ()


def test_retention_keeps_what_a_rollback_of_an_alias_that_was_taken_off_goes_to(three: Store) -> None:
    aliases.promote(three, "news@1", "production")
    policy.change(three, keep_last=1)
    aliases.unpromote(three, "news", "production", reason="for a while")
    assert list(retention.apply(three)) == ["news@2"]
    assert aliases.rollback(three, "news", "production").to_number == 1


def test_the_history_comes_in_pages(three: Store) -> None:
    for number in (1, 2, 3):
        aliases.promote(three, f"news@{number}", "production")
        aliases.promote(three, f"news@{number}", "staging")
    first = alias_history.moves_page(three, "news", limit=4)
    second = alias_history.moves_page(three, "news", limit=4, cursor=first.cursor)
    assert (*first.items, *second.items) == alias_history.moves(three, "news")
    assert (len(second.items), second.cursor) == (2, None)
    of_one = alias_history.moves_page(three, "news", "staging", limit=2)
    assert [move.to_number for move in of_one.items] == [1, 2]
    for limit, cursor in ((0, None), (1001, None), (50, "x")):
        with pytest.raises(UsageError):
            alias_history.moves_page(three, "news", limit=limit, cursor=cursor)


def test_aliases_do_not_disturb_each_other(three: Store) -> None:
    aliases.promote(three, "news@1", "production")
    aliases.promote(three, "news@2", "staging")
    assert versions.resolve(three, "news@production").number == 1
    assert len(alias_history.moves(three, "news", "staging")) == 1
    assert versions.resolve(three, "news@2").aliases == ("staging",)


@pytest.mark.parametrize("alias", ["latest", "3", "../x", "UP", "", "a" * 65])
def test_names_that_mean_something_else_are_refused(three: Store, alias: str) -> None:
    with pytest.raises(UsageError):
        aliases.promote(three, "news@1", alias)


@pytest.mark.parametrize("expect", ["films@1", "news", "news@production", "1"])
def test_an_expectation_names_a_version_of_the_task(three: Store, expect: str) -> None:
    with pytest.raises(UsageError):
        aliases.promote(three, "news@1", "production", expect=expect)


def test_who_and_why_are_texts_that_can_be_shown(three: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for reason in ("\udcff", "a\x1b[2Jb", "x" * 1001):
        with pytest.raises(UsageError, match="The reason h"):
            aliases.promote(three, "news@1", "production", reason=reason)
    for name in ("\udcff", "a\nb", "x" * 257):
        monkeypatch.setenv("LIMPET_ACTOR", name)
        with pytest.raises(UsageError, match="The name in LIMPET_ACTOR h"):
            aliases.promote(three, "news@1", "production")
    assert alias_history.moves(three, "news") == ()
    monkeypatch.setenv("LIMPET_ACTOR", "the night's deploy")
    assert aliases.promote(three, "news@1", "production").actor == "the night's deploy"


def test_a_baseline_is_not_promoted(three: Store) -> None:
    add_version(three, seed=9, role="baseline")
    with pytest.raises(ConflictError, match="baseline"):
        aliases.promote(three, "news@4", "production")


def test_a_version_that_crossed_the_gate_is_not_promoted(three: Store) -> None:
    aliases.promote(three, "news@1", "production")
    refusal = gate_refusals.record(three, "news@2", "max_forgetting", detail="0.2 > 0.1")
    assert gate_refusals.record(three, "news@2", "max_forgetting", detail="0.2 > 0.1") == refusal
    assert gate_refusals.for_version(three, "news@2") == (refusal,)
    assert gate_refusals.for_version(three, "news@1") == ()
    with pytest.raises(GateError, match=r"max_forgetting: 0\.2 > 0\.1"):
        aliases.promote(three, "news@2", "production")
    assert versions.resolve(three, "news@production").number == 1


def test_what_was_crossed_by_an_experiment_is_kept_and_bars_nothing(three: Store) -> None:
    refusal = gate_refusals.record(three, "news@2", "forgetting", detail="0.2 > 0.1", bars=False)
    assert gate_refusals.for_version(three, "news@2") == (refusal,)
    assert aliases.promote(three, "news@2", "production").to_number == 2


def test_a_version_that_was_judged_anew_and_passed_is_barred_no_longer(three: Store) -> None:
    gate_refusals.record(three, "news@2", "forgetting", detail="0.2 > 0.1")
    accepted = aliases.Judged(None, accepted=("forgetting",))
    aliases.promote(three, "news@2", "staging", judged=accepted)
    # what was accepted for one alias is not accepted for another
    assert gate_refusals.bars(three, "news@2")
    aliases.promote(three, "news@2", "production", judged=aliases.Judged(None))
    (refusal,) = gate_refusals.for_version(three, "news@2")
    assert refusal.lifted_at and not gate_refusals.bars(three, "news@2")
    assert log.read(three, "news@2").items[0].action == "lift"
    assert verify(three) == ()


def test_what_is_not_there_is_not_found(three: Store) -> None:
    for act in (
        lambda: aliases.promote(three, "news@9", "production"),
        lambda: aliases.promote(three, "sport@1", "production"),
        lambda: aliases.rollback(three, "news", "production"),
        lambda: aliases.unpromote(three, "news", "production", reason="wrong"),
        lambda: alias_history.moves(three, "sport"),
        lambda: gate_refusals.record(three, "news@9", "rule", detail="detail"),
    ):
        with pytest.raises(NotFoundError):
            act()
