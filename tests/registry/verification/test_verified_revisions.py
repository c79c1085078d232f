"""What `verify` says of revisions that are not as they were made, whatever the log says of the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import evaluations, tasks
from limpet.registry.store import Store
from limpet.registry.values import SplitRecord
from limpet.registry.verification.verify import contents, verify
from tests.registry.homes import DATA, Grow, a_task, add_evaluation, add_version, revise

OTHER = digest_bytes(b"other")


def _revised(home: Store) -> None:
    """Give `news` three revisions, a version on the second, and an evaluation that was scored anew."""
    revise(home)
    version = add_version(home, data_digest=tasks.get(home, "news").data_digest)
    first = add_evaluation(home, version.reference)
    add_evaluation(home, version.reference, rescored_from=first.id)
    revise(home, text="c")


@pytest.fixture
def home(sqlite_home_after: Callable[[Grow], Store]) -> Store:
    """A home on SQLite with three revisions of `news`, all sound."""
    return sqlite_home_after(_revised)


def _changed(home: Store, statement: str) -> None:
    with closing(sqlite3.connect(home.path / "limpet.db")) as connection:
        assert connection.execute(statement).rowcount == 1
        connection.commit()


def _found(home: Store, kind: str, *, deep: bool = False) -> list[tuple[str, str]]:
    return [(found.where, found.detail) for found in verify(home, deep=deep) if found.kind == kind]


def test_sound_revisions_are_counted_and_nothing_is_said_of_them(home: Store) -> None:
    assert verify(home, deep=True) == ()
    counted = contents(home)
    assert (counted["tasks"], counted["revisions"]) == (2, 4)


def test_a_revision_that_follows_other_data_is_named(home: Store) -> None:
    _changed(home, f"UPDATE task_revisions SET previous = '{OTHER}' WHERE revision = 3")
    assert _found(home, "revision") == [("news@r3", f"follows {OTHER}, which is not the data of r2")]


def test_a_revision_that_follows_nothing_is_named(home: Store) -> None:
    _changed(home, "UPDATE tasks SET previous = 'sha256:0' WHERE name = 'films'")
    assert ("films@r1", "follows other data") in _found(home, "revision")


def test_a_data_digest_that_is_not_that_of_the_content_is_named(home: Store) -> None:
    _changed(home, 'UPDATE task_revisions SET labels = \'["x","z"]\' WHERE revision = 2')
    ((where, detail),) = _found(home, "revision")
    assert where == "news@r2" and "its data digest is recorded as" in detail


def test_a_version_that_was_learned_on_no_revision_of_its_task_is_named(home: Store) -> None:
    add_version(home, "films", seed=3, data_digest=OTHER)
    ((where, detail),) = _found(home, "revision")
    assert where == "films@1" and OTHER in detail


def test_an_evaluation_that_was_scored_anew_from_one_of_other_answers_is_named(home: Store) -> None:
    ours = add_evaluation(home, "news@1", logits_digest=OTHER)
    _changed(home, f"UPDATE evaluations SET rescored_from_id = {ours.id - 1} WHERE id = {ours.id}")
    ((where, detail),) = _found(home, "evaluation")
    assert where == f"evaluation {ours.id}" and f"evaluation {ours.id - 1}," in detail
    assert evaluations.get(home, ours.id) is not None


@pytest.mark.parametrize(
    ("rows", "detail"),
    [
        (b'{"label":7,"text":"a"}\n', "line 1 of train has no label of the task"),
        (b'{"text":"a","label":0}\n', "line 1 of train is not in the one form that limpet writes"),
        (b'{"label":0,"text":"a"}\n{"label":1,"text":"b"}\n', "train has 2 examples, and its record says 1"),
        (b'{"label":1,"text":"a"}\n', "the labels of train are not as often in it as its record says"),
    ],
)
def test_lines_that_are_not_those_of_their_record_are_named_by_a_deep_check_alone(
    home: Store, rows: bytes, detail: str
) -> None:
    task = a_task(home, "odd")
    splits = (SplitRecord("train", home.blobs.put_bytes(rows), 1, {"x": 1}), *task.splits[1:])
    digest = tasks.data_digest(task.definition, task.labels, splits)
    tasks.add(home, replace(task, definition=replace(task.definition, name="odd"), splits=splits, data_digest=digest))
    assert digest != DATA and verify(home) == ()
    ((where, said),) = _found(home, "content", deep=True)
    assert where == "odd@r1, split train" and detail in said
