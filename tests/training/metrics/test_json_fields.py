"""Scores of written JSON: worked by hand, and what holds of every value."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.errors import DataError
from limpet.home import Home
from limpet.training.metrics.json_fields import is_json, is_json_object, json_exact, json_f1
from limpet.training.task_types import metric, task_type

LEAVES = st.none() | st.booleans() | st.integers(-99, 99) | st.floats(-9, 9, width=16) | st.text(max_size=3)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=2), part, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("prediction", "target", "f1", "exact"),
    [
        ('{"total": 12.0, "paid": true}', '{"paid": true, "total": 12}', 1, True),
        ('{"total": 12}', '{"total": 12, "paid": true}', 2 / 3, False),
        ('{"items": ["ink", "pen"]}', '{"items": ["pen", "ink"]}', 1, False),
        ('{"items": ["ink"]}', '{"items": ["ink", "ink"]}', 2 / 3, False),
        ('{"total": "12"}', '{"total": 12}', 0, False),
        ('{"paid": 1}', '{"paid": true}', 0, False),
        ('{"a": {"b": 1}}', '{"a.b": 1}', 0, False),
        ('{"a": [1]}', '{"a": 1}', 0, False),
        ('{"[]": 1}', "[1]", 0, False),
        ('{"a": []}', '{"a": {}}', 0, False),
        ("[]", "[]", 1, True),
        ('{"name": " Zoe\\u0308 "}', '{"name": "Zo\\u00eb"}', 1, False),
        ("0.1", "0.10", 1, True),
        ("9007199254740993", "9007199254740992", 0, False),
        ("1e2", "100", 1, True),
    ],
)
def test_fields_are_compared_by_path_and_value_and_values_as_a_whole(
    prediction: str, target: str, f1: float, exact: bool
) -> None:
    assert json_f1(prediction, target) == pytest.approx(f1)
    assert json_exact(prediction, target) is exact


@pytest.mark.parametrize(
    "text",
    [
        "",
        "total: 12",
        '{"a": 1',
        '```json\n{"a": 1}\n```',
        '{"a": 1} and more',
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        "1e99999999",
        "[" * 100_000,
        "9" * 50 + "e99999999999999999999",
    ],
)
def test_what_is_no_json_scores_nothing_and_is_told_apart(text: str) -> None:
    assert not is_json(text)
    assert json_f1(text, '{"a": 1}') == 0
    assert not json_exact(text, '{"a": 1}')


@settings(max_examples=40)
@given(VALUES, st.randoms(use_true_random=False))
def test_a_value_is_itself_in_any_order_of_its_keys_and_any_writing(value: Any, order: random.Random) -> None:
    plain = json.dumps(value)
    other = json.dumps(_shuffled(value, order), ensure_ascii=False, indent=2)
    assert json_f1(other, plain) == 1
    assert json_exact(other, plain)


@given(VALUES, VALUES)
def test_f1_is_a_share_alike_from_both_sides_and_1_wherever_values_are_equal(one: Any, other: Any) -> None:
    texts = json.dumps(one), json.dumps(other)
    score = json_f1(*texts)
    assert 0 <= score <= 1
    assert score == json_f1(*texts[::-1])
    assert json_exact(*texts) == json_exact(*texts[::-1])
    assert score == 1 or not json_exact(*texts)


@given(st.dictionaries(st.text(max_size=3), LEAVES, min_size=1, max_size=5))
def test_a_field_that_is_left_out_costs_what_its_share_is(fields: dict[str, Any]) -> None:
    text, count = json.dumps(fields), len(fields)
    fewer = json.dumps(dict(list(fields.items())[1:]))
    if count > 1:
        assert json_f1(fewer, text) == pytest.approx(2 * (count - 1) / (2 * count - 1))


def test_a_score_is_the_mean_over_examples_of_equal_weight() -> None:
    long = json.dumps({str(at): at for at in range(99)})
    assert metric("json-f1").score([long, "{"], [long, "{}"]) == 0.5
    assert metric("json-exact").score([long, "{"], [long, "{}"]) == 0.5
    assert task_type("generation").metric("json-f1") == "json-f1"


def test_a_task_of_json_objects_is_told_of_the_metric_and_one_of_other_texts_can_not_have_it(home: Home) -> None:
    rows = [{"text": f"row {at}", "target": json.dumps({"number": at})} for at in range(40)]
    file = home.path.parent / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    added = home.task.add("fields", f"jsonl:{file}", type="generation")
    assert any("--metric json-f1" in note for note in added.checks["notes"])
    scored = home.task.add("scored", f"jsonl:{file}", type="generation", metric="json-f1")
    assert not any("json-f1" in note for note in scored.checks["notes"])
    file.write_text(file.read_text() + json.dumps({"text": "one more", "target": "none"}) + "\n")
    with pytest.raises(DataError, match="json-exact needs targets that are JSON, and one is 'none'"):
        home.task.add("mixed", f"jsonl:{file}", type="generation", metric="json-exact")
    assert not is_json_object("[1]") and is_json_object(' {"a": 1}')


def _shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: _shuffled(value[key], order) for key in keys}
    return [_shuffled(part, order) for part in value] if isinstance(value, list) else value
