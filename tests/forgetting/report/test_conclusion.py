from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from limpet.forgetting.monitor.prediction_diff import Difference
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.comparison_values import Comparison
from limpet.forgetting.report.conclusion import conclusion, sentences
from limpet.forgetting.report.values import Report


def with_arm(report: Report, name: str, **changes: object) -> Report:
    arms = tuple(replace(arm, **changes) if arm.name == name else arm for arm in report.arms)  # type: ignore[arg-type]
    return replace(report, arms=arms)


def with_comparison(report: Report, **changes: Any) -> Report:
    first: Comparison = replace(report.comparisons[0], **changes)
    return replace(report, comparisons=(first, *report.comparisons[1:]))


def with_drift(report: Report, name: str, **changes: float | None) -> Report:
    drifts = tuple(replace(drift, **changes) if drift.arm == name else drift for drift in report.drifts)  # type: ignore[arg-type]
    return replace(report, drifts=drifts)


def arm(report: Report, name: str) -> ArmReport:
    return next(arm for arm in report.arms if arm.name == name)


def about(report: Report, *words: str) -> list[str]:
    return [sentence for sentence in sentences(report) if all(word in sentence for word in words)]


def test_isolation_that_kept_every_prediction_forgot_nothing(grown: Report) -> None:
    assert about(grown, "isolated forgot nothing")


def test_an_arm_that_forgot_is_named_with_its_interval_and_its_clearest_loss(grown: Report) -> None:
    (sentence,) = about(grown, "sequential-full forgot")
    assert "bwt_gem -0.300, 95 % interval -0.417 to -0.200, p = 0.001" in sentence
    assert "bbc-news: 10 examples lost and 0 gained" in sentence


def test_a_change_that_may_be_chance_shows_no_forgetting(grown: Report) -> None:
    changed = with_arm(with_drift(grown, "sequential-full", p_holm=0.06), "sequential-full", mcnemar=())
    assert about(changed, "No forgetting was shown for sequential-full", "p = 0.060")
    assert not about(changed, "sequential-full forgot")


@pytest.mark.parametrize("forgetting", [-0.2, 0.0, 0.9])
def test_forgetting_max_decides_nothing(grown: Report, forgetting: float) -> None:
    full = arm(grown, "sequential-full")
    changed = with_arm(
        grown,
        "sequential-full",
        metrics={**full.metrics, "forgetting_max": forgetting},
        intervals={**full.intervals, "forgetting_max": (forgetting - 0.01, forgetting + 0.01)},
    )
    assert sentences(changed) == sentences(grown)


def test_backward_gain_is_no_forgetting(grown: Report) -> None:
    full = arm(grown, "sequential-full")
    changed = with_arm(grown, "sequential-full", metrics={**full.metrics, "bwt_gem": 0.1})
    assert about(with_drift(changed, "sequential-full", bwt_gem=0.1), "gained on earlier tasks", "+0.100")


def test_what_other_seeds_may_not_show_is_told_of_these_runs_alone(grown: Report) -> None:
    open_ = with_drift(grown, "sequential-full", seeds_p_value=0.04, seeds_p_holm=0.2)
    assert about(open_, "In these runs sequential-full forgot, which other seeds may not show", "p = 0.200")
    shown = with_drift(grown, "sequential-full", seeds_p_value=0.01, seeds_p_holm=0.03)
    assert about(shown, "sequential-full forgot (", "with other seeds p = 0.030")


@pytest.mark.parametrize("strategy", ["joint", "frozen"])
def test_what_an_arm_of_reference_forgets_is_not_told(grown: Report, strategy: str) -> None:
    changed = with_arm(grown, "sequential-full", strategy=strategy)
    assert not about(changed, "sequential-full forgot")
    (sentence,) = about(changed, "For comparison, sequential-full")
    assert "average_accuracy 0.662" in sentence


