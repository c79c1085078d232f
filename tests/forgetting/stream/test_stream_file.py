"""Stream files: strategies with their settings, orders, published figures, and the streams that limpet brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limpet.errors import NotFoundError, UsageError
from limpet.forgetting import strategies
from limpet.forgetting.stream.published_figures import published_figures
from limpet.forgetting.stream.stream_file import parse_stream, read_stream, ready_streams
from limpet.training import methods

FILE: dict[str, Any] = {
    "name": "four",
    "tasks": ["a", {"name": "b", "train_size": 10}, "c", "d"],
    "seeds": [3, 1],
    "orders": 3,
    "arms": [{"name": "x", "strategy": "isolated", "method": "lora"}],
}
FIGURE = {"arm": "SeqFT", "base": "t5", "metric": "average_accuracy", "value": 0.2, "source": "A 2020"}
BROUGHT_ALONG = {
    "demo",
    "small-decoder",
    "five-topics",
    "eight-topics",
    *(f"text-order-{number}" for number in range(1, 7)),
}


def test_the_first_order_is_the_file_s_own_and_no_two_are_the_same() -> None:
    spec = parse_stream(FILE)
    orders = [spec.in_order(number) for number in (1, 2, 3)]
    assert orders[0] is spec
    names = [tuple(task.name for task in one.tasks) for one in orders]
    assert len(set(names)) == 3
    assert all(sorted(order) == ["a", "b", "c", "d"] for order in names)
    assert [one.name for one in orders] == ["four", "four.order-2", "four.order-3"]


def test_another_order_runs_under_the_first_seed_and_its_file_runs_alone() -> None:
    second = parse_stream(FILE).in_order(2)
    assert (second.seeds, second.orders) == ((3,), 1)
    again = parse_stream(dict(second.source))
    assert (again.name, again.tasks, again.seeds, again.arms) == (second.name, second.tasks, (3,), second.arms)


def test_the_orders_depend_on_the_seed_alone() -> None:
    assert parse_stream(FILE).in_order(3).tasks == parse_stream(FILE).in_order(3).tasks
    others = [parse_stream(FILE | {"seeds": [seed]}).in_order(2).tasks for seed in range(6)]
    assert len(set(map(str, others))) > 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"orders": 0}, "orders"),
        ({"orders": True}, "orders"),
        ({"tasks": ["a", "b"], "orders": 3}, "fewer than 3"),
        ({"evaluate_future": "yes"}, "evaluate_future"),
        ({"arms": [{"name": "x", "strategy": "reply", "method": "lora"}]}, "reply"),
        ({"arms": [{"name": "x", "strategy": "per-task-full", "method": "lora"}]}, "knows only 'full'"),
        ({"published": [{**FIGURE, "source": ""}]}, "source"),
        ({"published": [{**FIGURE, "value": "much"}]}, "value"),
        ({"published": [{**FIGURE, "ours": True}]}, "no published figure"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_stream(FILE | changes)


def test_a_strategy_with_one_method_needs_none_named() -> None:
    spec = parse_stream(FILE | {"arms": [{"name": "x", "strategy": "per-task-full"}]})
    assert spec.arms[0].method == "full"


def test_a_mistyped_strategy_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        strategies.get("reply")
    assert caught.value.hint == "strategy: replay"


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("replay", {"buffer": 1.5}, "1.5"),
        ("replay", {"buffer": 0}, "neither a share"),
        ("replay", {"selection": "latest"}, "latest"),
        ("ewc", {"lambda": -1}, "strength"),
        ("ewc", {"lambda": "much"}, "float"),
    ],
)
def test_settings_of_a_strategy_that_make_no_sense(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        strategies.resolve_settings(strategies.get(name), settings)


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_says_what_it_is(name: str) -> None:
    strategy = strategies.get(name)
    assert strategy.name == name and strategy.summary
    assert strategy.role == ("adapter" if name == "isolated" else "baseline")
    assert strategy.method is None or strategy.method in methods.names()
    assert strategies.resolve_settings(strategy, {}) == dict(strategy.settings)


def test_limpet_brings_its_streams_along_and_a_file_of_that_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(ready_streams()) == BROUGHT_ALONG
    monkeypatch.chdir(tmp_path)
    assert len(read_stream(Path("five-topics")).tasks) == 5
    Path("five-topics").write_text("{name: mine, tasks: [a], arms: [{name: x, strategy: isolated, method: lora}]}")
    assert read_stream(Path("five-topics")).name == "mine"
    with pytest.raises(NotFoundError, match="eight-topics"):
        read_stream(Path("nine-topics"))


@pytest.mark.parametrize("name", sorted(BROUGHT_ALONG))
def test_every_ready_stream_can_be_read_and_its_arms_resolved(name: str) -> None:
    spec = read_stream(Path(name))
    assert spec.name == name
    for arm in spec.arms:
        methods.get(arm.method)
        for candidate in arm.candidates():
            own = strategies.get(arm.strategy).settings
            given = {key: value for key, value in {**arm.settings, **candidate}.items() if key in own}
            strategies.resolve_settings(strategies.get(arm.strategy), given)


def test_every_arm_that_trains_has_its_learning_rate_swept_in_the_streams_of_evidence() -> None:
    for name in BROUGHT_ALONG - {"demo", "small-decoder"}:
        for arm in read_stream(Path(name)).arms:
            assert arm.strategy == "frozen" or len(arm.sweep["lr"]) > 1, (name, arm.name)


def test_the_text_streams_hold_the_literature_s_tasks_with_figures_and_their_sources() -> None:
    sizes = [len(read_stream(Path(f"text-order-{number}")).tasks) for number in range(1, 7)]
    assert sizes == [4, 4, 4, 15, 15, 15]
    orders = {tuple(task.name for task in read_stream(Path(f"text-order-{number}")).tasks) for number in range(1, 7)}
    assert len(orders) == 6
    for number in range(1, 7):
        figures = published_figures(read_stream(Path(f"text-order-{number}")).source)
        assert {"SeqFT", "SeqLoRA", "O-LoRA", "ProgPrompt", "PerTaskFT", "EWC"} <= {figure.arm for figure in figures}
        assert all("arXiv" in figure.source and 0 < figure.value < 1 for figure in figures)
