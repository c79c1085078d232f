from __future__ import annotations

from pathlib import Path

import pytest

from limpet.errors import ConflictError, NotFoundError, UsageError
from limpet.registry import versions
from limpet.registry.records import log
from limpet.registry.store import Store
from limpet.registry.verification.verify import verify
from limpet.registry.versions import aliases, deletion
from tests.registry.homes import add_version, stock


@pytest.fixture
def three(home: Store) -> Store:
    for seed in range(3):
        add_version(home, seed=seed)
    return home


@pytest.fixture
def lone(tmp_path: Path) -> Store:
    """One version, on SQLite alone: for what the database has no part in."""
    store = stock(tmp_path / "home")
    add_version(store)
    return store


def test_a_deleted_version_is_a_tombstone_that_says_who_when_and_why(
    three: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_ACTOR", "ana")
    gone = deletion.delete(three, "news@2", "trained on leaked data")
    assert gone.deleted is not None
    assert (gone.deleted.actor, gone.deleted.reason) == ("ana", "trained on leaked data")
    assert versions.look_up(three, "news@2") == gone
    assert [version.number for version in versions.find(three).items] == [3, 1]
    with pytest.raises(NotFoundError, match=r"news@2 was deleted by ana on \S+: trained on leaked data"):
        versions.resolve(three, "news@2")
    event = log.read(three, "news@2").items[0]
    assert (event.action, event.actor, event.detail) == (
        "delete",
        "ana",
        {"digest": gone.digest, "reason": "trained on leaked data"},
    )


def test_deletion_frees_nothing_and_harms_nothing(three: Store) -> None:
    before = sorted(three.blobs.digests())
    deletion.delete(three, "news@2", "not wanted")
    assert sorted(three.blobs.digests()) == before
    assert verify(three) == ()


def test_a_deleted_version_is_neither_deleted_nor_promoted_again(three: Store) -> None:
    deletion.delete(three, "news@2", "not wanted")
    with pytest.raises(NotFoundError, match="not wanted"):
        deletion.delete(three, "news@2", "still not")
    assert deletion.delete(three, "news@2", "not wanted") == versions.look_up(three, "news@2")
    with pytest.raises(NotFoundError, match="not wanted"):
        aliases.promote(three, "news@2", "production")
    assert len(log.read(three, "news@2").items) == 2


def test_numbers_are_never_used_again_and_the_same_bytes_may_come_back(three: Store) -> None:
    deletion.delete(three, "news@3", "by mistake")
    back = add_version(three, seed=2)
    assert (back.number, back.deleted) == (4, None)
    assert back.digest == versions.look_up(three, "news@3").digest
    assert versions.resolve(three, "news@latest").number == 4


def test_a_version_under_aliases_is_not_deleted(three: Store) -> None:
    aliases.promote(three, "news@2", "production")
    aliases.promote(three, "news@2", "champion")
    with pytest.raises(ConflictError, match="news@champion, news@production stand there"):
        deletion.delete(three, "news@2", "not wanted")
    aliases.promote(three, "news@3", "production")
    with pytest.raises(ConflictError, match="news@champion stands there"):
        deletion.check_deletable(three, "news@2", "not wanted")
    aliases.promote(three, "news@3", "champion")
    assert deletion.delete(three, "news@2", "not wanted").deleted


def test_only_a_number_names_what_is_deleted(lone: Store) -> None:
    for ref in ("news", "news@latest", "news@production"):
        with pytest.raises(UsageError, match="by its number"):
            deletion.delete(lone, ref, "not wanted")


def test_a_reason_is_a_text_that_can_be_shown(lone: Store) -> None:
    for reason in ("", "  ", "a\x1b[2Jb", "a\x00b", "\udcff", "x" * 1001):
        with pytest.raises(UsageError, match="reason"):
            deletion.delete(lone, "news@1", reason)
    assert versions.resolve(lone, "news@1")


def test_looking_whether_a_version_could_be_deleted_changes_nothing(three: Store) -> None:
    looked = deletion.check_deletable(three, "news@2", "not wanted")
    assert looked.deleted is not None
    assert looked.deleted.reason == "not wanted"
    assert versions.resolve(three, "news@2").deleted is None
    assert len(log.read(three, "news@2").items) == 1


def test_a_rollback_never_goes_to_a_deleted_version(three: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    aliases.promote(three, "news@1", "production")
    aliases.promote(three, "news@2", "production")
    monkeypatch.setenv("LIMPET_ACTOR", "ana")
    deletion.delete(three, "news@1", "leaked data")
    with pytest.raises(ConflictError, match=r"can.t go back to news@1, which was deleted by ana on .*: leaked data"):
        aliases.rollback(three, "news", "production")
    assert versions.resolve(three, "news@production").number == 2


def test_a_version_whose_parent_was_deleted_while_it_was_trained_is_kept_with_its_lineage(lone: Store) -> None:
    deletion.delete(lone, "news@1", "not wanted")
    assert add_version(lone, seed=5, parent="news@1").parent == "news@1"
