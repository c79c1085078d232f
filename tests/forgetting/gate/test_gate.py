from __future__ import annotations

from dataclasses import replace

import pytest

from limpet.forgetting.gate import verdicts
from limpet.forgetting.gate.rules import GateRules, TaskRules
from limpet.forgetting.gate.verdicts import Verdict
from limpet.forgetting.metrics.forgetting import Rows, all_metrics
from limpet.forgetting.report.arm_values import ArmReport, Cost, VersionReport

STRICT = GateRules(max_forgetting=0.0, max_worst=0.0, require_identical=True)


def arm(rows: Rows, identical: bool | None = True, flips: tuple[float | None, ...] = ()) -> ArmReport:
    versions = tuple(VersionReport(f"{task}@1", "sha256:", "lora", 1000, "") for task in "abc"[: len(rows)])
    return ArmReport(
        name="isolated",
        strategy="isolated",
        method="lora",
        seed=0,
        task_identity="oracle",
        matrix=tuple(tuple(row) for row in rows),
        metrics=all_metrics(rows, common_unit=True),
        intervals={},
        identical_predictions=identical,
        negative_flip_rate=flips,
        positive_flip_rate=(),
        mcnemar=(),
        cost=Cost(50, 0.015, 1000, tuple(10.0 * n for n in range(1, len(rows) + 1)), (), None),
        versions=versions,
        sweep=(),
        chosen={},
        finished=True,
    )


def check(of: ArmReport, rules: GateRules) -> tuple[Verdict, ...]:
    return verdicts.crossings(verdicts.check(of, rules))


KEPT: Rows = [[0.9, None], [0.9, 0.8]]
LOST: Rows = [[0.9, None, None], [0.6, 0.8, None], [0.6, 0.8, 0.7]]


def rules_crossed(of: ArmReport, rules: GateRules) -> list[str]:
    return [crossing.rule for crossing in check(of, rules)]


def test_a_crossed_limit_on_forgetting_is_told_beside_what_it_would_be_without_drift() -> None:
    lost = arm(LOST)
    noisy = replace(lost, metrics={**lost.metrics, "forgetting_max_null": 0.02})
    (crossing,) = check(noisy, GateRules(max_forgetting=0.1))
    assert crossing.detail.endswith("above the limit of 0.1; without any drift it would be 0.0200.")


def without_unit(rows: Rows) -> ArmReport:
    metrics = all_metrics(rows, common_unit=False)
    return replace(arm(rows), metrics=metrics, reason="no common unit: a is scored by neg-rmse, b by accuracy")


@pytest.mark.parametrize("limit", [0.0, 0.5])
def test_a_mean_without_a_common_unit_is_within_a_limit_where_no_task_lost_anything(limit: float) -> None:
    kept = without_unit([[-9000.0, None, None], [-9000.0, 0.8, None], [-8000.0, 0.8, 0.7]])
    assert check(kept, GateRules(max_forgetting=limit, max_worst=limit)) == ()


def test_a_loss_without_a_common_unit_is_not_let_through_by_an_undefined_mean() -> None:
    lost = without_unit([[-9000.0, None, None], [-9000.0, 0.8, None], [-9400.0, 0.9, 0.7]])
    forgetting, worst = check(lost, GateRules(max_forgetting=1000.0, max_worst=1000.0))
    assert (forgetting.rule, worst.rule) == ("forgetting", "worst")
    assert "no common unit" in forgetting.detail and "a lost" in forgetting.detail
    assert "--max-forgetting a=X" in forgetting.detail
    assert check(lost, GateRules(tasks={"a": TaskRules(max_forgetting=1000.0)})) == ()


def test_an_arm_that_forgot_nothing_crosses_no_rule() -> None:
    assert check(arm(KEPT), STRICT) == ()


def test_no_rule_is_crossed_where_none_is_set() -> None:
    assert check(arm(LOST, identical=False), GateRules()) == ()


@pytest.mark.parametrize(
    ("rules", "crossed"),
    [
        (GateRules(max_forgetting=0.14), ["forgetting"]),
        (GateRules(max_forgetting=0.16), []),
        (GateRules(max_worst=0.29), ["worst"]),
        (GateRules(max_worst=0.31), []),
        (GateRules(require_identical=True), ["identical"]),
        (STRICT, ["forgetting", "worst", "identical"]),
    ],
)
def test_a_limit_is_crossed_only_from_above(rules: GateRules, crossed: list[str]) -> None:
    assert rules_crossed(arm(LOST, identical=False), rules) == crossed


def test_a_limit_that_is_just_reached_is_not_crossed_by_rounding() -> None:
    # 0.9 - 0.6 is 0.30000000000000004
    assert rules_crossed(arm([[0.9, None], [0.6, 0.8]]), GateRules(max_forgetting=0.3, max_worst=0.3)) == []


