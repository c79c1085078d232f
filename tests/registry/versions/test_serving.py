from __future__ import annotations

import pytest

from limpet.registry.records import alarms, gate_refusals
from limpet.registry.store import Store
from limpet.registry.versions import aliases
from limpet.registry.versions.serving import serving_summary
from tests.registry.homes import add_evaluation, add_version


def test_every_task_is_there_with_what_answers_for_it_and_how_that_came(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_ACTOR", "ana")
    add_version(home, seed=90)
    add_version(home, seed=91)
    add_version(home, seed=92, role="baseline")
    news, films = serving_summary(home)
    assert (news.task, news.version and news.version.reference, news.score) == ("news", "news@2", 0.91)
    assert (news.promoted, news.gate, news.alarm) == (False, None, None)
    assert news.change is not None and news.change.sentence().endswith("by ana")
    assert (news.change.action, news.change.before) == ("register", None)
    # nothing was learned for it yet, and it is listed all the same
    assert (films.task, films.version, films.score, films.change) == ("films", None, None, None)


def test_the_last_move_of_production_says_who_when_why_and_in_place_of_what(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (90, 91, 92):
        add_version(home, seed=seed)
    aliases.promote(home, "news@1", "production", reason="first")
    monkeypatch.setenv("LIMPET_ACTOR", "ben")
    aliases.promote(home, "news@2", "production", reason="better")
    aliases.promote(home, "news@3", "staging", reason="another alias is no change of what serves")
    news = serving_summary(home)[0]
    assert (news.version and news.version.number, news.promoted) == (2, True)
    assert news.change is not None
    assert news.change.sentence() == f"promoted {news.change.created_at[:10]} by ben in place of news@1: better"
    aliases.rollback(home, "news", "production", reason="worse after all")
    news = serving_summary(home)[0]
    assert news.version is not None and news.version.number == 1
    assert news.change is not None and news.change.action == "rollback"


def test_the_gates_last_word_is_the_newest_rule_crossed_or_its_acceptance(home: Store) -> None:
    for seed in (90, 91, 92):
        add_version(home, seed=seed)
    gate_refusals.record(home, "news@1", "max_forgetting", detail="0.05 is over 0.01")
    gate_refusals.record(home, "news@2", "min_score", detail="0.5 is under 0.9")
    gate = serving_summary(home)[0].gate
    assert gate is not None and gate.sentence() == f"news@2 crossed min_score on {gate.created_at[:10]}"
    assert gate.detail == "0.5 is under 0.9"
    judged = aliases.Judged(None, replaced=None, accepted=("min_score",))
    aliases.promote(home, "news@2", "production", reason="the old data was wrong", judged=judged)
    gate = serving_summary(home)[0].gate
    assert gate is not None and gate.sentence().endswith("(accepted: the old data was wrong)")
    assert (gate.version, gate.rule, gate.detail) == ("news@2", "min_score", "0.5 is under 0.9")
    gate_refusals.record(home, "news@3", "max_forgetting", detail="later")
    gate = serving_summary(home)[0].gate
    assert gate is not None and (gate.version, gate.accepted, gate.passed_at) == ("news@3", "", None)
    aliases.promote(home, "news@3", "production", judged=aliases.Judged(2))
    gate = serving_summary(home)[0].gate
    assert gate is not None and gate.sentence().endswith(f", and passed on {(gate.passed_at or '')[:10]}")


def test_an_open_alarm_of_what_answers_is_said(home: Store) -> None:
    version = add_version(home)
    first, second = add_evaluation(home, version.reference), add_evaluation(home, version.reference)
    alarms.sound(home, version.reference, evaluation=second.id, reference=first.id, detail="it answers otherwise")
    news = serving_summary(home)[0]
    assert news.alarm is not None and news.alarm.version == "news@1"