def test_an_answer_that_should_not_have_changed_is_told_with_its_likely_cause(grown: Report) -> None:
    found = Difference("bbc-news", 7, 1, 0, 1, 3, "the batch plan is not the same")
    changed = with_arm(grown, "isolated", identical_predictions=False, differences=(found,))
    (sentence,) = about(changed, "isolated does not answer as it did")
    assert "example 7 was answered 1 and is answered 0 now (right: 1), 3 in all" in sentence
    assert "the batch plan" in sentence


def test_an_isolated_arm_that_changed_is_said_to_have_changed(grown: Report) -> None:
    changed = with_arm(grown, "isolated", identical_predictions=False)
    assert not about(changed, "isolated forgot nothing")
    assert about(changed, "No forgetting was shown for isolated", "some predictions changed")


def test_a_missing_evaluation_is_not_taken_for_retention(grown: Report) -> None:
    isolated = arm(grown, "isolated")
    metrics = {**isolated.metrics, "bwt_gem": None}
    changed = with_arm(grown, "isolated", identical_predictions=None, metrics=metrics)
    changed = replace(changed, drifts=tuple(drift for drift in changed.drifts if drift.arm != "isolated"))
    assert about(changed, "Whether isolated forgot can't be said")


@pytest.mark.parametrize(
    ("difference", "p_holm", "words"),
    [
        (0.2, 0.001, "isolated ended above sequential-full on average accuracy"),
        (-0.2, 0.001, "isolated ended below sequential-full on average accuracy"),
        (0.02, 0.2, "No difference in average accuracy was seen"),
        (0.1, 0.05, "No difference in average accuracy was seen"),
        (0.0, None, "No difference in average accuracy was seen"),
    ],
)
def test_accuracies_are_compared_as_the_corrected_test_says(
    grown: Report, difference: float, p_holm: float | None, words: str
) -> None:
    assert about(with_comparison(grown, difference=difference, p_value=0.001, p_holm=p_holm), words)


@pytest.mark.parametrize(
    ("with_seeds", "words"),
    [
        ({}, "isolated ended above sequential-full on average accuracy (+0.21"),
        (
            {"over_seeds": (0.05, 0.3), "seeds_p_value": 0.001, "seeds_p_holm": 0.004},
            "with other seeds p = 0.004; over seeds +0.050 to +0.300)",
        ),
        (
            {"over_seeds": (-0.1, 0.5), "seeds_p_value": 0.08, "seeds_p_holm": 0.3},
            "In these runs isolated ended above sequential-full on average accuracy, which other seeds may not show",
        ),
    ],
)
def test_a_difference_that_other_seeds_may_not_show_is_told_as_such(
    grown: Report, with_seeds: dict[str, Any], words: str
) -> None:
    assert about(with_comparison(grown, p_holm=0.001, **with_seeds), words)


@pytest.mark.parametrize(
    ("equal", "claimed"),
    [
        ({"margin": 0.01, "equal_p_value": 0.004, "equal_p_holm": 0.03}, True),
        ({"margin": 0.01, "equal_p_value": 0.03, "equal_p_holm": 0.2}, False),
        # a single seed says nothing of equality
        ({}, False),
    ],
)
def test_arms_are_equal_only_within_a_margin_and_seeds_included(
    grown: Report, equal: dict[str, Any], claimed: bool
) -> None:
    changed = with_comparison(grown, difference=0.001, p_holm=0.8, **equal)
    said = about(changed, "isolated is as good as sequential-full on average accuracy, within 0.01, seeds included")
    assert bool(said) is claimed
    assert (
        bool(about(changed, "No difference in average accuracy was seen between isolated and sequential-f"))
        is not claimed
    )


