"""The gate beside experiments: what bars a version, for how long, and what is shown where a rule is crossed."""

from __future__ import annotations

import json

from tests.cli.conftest import Limpet

QUICK = ("--epochs", 1, "--quiet")


def set_rules(limpet: Limpet, text: str) -> None:
    path = limpet.home / "limpet.toml"
    kept = path.read_text(encoding="utf-8").partition("\n[gate]")[0]
    path.write_text(f"{kept}\n[gate]\n{text}\n", encoding="utf-8")


def test_the_gate_shows_every_rule_with_what_was_measured_also_where_one_is_crossed(grown: Limpet) -> None:
    passed = grown.ok("gate", "home", "--min-score", 0, "--require-identical", "--json").json
    assert passed["crossed"] is False
    assert [(one["rule"], one["limit"], one["crossed"]) for one in passed["verdicts"]] == [
        ("identical", True, False),
        ("score", 0.0, False),
        ("score", 0.0, False),
    ]
    outcome = grown("gate", "home", "--min-score", "wet=1.5", "--max-negative-flips", 1, "--json")
    assert (outcome.code, outcome.json["crossed"], outcome.error["type"]) == (6, True, "GateError")
    (crossed,) = [one for one in outcome.json["verdicts"] if one["crossed"]]
    assert (crossed["rule"], crossed["task"], crossed["version"], crossed["limit"]) == ("score", "wet", "wet@1", 1.5)
    assert f"{crossed['value']:.4f}" in outcome.error["message"]
    shown = grown("gate", "home", "--min-score", 1.5)
    assert shown.stdout.count("crossed") == 2
    for said in (shown.stdout, shown.stderr):
        assert "arm" not in said and "seed" not in said and ".." not in said


def test_an_experiment_that_crosses_its_own_limit_is_told_in_full_and_may_be_promoted(copy: Limpet) -> None:
    outcome = copy("train", "wet", *QUICK, "--seed", 3, "--max-forgetting", -0.5)
    assert outcome.code == 6
    assert "registered wet@2" in outcome.stdout and "score now" in outcome.stdout
    assert "wet@2 is kept, and may be promoted" in outcome.stderr
    moved = copy.ok("adapter", "promote", "wet@2", "production", "--json").json
    assert (moved["from_number"], moved["to_number"], moved["answers"]) == (1, 2, "wet@2")
    replaced = moved["replaced"]
    assert replaced["change"] == replaced["new_score"] - replaced["old_score"]


def test_a_version_that_the_gate_bars_is_let_in_on_purpose_or_once_it_passes(copy: Limpet) -> None:
    outcome = copy("train", "wet", *QUICK, "--seed", 4, "--promote", "production", "--max-forgetting", -0.5, "--json")
    assert (outcome.code, outcome.json["promoted"], outcome.error["type"]) == (6, None, "GateError")
    assert "limpet adapter promote wet@2 production --accept --reason TEXT" in outcome.error["hint"]
    assert [one["rule"] for one in outcome.json["verdicts"] if one["crossed"]] == [
        "forgetting",
        "replaced-forgetting",
    ]
    refused = copy("adapter", "promote", "wet@2", "production")
    assert refused.code == 6 and "wet@2 would take the place of wet@1: accuracy" in refused.stdout
    assert copy("adapter", "promote", "wet@2", "staging", "--json").json["moved"] is False
    accepted = copy.ok("adapter", "promote", "wet@2", "staging", "--accept", "--reason", "it is below 0.9.")
    assert "accepted: it is below 0.9." in accepted.stdout and ".." not in accepted.stdout
    # what is accepted once is not accepted for good
    assert copy("adapter", "promote", "wet@2", "production").code == 6

    set_rules(copy, "min_score = 1.5")
    assert copy("train", "place", *QUICK, "--seed", 5).code == 6
    assert copy("adapter", "promote", "place@3", "staging").code == 6
    set_rules(copy, "min_score = 0.0")
    copy.ok("adapter", "promote", "place@3", "staging")
    actions = [event["action"] for event in copy.ok("log", "--subject", "place@3", "--json").json["events"]]
    assert actions[0] == "lift"
    set_rules(copy, "min_score = 1.5")
    copy.ok("verify")


def test_an_alias_is_taken_off_and_set_again(copy: Limpet) -> None:
    assert copy("adapter", "unpromote", "wet", "production").code == 2
    copy.ok("adapter", "promote", "place@1", "production", "--accept", "--reason", "steadier")
    taken = copy.ok("adapter", "unpromote", "place", "production", "--reason", "too old", "--expect", "place@1")
    first, second, third = taken.stdout.splitlines()
    assert first == "place@production is not set (was place@1)"
    assert second == "place@2 answers for place now"
    assert third.startswith("place@2 took the place of place@1: accuracy")
    assert copy("adapter", "unpromote", "place", "production", "--reason", "once more").code == 3
    assert copy.ok("adapter", "show", "place", "--json").json["version"] == 2
    # the report goes on with what answers now
    report = copy.ok("report", "home", "--json").json
    assert [(one["old"], one["new"]) for one in report["replaced"] if one["task"] == "place"] == [
        ("place@1", "place@2"),
        ("place@2", "place@1"),
        ("place@1", "place@2"),
    ]
    back = copy.ok("adapter", "rollback", "place", "production", "--json").json
    assert (back["action"], back["from_number"], back["to_number"]) == ("rollback", None, 1)
    history = copy.ok("adapter", "history", "place").stdout
    assert history.count("unpromote") == 1
    copy.ok("verify")


def test_a_bundle_of_a_version_whose_alias_was_taken_off_is_taken_in(copy: Limpet) -> None:
    copy.ok("adapter", "unpromote", "wet", "production", "--reason", "moved elsewhere")
    file = copy.home.parent / "wet.limpet"
    copy.ok("adapter", "export", "wet@1", file)
    assert json.loads(copy.ok("adapter", "import", file, "--json").stdout)["created"] is False


def test_what_waits_after_a_deletion_is_said(copy: Limpet) -> None:
    copy.ok("adapter", "delete", "place@1", "--reason", "old labels.", "--yes")
    said = copy.ok("gc").stdout
    assert "that nothing needs wait for the grace period" in said and "--grace 0" in said
    found = copy.ok("gc", "--json").json
    assert found["waiting"]["count"] > 0 and found["waiting_from"] <= found["waiting_until"]
    assert "old labels.." not in copy("predict", "place@1", "a").stderr
