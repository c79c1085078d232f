from __future__ import annotations

from dataclasses import replace

import pytest

from limpet.forgetting.conclusion import conclusion, sentences
from limpet.forgetting.report_values import ArmReport, Comparison, Difference, Report


def with_arm(report: Report, name: str, **changes: object) -> Report:
    arms = tuple(replace(arm, **changes) if arm.name == name else arm for arm in report.arms)  # type: ignore[arg-type]
    return replace(report, arms=arms)


def with_comparison(report: Report, **changes: float | tuple[float, float] | None) -> Report:
    first: Comparison = replace(report.comparisons[0], **changes)  # type: ignore[arg-type]
    return replace(report, comparisons=(first, *report.comparisons[1:]))


def arm(report: Report, name: str) -> ArmReport:
    return next(arm for arm in report.arms if arm.name == name)


def about(report: Report, *words: str) -> list[str]:
    return [sentence for sentence in sentences(report) if all(word in sentence for word in words)]


def test_isolation_that_kept_every_prediction_forgot_nothing(grown: Report) -> None:
    assert about(grown, "isolated forgot nothing")


def test_an_arm_that_forgot_is_named_with_its_interval_and_its_clearest_loss(grown: Report) -> None:
    (sentence,) = about(grown, "sequential-full forgot")
    assert "+0.300" in sentence and "95 % interval +0.200 to +0.417" in sentence
    assert "bbc-news: 10 examples lost and 0 gained" in sentence


def test_an_interval_that_holds_0_shows_no_forgetting(grown: Report) -> None:
    full = arm(grown, "sequential-full")
    weak = {**full.intervals, "forgetting_max": (-0.01, 0.4)}
    changed = with_arm(grown, "sequential-full", intervals=weak, mcnemar=())
    assert about(changed, "No forgetting was shown for sequential-full")
    assert not about(changed, "sequential-full forgot")


def test_backward_gain_is_no_forgetting(grown: Report) -> None:
    full = arm(grown, "sequential-full")
    changed = with_arm(
        grown,
        "sequential-full",
        metrics={**full.metrics, "forgetting_max": -0.1},
        intervals={**full.intervals, "forgetting_max": (-0.2, -0.05)},
    )
    assert about(changed, "sequential-full gained on earlier tasks", "-0.100")


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
    metrics = {**isolated.metrics, "forgetting_max": None}
    changed = with_arm(grown, "isolated", identical_predictions=None, metrics=metrics)
    assert about(changed, "Whether isolated forgot can't be said")


@pytest.mark.parametrize(
    ("difference", "interval", "p_value", "words"),
    [
        (0.2, (0.1, 0.3), 0.001, "isolated ended above sequential-full"),
        (-0.2, (-0.3, -0.1), 0.001, "isolated ended below sequential-full"),
        (0.02, (-0.01, 0.05), 0.2, "No difference in average accuracy was seen"),
        # too few examples: the interval alone would claim too much
        (0.1, (0.02, 0.2), 0.13, "No difference in average accuracy was seen"),
    ],
)
def test_accuracies_are_compared_as_the_numbers_say(
    grown: Report, difference: float, interval: tuple[float, float], p_value: float, words: str
) -> None:
    changed = with_comparison(grown, difference=difference, interval=interval, p_value=p_value)
    assert about(changed, words)


@pytest.mark.parametrize(
    ("over_seeds", "words"),
    [
        (None, "p < 0.001)"),
        ((0.05, 0.3), "p < 0.001; over seeds +0.050 to +0.300)"),
        ((-0.1, 0.5), "p < 0.001; over seeds -0.100 to +0.500, so that other seeds may show none)"),
    ],
)
def test_a_difference_that_other_seeds_may_not_show_is_told_as_such(
    grown: Report, over_seeds: tuple[float, float] | None, words: str
) -> None:
    assert about(with_comparison(grown, over_seeds=over_seeds), "isolated ended above sequential-full", words)


def test_peft_alone_does_not_prevent_forgetting_where_the_shared_arm_forgot(grown: Report) -> None:
    assert about(grown, "PEFT by itself does not prevent forgetting", "sequential-shared")


def test_nothing_is_said_of_peft_where_the_shared_arm_did_not_forget(grown: Report) -> None:
    shared = arm(grown, "sequential-shared")
    changed = with_arm(grown, "sequential-shared", intervals={**shared.intervals, "forgetting_max": (-0.1, 0.1)})
    assert not about(changed, "PEFT by itself")


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
