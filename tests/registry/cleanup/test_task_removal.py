"""A task is removed with its versions: a tombstone stays, and the evidence; files go after the grace period."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from limpet.errors import ConflictError, NotFoundError, UsageError
from limpet.registry import versions
from limpet.registry.cleanup.gc import collect
from limpet.registry.cleanup.task_removal import check_removable, remove
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import evaluations, log, streams, tasks
from limpet.registry.records.renaming import rename
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft
from limpet.registry.verification.verify import verify
from limpet.registry.versions import VersionQuery, alias_history, aliases
from tests.registry.homes import ROWS, Grow, a_task, add_evaluation, add_version, draft, register, revise

HomeAfter = Callable[[Grow], Store]


def _learned(home: Store) -> None:
    """Give `news` two revisions and two versions, an alias that was taken off, and a column of a stream."""
    add_version(home, seed=1)
    revise(home)
    add_version(home, seed=2, data_digest=tasks.get(home, "news").data_digest)
    evaluation = add_evaluation(home, "news@1")
    aliases.promote(home, "news@1", "production")
    streams.create(home, "s", {"name": "s"}, base_digest=draft().base_digest, tasks=["news", "films"])
    run = streams.arm_run(home, "s", ArmDraft("isolated", "isolated", "lora", 0, {}))
    streams.add_step(home, run.id, 0, version="news@1", base_unchanged=True, row={"news": evaluation.id})


@pytest.fixture
def home(home_after: HomeAfter) -> Store:
    """A home whose task `news` serves under `production`, once on each database."""
    return home_after(_learned)


def test_a_task_in_use_is_not_removed(home: Store) -> None:
    with pytest.raises(ConflictError, match="news@production at version 1") as refused:
        remove(home, "news", "old")
    assert refused.value.exit_code == 4
    assert refused.value.hint == "limpet adapter unpromote news production --reason TEXT"
    assert versions.resolve(home, "news").number == 1


def test_a_task_goes_with_its_versions_and_says_who_removed_it_and_why(home: Store) -> None:
    aliases.unpromote(home, "news", "production", reason="it goes")
    before = check_removable(home, "news", "old")
    assert tasks.get(home, "news").removed is None
    gone = remove(home, "news", "old")
    assert (gone.task, gone.versions, gone.size) == (before.task, before.versions, before.size)
    assert gone.versions == ("news@1", "news@2") and gone.removed.reason == "old"
    assert [task.name for task in tasks.list_all(home)] == ["films"]
    with pytest.raises(NotFoundError, match=r"'news' was removed by .* on .*: old"):
        tasks.get(home, "news")
    with pytest.raises(NotFoundError, match="was removed"):
        versions.resolve(home, "news@1")
    assert log.read(home, "news").items[0].action == "task remove"
    assert verify(home, deep=True) == ()


def test_nothing_comes_back_under_its_name(home: Store) -> None:
    aliases.unpromote(home, "news", "production", reason="it goes")
    learned = draft(seed=9)
    remove(home, "news", "old")
    with pytest.raises(ConflictError, match="'news' was removed by"):
        tasks.add(home, a_task(home, "news"))
    with pytest.raises(NotFoundError, match="was removed"):
        register(home, learned)
    with pytest.raises(NotFoundError, match="was removed"):
        rename(home, "news", "other")
    with pytest.raises(NotFoundError, match="was removed"):
        aliases.promote(home, "news@1", "production")


def test_the_same_command_again_changes_nothing_and_another_reason_is_refused(home: Store) -> None:
    aliases.unpromote(home, "news", "production", reason="it goes")
    first = remove(home, "news", "old")
    before = log.head(home)
    assert remove(home, "news", "old").removed == first.removed
    assert log.head(home) == before
    with pytest.raises(NotFoundError, match=": old"):
        remove(home, "news", "another reason")
    with pytest.raises(UsageError):
        remove(home, "films", " ")


def test_its_rows_go_after_the_grace_period_and_its_evidence_stays(home: Store) -> None:
    train = tasks.get(home, "news").split("train").digest
    aliases.unpromote(home, "news", "production", reason="it goes")
    remove(home, "news", "old")
    collect(home, grace_seconds=3600, dry_run=False)
    assert home.blobs.exists(train)
    collect(home, grace_seconds=0, dry_run=False)
    assert not home.blobs.exists(train)
    # the other task has the same rows
    assert home.blobs.exists(digest_bytes(ROWS))
    assert verify(home, deep=True) == ()
    (evaluation,) = evaluations.full(home, "news@1", "news@1")
    assert evaluations.predictions(home, evaluation)["predictions"]
    assert versions.look_up(home, "news@1").deleted is not None
    deleted = versions.find(home, VersionQuery(task="news", deleted=True)).items
    assert [version.number for version in deleted] == [2, 1]
    assert [move.action for move in alias_history.moves(home, "news")] == ["promote", "unpromote"]
    (run,) = streams.arm_runs(home, "s")
    assert streams.steps(home, run.id)[0].row["news"].score == evaluation.score
    past = tasks.get(home, "news", past=True)
    assert past.revision == 2 and past.removed is not None and past.removed.reason == "old"
