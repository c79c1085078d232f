"""The gate's rules as people write them: a table of limpet.toml, and options over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limpet.errors import GateError, NotFoundError, UsageError
from limpet.forgetting.gate.parse import has_rule, parse_rules, read_rules, with_limits
from limpet.forgetting.gate.rules import GateRules, TaskRules
from limpet.home import Home
from limpet.training.learning.settings import TrainingSettings

QUICK = TrainingSettings(epochs=1, batch_size=8, dtype="float32")


def set_gate(home: Home, text: str) -> None:
    path = home.path / "limpet.toml"
    path.write_text(path.read_text(encoding="utf-8") + "\n[gate]\n" + text, encoding="utf-8")


def test_the_table_of_the_settings_file_holds_every_rule(tmp_path: Path) -> None:
    (tmp_path / "limpet.toml").write_text(
        """
        [gate]
        max_forgetting = 0.01
        max_worst = 0.02
        require_identical = true
        max_negative_flips = 0.03
        min_score = 0.8
        max_bytes = 5000000
        max_train_seconds = 600
        max_share = 0.05
        [gate.tasks.wet]
        max_forgetting = 0
        min_score = 0.9
        """,
        encoding="utf-8",
    )
    wet = TaskRules(max_forgetting=0, min_score=0.9)
    assert read_rules(tmp_path) == GateRules(0.01, 0.02, True, 0.03, 0.8, 5_000_000, 600, 0.05, {"wet": wet})
    assert not has_rule(read_rules(tmp_path / "elsewhere"))


def test_an_option_wins_over_the_file_and_a_task_over_all_tasks() -> None:
    rules = parse_rules({"max_forgetting": 0.1, "tasks": {"wet": {"min_score": 0.5}}}, "[gate]")
    given = {"max_forgetting": ("0.2", "wet=0"), "min_score": ("0.7",), "max_bytes": ()}
    found = with_limits(rules, given, require_identical=False)
    assert (found.max_forgetting, found.min_score) == (0.2, 0.7)
    assert found.of("wet") == TaskRules(max_forgetting=0, min_score=0.5)
    assert found.of("place") == TaskRules(min_score=0.7)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"max_forgeting": 0.1}, "max_forgeting"),
        ({"max_forgetting": "little"}, "little"),
        ({"max_bytes": True}, "True"),
        ({"require_identical": 1}, "require_identical"),
        ({"tasks": {"wet": 0.5}}, "tasks"),
        ({"tasks": {"wet": {"max_bytes": 5}}}, "max_bytes"),
    ],
)
def test_a_rule_that_is_none_is_named(table: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_rules(table, "[gate]")


def test_an_option_that_is_no_limit_is_named() -> None:
    with pytest.raises(UsageError, match="for all tasks"):
        with_limits(GateRules(), {"max_share": ("wet=0.5",)}, False)
    with pytest.raises(UsageError, match="much"):
        with_limits(GateRules(), {"max_share": ("much",)}, False)


def test_the_gate_of_the_settings_file_judges_every_addition(home: Home) -> None:
    set_gate(home, "require_identical = true\nmin_score = 0.0\n")
    home.train("place", QUICK, promote="production")
    assert home.train("wet", QUICK, promote="production").promoted is not None


def test_a_version_below_the_least_score_is_kept_but_not_promoted(home: Home) -> None:
    home.train("place", QUICK)
    set_gate(home, "[gate.tasks.wet]\nmin_score = 1.5\n[gate.tasks.place]\nmin_score = 1.5\n")
    with pytest.raises(GateError, match="score of wet") as crossed:
        home.train("wet", QUICK, promote="production")
    # that the earlier task scores too little is no fault of this addition
    assert "place" not in crossed.value.message
    assert home.adapter.show("wet@1").aliases == ()
    with pytest.raises(GateError, match="score of place"):
        home.gate("home")


def test_a_limit_for_a_task_that_the_home_has_not_is_no_limit_that_is_kept(home: Home) -> None:
    home.train("place", QUICK)
    with pytest.raises(NotFoundError, match="plaice"):
        home.gate("home", with_limits(GateRules(), {"min_score": ("plaice=0.5",)}, False))
    set_gate(home, "[gate.tasks.plaice]\nmin_score = 0.5\n")
    with pytest.raises(NotFoundError, match="plaice"):
        home.gate("home")


def test_a_gate_of_the_settings_file_can_not_be_passed_by_without_the_monitor(home: Home) -> None:
    set_gate(home, "max_worst = 0.5\n")
    with pytest.raises(UsageError, match="monitor"):
        home.train("place", QUICK, monitor=False, promote="production")
