"""What differs between arms beside what they are compared for is told in the conclusion."""

from __future__ import annotations

from dataclasses import replace

from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.caveats import unlike_treatment
from limpet.forgetting.report.comparison_values import Order
from limpet.forgetting.report.conclusion import conclusion
from limpet.forgetting.report.values import Report


def only(report: Report, **changes: object) -> ArmReport:
    return replace(report.arms[0], **changes)  # type: ignore[arg-type]


def test_dropout_that_acted_in_some_arms_only_is_told(grown: Report) -> None:
    full, lora = only(grown, name="whole", method="full"), only(grown, name="light", method="lora")
    (sentence,) = unlike_treatment(replace(grown, arms=(full, lora), orders=()))
    assert "acted while whole trained a copy of it" in sentence
    assert unlike_treatment(replace(grown, arms=(lora, replace(lora, name="b")), orders=())) == []
    assert unlike_treatment(replace(grown, arms=(full, replace(full, name="b")), orders=())) == []
    assert sentence in conclusion(replace(grown, arms=(full, lora), comparisons=(), orders=()))


def test_a_sweep_that_chose_for_other_seeds_and_orders_is_told(grown: Report) -> None:
    sweep = ({"settings": {"lr": 1e-3}, "validation": {}, "mean": 0.5},)
    first = only(grown, name="swept", method="lora", seed=0, sweep=sweep)
    second = replace(first, seed=1)
    (sentence,) = unlike_treatment(replace(grown, arms=(first, second), orders=()))
    assert sentence.startswith("The sweeps of swept chose under one seed and one order of the tasks, the first; the ")
    assert "the other seeds use the choice" in sentence
    orders = (Order("s", ("a", "b")), Order("s.order-2", ("b", "a")))
    (sentence,) = unlike_treatment(replace(grown, arms=(first,), orders=orders))
    assert "the other orders use the choice" in sentence
    assert unlike_treatment(replace(grown, arms=(first,), orders=())) == []
    assert (
        unlike_treatment(replace(grown, arms=(replace(first, sweep=()), replace(second, sweep=())), orders=())) == []
    )
