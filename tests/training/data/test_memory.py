"""Data given in Python: rows have a digest, whatever object they came in, and stay in the home under it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from limpet.errors import ConflictError, DataError, NotFoundError, UsageError
from limpet.home import Home
from limpet.training.data.reading.memory import parse_rows, rows_of

PLACES = {"sea": "wave", "rock": "stone", "sky": "cloud"}
ROWS = [
    {"text": f"{word} number {number * 7919} is {number}", "label": label, "id": number}
    for number in range(12)
    for label, word in PLACES.items()
]


def test_equal_rows_have_one_spec_whatever_object_they_came_in() -> None:
    specs = {rows_of(data).spec for data in (ROWS, tuple(ROWS), {"train": ROWS}, pd.DataFrame(ROWS))}
    assert specs == {rows_of(datasets.Dataset.from_list(ROWS)).spec}
    assert specs != {rows_of(ROWS[1:]).spec}


def test_a_task_of_rows_is_the_same_one_when_it_is_added_again_from_rows_or_from_its_spec(home: Home) -> None:
    task = home.task.add("spots", ROWS, max_length=16)
    assert task.definition.data == rows_of(ROWS).spec
    assert task.labels == ("rock", "sea", "sky")
    assert home.task.add("spots", pd.DataFrame(ROWS), max_length=16) == task
    again = home.task.add("again", task.definition.data, max_length=16)
    assert again.data_digest == task.data_digest
    with pytest.raises(ConflictError):
        home.task.add("spots", ROWS[1:], max_length=16)


def test_rows_stay_through_a_collection_and_are_checked(home: Home) -> None:
    task = home.task.add("spots", ROWS, max_length=16)
    home.gc(0, dry_run=False)
    assert home.verify().problems == ()
    digest = task.definition.data.removeprefix("memory:")
    assert parse_rows(home.store.blobs.read(digest)).spec == task.definition.data
    # as in a home that the task came to in a bundle
    home.store.blobs.remove(digest)
    assert home.verify().problems == ()
    with pytest.raises(NotFoundError, match="no rows"):
        home.task.add("again", task.definition.data)


def test_parts_are_kept_apart_and_class_names_are_the_labels() -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    part = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    rows = rows_of(datasets.DatasetDict({"train": part, "test": part, "validation": part}))
    assert list(rows.tables) == ["train", "evaluation", "validation"]
    assert rows.tables["train"].cells["label"] == ["yes", "no"]
    assert rows.tables["train"].class_names["label"] == ("no", "yes")
    assert parse_rows(rows.content) == rows
    held_out = rows_of(datasets.DatasetDict({"train": part, "validation": part}))
    assert list(held_out.tables) == ["train", "evaluation"]


def test_cells_of_numpy_and_pandas_become_plain_ones_and_what_is_missing_null() -> None:
    frame = pd.DataFrame({"a": [np.int64(3), None], "b": [np.nan, "x"], "c": [pd.NA, pd.NaT]})
    assert rows_of(frame).tables["train"].cells == {"a": [3.0, None], "b": [None, "x"], "c": [None, None]}
    rows = [{"text": np.str_("a"), "tags": np.array(["O", "B"]), "when": date(2026, 1, 2), "some": {"k": (1, 2)}}]
    assert rows_of(rows).tables["train"].cells == {
        "text": ["a"],
        "tags": [["O", "B"]],
        "when": ["2026-01-02"],
        "some": [{"k": [1, 2]}],
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (3, "Data is a int"),
        (["a text"], "row 1 is a str"),
        ([{1: "a"}], "row 1 is a dict"),
        ({"text": ["a"], "label": ["b"]}, "no part 'text'"),
        ({"test": ROWS}, "no part 'train'"),
        ({"train": ROWS, "test": ROWS, "eval": ROWS}, "twice"),
        ([{"text": object()}], "column 'text' holds a object"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns"),
    ],
)
def test_what_is_no_data_is_a_usage_error(data: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        rows_of(data)


@pytest.mark.parametrize("data", [[], pd.DataFrame({"text": []}), {"train": []}])
def test_no_rows_are_a_data_error(data: object) -> None:
    with pytest.raises(DataError, match="no rows"):
        rows_of(data)


def test_a_path_object_is_data_too(home: Home, tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False)
    assert home.task.add("spots", tmp_path / "rows.csv").definition.data == f"csv:{tmp_path / 'rows.csv'}"


def test_rows_revise_a_task_and_stay_too(home: Home) -> None:
    first = home.task.add("spots", ROWS, max_length=16)
    more = [
        {"text": f"a new {word} {number * 104729}", "label": label}
        for label, word in PLACES.items()
        for number in (1, 2)
    ]
    second = home.task.revise("spots", more)
    assert (second.revision, second.definition.data) == (2, rows_of(more).spec)
    home.gc(0, dry_run=False)
    kept = set(home.store.blobs.digests())
    assert {first.definition.data, second.definition.data} <= {f"memory:{digest}" for digest in kept}
    assert home.verify().problems == ()
