from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from limpet.errors import NotFoundError, UsageError
from limpet.registry.records import log, streams
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft
from limpet.registry.versions import deletion, lineage, notes, tags
from limpet.registry.versions.lineage import Lineage, Step
from tests.registry.homes import BASE, DATA, add_version, again, stock


@pytest.fixture
def lone(tmp_path: Path) -> Store:
    """One version, on SQLite."""
    store = stock(tmp_path / "home")
    add_version(store)
    return store


def test_tags_are_set_changed_and_taken_away_together(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_version(home)
    assert tags.change(home, "news@1", {"owner": "ana", "stage": "live"}) == {"owner": "ana", "stage": "live"}
    monkeypatch.setenv("LIMPET_ACTOR", "ana")
    assert tags.change(home, "news@latest", {"owner": "ben"}, remove=["stage"]) == {"owner": "ben"}
    assert tags.get(again(home), "news@1") == {"owner": "ben"}
    events = [event for event in log.read(home, "news@1").items if event.action == "tag"]
    assert [event.detail for event in events] == [{"owner": "ben", "stage": None}, {"owner": "ana", "stage": "live"}]
    assert events[0].actor == "ana"


def test_tags_that_stay_as_they_are_are_not_logged(lone: Store) -> None:
    tags.change(lone, "news@1", {"owner": "ana"})
    tags.change(lone, "news@1", {"owner": "ana"})
    assert len(log.read(lone, "news@1").items) == 2


def test_a_tag_that_is_not_there_can_not_be_taken_away_and_nothing_changes(lone: Store) -> None:
    with pytest.raises(NotFoundError, match="news@1 has no tag 'stage'"):
        tags.change(lone, "news@1", {"owner": "ana"}, remove=["stage"])
    assert tags.get(lone, "news@1") == {}


def test_names_and_values_that_can_not_be_shown_are_refused(lone: Store) -> None:
    for name, value in (("Owner", "x"), ("../x", "x"), ("owner", ""), ("owner", "a\nb"), ("owner", "x" * 257)):
        with pytest.raises(UsageError):
            tags.change(lone, "news@1", {name: value})
    for note in ("", " \n", "a\x00b", "a\x1bb", "\udcff", "x" * 10_001):
        with pytest.raises(UsageError):
            notes.add(lone, "news@1", note)
    assert (tags.get(lone, "news@1"), notes.get(lone, "news@1")) == ({}, ())


def test_notes_stay_in_order_with_who_left_them(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_version(home)
    monkeypatch.setenv("LIMPET_ACTOR", "ana")
    first = notes.add(home, "news@1", "looks good\nto me")
    monkeypatch.setenv("LIMPET_ACTOR", "ben")
    second = notes.add(home, "news@1", " wait ")
    assert notes.get(home, "news@1") == (first, second)
    assert [(note.actor, note.text) for note in (first, second)] == [("ana", "looks good\nto me"), ("ben", "wait")]
    assert [event.action for event in log.read(home, "news@1").items] == ["note", "note", "register"]
    with pytest.raises(DBAPIError), home.database.write() as session:
        session.execute(text("UPDATE version_notes SET text = 'never mind'"))


def test_a_deleted_version_is_looked_at_but_gets_no_more(lone: Store) -> None:
    tags.change(lone, "news@1", {"owner": "ana"})
    note = notes.add(lone, "news@1", "bad data")
    deletion.delete(lone, "news@1", "bad data")
    assert (tags.get(lone, "news@1"), notes.get(lone, "news@1")) == ({"owner": "ana"}, (note,))
    for act in (lambda: tags.change(lone, "news@1", {"owner": "ben"}), lambda: notes.add(lone, "news@1", "more")):
        with pytest.raises(NotFoundError, match="was deleted"):
            act()


def test_the_lineage_names_parent_data_and_the_steps_that_made_it(lone: Store) -> None:
    add_version(lone, seed=1, parent="news@1")
    streams.create(lone, "two", {"name": "two"}, base_digest=BASE, tasks=["films", "news"])
    arm = streams.arm_run(
        lone, "two", ArmDraft("sequential", strategy="sequential", method="lora", seed=3, settings={})
    )
    streams.add_step(lone, arm.id, 0, version="news@1", base_unchanged=True, row={})
    streams.add_step(lone, arm.id, 1, version="news@2", base_unchanged=True, row={})
    deletion.delete(lone, "news@1", "not wanted")
    assert lineage.get(lone, "news@2") == Lineage(
        version="news@2",
        parent="news@1",
        data_digest=DATA,
        revision=1,
        base_digest=BASE,
        steps=(Step("two", "sequential", 3, 2),),
        mlflow_run=None,
        mlflow_model=None,
    )
    assert lineage.get(lone, "news@1").steps == (Step("two", "sequential", 3, 1),)