def test_a_mean_within_the_limit_does_not_hide_the_worst_task() -> None:
    assert rules_crossed(arm(LOST), GateRules(max_forgetting=0.2, max_worst=0.2)) == ["worst"]


def test_backward_gain_crosses_nothing() -> None:
    assert rules_crossed(arm([[0.5, None], [0.9, 0.8]]), GateRules(max_forgetting=0, max_worst=0)) == []


@pytest.mark.parametrize("rows", [[], [[0.9]]])
def test_before_a_second_task_nothing_is_crossed(rows: Rows) -> None:
    assert check(arm(rows, identical=None), STRICT) == ()


def test_undefined_forgetting_crosses_no_limit_but_identity_needs_its_evidence() -> None:
    assert rules_crossed(arm([[0.9, None], [None, 0.8]], identical=None), STRICT) == ["identical"]


def test_a_crossing_says_which_arm_by_how_much_and_what_was_allowed() -> None:
    (crossing,) = check(arm(LOST), GateRules(max_forgetting=0.05))
    for part in ("isolated", "seed 0", "forgetting_max", "0.1500", "0.05"):
        assert part in crossing.detail


@pytest.mark.parametrize(
    ("rules", "crossed"),
    [
        (GateRules(max_negative_flips=0.1), [("flips", "a")]),
        (GateRules(max_negative_flips=0.1, tasks={"a": TaskRules(max_negative_flips=0.3)}), []),
        (GateRules(tasks={"a": TaskRules(max_forgetting=0.2)}), [("task-forgetting", "a")]),
        (GateRules(tasks={"a": TaskRules(max_forgetting=0.31), "b": TaskRules(max_forgetting=0)}), []),
        (GateRules(min_score=0.65), [("score", "a")]),
        (
            GateRules(min_score=0.65, tasks={"a": TaskRules(min_score=0.6), "c": TaskRules(min_score=0.71)}),
            [("score", "c")],
        ),
        (GateRules(max_bytes=999), [("bytes", "a"), ("bytes", "b"), ("bytes", "c")]),
        (GateRules(max_bytes=1000), []),
        (GateRules(max_train_seconds=20), [("seconds", "c")]),
        (GateRules(max_share=0.01), [("share", None)]),
        (GateRules(max_share=0.02), []),
    ],
)
def test_limits_of_single_tasks_and_of_cost(rules: GateRules, crossed: list[tuple[str, str | None]]) -> None:
    found = check(arm(LOST, flips=(0.25, None)), rules)
    assert [(crossing.rule, crossing.task) for crossing in found] == crossed


def test_a_first_task_has_a_score_and_a_cost_already() -> None:
    rules = GateRules(max_forgetting=0, require_identical=True, min_score=0.95, max_train_seconds=1)
    assert rules_crossed(arm([[0.9]], identical=None), rules) == ["score", "seconds"]


def test_every_rule_that_is_set_has_what_was_measured_and_the_limit() -> None:
    rules = GateRules(max_forgetting=0.5, require_identical=True, min_score=0.65, max_bytes=1000)
    held = verdicts.check(arm(LOST), rules, of_home=True)
    assert [(one.rule, one.task, one.value, one.limit, one.crossed) for one in held] == [
        ("forgetting", None, pytest.approx(0.15), 0.5, False),
        ("identical", None, True, True, False),
        ("score", "a", 0.6, 0.65, True),
        ("score", "b", 0.8, 0.65, False),
        ("score", "c", 0.7, 0.65, False),
        ("bytes", "a", 1000, 1000, False),
        ("bytes", "b", 1000, 1000, False),
        ("bytes", "c", 1000, 1000, False),
    ]
    assert held[0].detail == "forgetting_max is 0.1500, within the limit of 0.5."
    assert verdicts.check(arm(LOST), GateRules(), of_home=True) == ()


def test_what_is_undefined_has_a_verdict_that_says_so() -> None:
    (forgetting, identical) = verdicts.check(arm([[0.9]], identical=None), GateRules(0.0, require_identical=True))
    assert (forgetting.value, forgetting.crossed, identical.value, identical.crossed) == (None, False, None, False)
    assert "undefined" in forgetting.detail and "no earlier task" in identical.detail


def test_a_home_is_told_of_without_arms_and_seeds_and_a_stream_with_them() -> None:
    rules = GateRules(max_forgetting=0, max_worst=0, require_identical=True, min_score=1, max_bytes=1, max_share=0)
    lost = arm(LOST, identical=False)
    for verdict in verdicts.check(lost, rules, of_home=True):
        assert verdict.arm is None and "arm" not in verdict.detail and "seed" not in verdict.detail
    assert {verdict.arm for verdict in verdicts.check(lost, rules)} == {"isolated, seed 0"}
