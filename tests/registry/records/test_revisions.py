"""Revisions of a task: one after the other, never changed, each known by the digest of its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from limpet.errors import ConflictError, NotFoundError, UsageError
from limpet.names import parse_task
from limpet.registry.cleanup.gc import collect
from limpet.registry.records import log, tasks
from limpet.registry.store import Store
from limpet.registry.verification.verify import verify
from limpet.registry.versions import diff, lineage
from tests.registry.homes import Grow, a_task, add_version, revise

HomeAfter = Callable[[Grow], Store]


def _revised(home: Store) -> None:
    add_version(home, seed=1)
    revise(home)


@pytest.fixture
def home(home_after: HomeAfter) -> Store:
    """A home with two revisions of `news`, once on each database."""
    return home_after(_revised)


def test_a_task_is_its_newest_revision_and_each_is_known_by_its_number(home: Store) -> None:
    first, second = tasks.revisions(home, "news")
    assert (first.revision, second.revision) == (1, 2)
    assert tasks.get(home, "news") == second == tasks.get(home, "news@r2")
    assert tasks.get(home, "news@r1") == first
    assert second.previous == first.data_digest
    assert [task.reference for task in tasks.list_all(home)] == ["news@r2", "films@r1"]
    assert [part.name for part in second.evaluation_parts] == ["evaluation", "evaluation-r2"]


def test_a_version_has_the_revision_that_it_was_learned_on(home: Store) -> None:
    newer = add_version(home, seed=2, data_digest=tasks.get(home, "news").data_digest)
    older = add_version(home, seed=3)
    assert [tasks.of_version(home, version).revision for version in (newer, older)] == [2, 1]


def test_lineage_and_a_comparison_of_versions_name_their_revisions(home: Store) -> None:
    newer = add_version(home, seed=2, data_digest=tasks.get(home, "news").data_digest)
    assert [lineage.get(home, ref).revision for ref in ("news@1", newer.reference)] == [1, 2]
    fields = {field.name: (field.a, field.b) for field in diff.compare(home, "news@1", newer.reference).fields}
    assert fields["data.revision"] == (1, 2)
    assert fields["data.examples.evaluation-r2"] == (None, 1)


def test_the_same_revision_again_is_the_one_that_there_is(home: Store) -> None:
    second = tasks.get(home, "news")
    assert tasks.add(home, second) == second
    assert len(tasks.revisions(home, "news")) == 2
    assert tasks.add(home, tasks.get(home, "news@r1")).revision == 1


def test_a_revision_that_follows_another_one_is_refused(home: Store) -> None:
    second = tasks.get(home, "news")
    digest = "sha256:" + "0" * 64
    for other in (
        replace(second, data_digest=digest),
        replace(second, data_digest=digest, revision=3, previous=digest),
    ):
        with pytest.raises(ConflictError, match="data digest"):
            tasks.add(home, other)
    with pytest.raises(ConflictError, match="a revision never changes"):
        tasks.add(home, replace(a_task(home, "news"), data_digest=digest))


def test_a_revision_that_is_not_there_is_told_with_those_that_are(home: Store) -> None:
    with pytest.raises(NotFoundError, match="no revision 7 here, but r1, r2"):
        tasks.get(home, "news@r7")


@pytest.mark.parametrize("name", ["news@2", "news@r0", "news@", "news@rx", "news@r1@r2"])
def test_another_form_of_a_revision_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="names no revision"):
        parse_task(name)


def test_the_splits_of_every_revision_are_kept_and_its_making_is_in_the_log(home: Store) -> None:
    collect(home, grace_seconds=0, dry_run=False)
    assert verify(home, deep=True) == ()
    for revision in tasks.revisions(home, "news"):
        assert all(home.blobs.exists(split.digest) for split in revision.splits)
    event = next(event for event in log.read(home, "news").items if event.action == "task revise")
    assert event.detail == {"revision": 2, "data_digest": tasks.get(home, "news").data_digest}