def test_tasks_without_a_common_unit_are_compared_one_by_one(grown: Report) -> None:
    reason = "no common unit: bbc-news is scored by accuracy, reuters-r8 is scored by neg-rmse"
    changed = replace(
        with_comparison(grown, metric="score:bbc-news", p_holm=0.001),
        arms=tuple(replace(arm, reason=reason) for arm in grown.arms),
        drifts=(),
    )
    assert about(changed, "isolated ended above sequential-full on bbc-news (accuracy)")
    (sentence,) = about(changed, "Whether sequential-full forgot can't be said in one number")
    assert reason in sentence and "bbc-news: 10 examples lost and 0 gained" in sentence
    assert about(changed, "isolated forgot nothing: every earlier task is predicted exactly as")


def test_a_shared_adapter_that_forgot_is_told_with_its_settings(grown: Report) -> None:
    (sentence,) = about(grown, "PEFT by itself did not prevent forgetting under these settings", "sequential-shared")
    assert "(alpha=16, r=8, learning_rate=0.001, epochs=3)" in sentence


def test_nothing_is_said_of_peft_where_the_shared_arm_did_not_forget(grown: Report) -> None:
    assert not about(with_drift(grown, "sequential-shared", p_holm=0.2), "PEFT by itself")


@pytest.mark.parametrize("baseline", ["full", "partial"])
def test_nothing_is_said_of_peft_where_the_shared_arm_trains_the_base_itself(grown: Report, baseline: str) -> None:
    assert not about(with_arm(grown, "sequential-shared", method=baseline), "PEFT by itself")


def test_the_isolation_is_not_credited_with_what_it_did_not_do(grown: Report) -> None:
    changed = with_arm(grown, "isolated", identical_predictions=False)
    assert about(changed, "PEFT by itself") and not about(changed, "it is the isolation")


def test_plasticity_stands_beside_stability(grown: Report) -> None:
    (sentence,) = about(grown, "Right after learning")
    assert "isolated 0.875" in sentence and "sequential-full 0.887" in sentence


def test_it_says_that_the_task_was_given_and_that_one_seed_is_one_seed(grown: Report) -> None:
    assert about(grown, "oracle") and about(grown, "One seed")


def test_it_says_that_p_values_are_corrected_where_there_are_any(grown: Report) -> None:
    assert about(grown, "corrected for all tests of the report (Holm); no difference seen is not equality")
    assert about(replace(grown, drifts=()), "corrected for all tests of the report")
    assert not about(replace(grown, drifts=(), comparisons=()), "corrected for all tests of the report")


def test_one_task_is_too_few_to_conclude_from(grown: Report) -> None:
    arms = tuple(replace(arm, matrix=arm.matrix[:1], versions=arm.versions[:1]) for arm in grown.arms)
    short = replace(grown, arms=arms)
    assert "nothing to forget yet" in conclusion(short)
    assert "forgot nothing" not in conclusion(short)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"lr": 1e-5, "r": 8}, ["lr=1e-05, the lowest tried"]),
        ({"lr": 1e-4, "r": 8}, []),
        ({"lr": 1e-3, "r": 8}, ["lr=0.001, the highest tried"]),
    ],
)
def test_a_choice_at_the_edge_of_a_sweep_is_told(grown: Report, chosen: dict[str, object], said: list[str]) -> None:
    sweep = tuple({"settings": {"lr": lr, "r": 8}, "validation": {}, "mean": 0.5} for lr in (1e-5, 1e-4, 1e-3))
    changed = with_arm(
        with_arm(grown, "isolated", sweep=(), chosen={}), "sequential-full", sweep=sweep, chosen=chosen
    )
    told = [
        f"Chosen at the edge of a sweep, so that a better value may lie beyond: sequential-full ({edge})."
        for edge in said
    ]
    assert about(changed, "edge of a sweep") == told


@pytest.mark.parametrize("tried", [("balanced", "reservoir"), (["query"], ["query", "key"]), (1, "all"), (8, 8)])
def test_what_has_no_order_has_no_edge(grown: Report, tried: tuple[object, object]) -> None:
    sweep = tuple({"settings": {"what": value}, "validation": {}, "mean": 0.5} for value in tried)
    assert not about(with_arm(grown, "sequential-full", sweep=sweep, chosen={"what": tried[0]}), "edge of")
