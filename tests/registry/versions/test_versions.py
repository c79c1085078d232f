from __future__ import annotations

import base64
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from limpet.errors import IntegrityError, LimpetError, NotFoundError, UsageError
from limpet.registry import versions
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import blob_key
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import bases
from limpet.registry.store import Store
from limpet.registry.values import Page, VersionRecord
from limpet.registry.verification.verify import verify
from limpet.registry.versions import VersionQuery, aliases, deletion, tags
from limpet.registry.versions.sort_and_page import SORTS
from tests.registry.homes import a_base, adapter_bytes, add_version, again, draft, register


def names(page: Page[VersionRecord]) -> list[str]:
    return [version.reference for version in page.items]


def test_a_version_comes_back_as_it_was_registered(home: Store) -> None:
    version, created = register(home, draft(seed=7, lineage={"stream": "s", "step": 1}, config={"b": [1], "a": 0.1}))
    assert created
    assert versions.resolve(again(home), "news@1") == version
    assert (version.reference, version.parent, version.role) == ("news@1", None, "adapter")
    assert (version.config, version.lineage) == ({"b": [1], "a": 0.1}, {"stream": "s", "step": 1})
    assert version.size == sum(file.size for file in version.files) > 0
    assert {name: path.read_bytes() for name, path in versions.files(home, version).items()} == {
        "adapter_model.safetensors": adapter_bytes("news", 7)
    }


def test_registering_the_same_again_returns_the_same_version(home: Store) -> None:
    version, _ = register(home, draft())
    assert register(home, draft()) == (version, False)
    # provenance is not identity
    assert register(home, draft(metrics={"score": 0.1}, cost={}, lineage={"arm": "x"})) == (version, False)
    assert names(versions.find(home)) == ["news@1"]


def rot(store: Store, digest: str) -> None:
    """Flip a bit of a blob; its size stays."""
    assert isinstance(store.blobs, LocalBlobs)
    file = store.blobs.root / blob_key(digest)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)


@pytest.mark.parametrize("names", [("A.json", "a.json"), ("Manifest.json",), ("a.json", "LABELS.json")])
def test_names_that_are_one_on_some_disks_are_refused(store_with: Store, names: tuple[str, ...]) -> None:
    file = store_with.path / "file"
    file.write_bytes(b"{}")
    with pytest.raises(UsageError, match="their names are one"):
        versions.register(store_with, draft(), dict.fromkeys(names, file))
    assert versions.find(store_with).items == ()


@pytest.mark.parametrize("seed", [1, 2], ids=["the same version", "another version of the same file"])
def test_registering_good_bytes_mends_those_that_rotted(home: Store, seed: int) -> None:
    version = add_version(home, seed=1)
    rot(home, version.files[0].digest)
    assert [problem.kind for problem in verify(home)] == ["changed"]
    good = home.path / "good"
    good.write_bytes(adapter_bytes("news", 1))
    again, created = versions.register(home, draft(seed=seed), {"adapter_model.safetensors": good})
    assert created == (seed == 2)
    assert versions.files(home, again)["adapter_model.safetensors"].read_bytes() == good.read_bytes()
    assert verify(home) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"method": "prefix"},
        {"config": {"r": 16}},
        {"data_digest": digest_bytes(b"other")},
        {"labels": ("y", "x")},
        {"task": "films"},
    ],
    ids=str,
)
def test_each_part_of_the_identity_makes_another_version(store_with: Store, change: dict[str, object]) -> None:
    file = store_with.path / "file"
    file.write_bytes(b"same bytes")
    first, _ = versions.register(store_with, draft(), {"adapter_model.safetensors": file})
    second, created = versions.register(store_with, draft(**change), {"adapter_model.safetensors": file})
    assert created
    assert second.digest != first.digest
    third, created = versions.register(store_with, draft(), {"other.safetensors": file})
    assert created
    assert third.digest != first.digest


@pytest.fixture
def store_with(store: Store) -> Store:
    from limpet.registry.records import tasks
    from tests.registry.homes import a_task

    bases.add(store, a_base())
    for name in ("news", "films"):
        tasks.add(store, a_task(store, name))
    return store


def test_unknown_base_task_and_parent_are_refused_and_nothing_is_visible(home: Store) -> None:
    for change in ({"base_digest": digest_bytes(b"stranger")}, {"task": "sport"}, {"parent": "news@9"}):
        with pytest.raises(NotFoundError):
            add_version(home, **change)
    assert versions.find(home).items == ()


def test_a_parent_given_by_alias_is_kept_as_the_version_it_meant(home: Store) -> None:
    add_version(home, seed=1)
    aliases.promote(home, "news@1", "production")
    child = add_version(home, seed=2, parent="news@production")
    assert child.parent == "news@1"


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", ".hidden", "", "manifest.json", "x" * 200, "a\0b", "%2e%2e"])
def test_a_file_name_that_could_be_a_path_is_refused(store_with: Store, name: str) -> None:
    file = store_with.path / "file"
    file.touch()
    with pytest.raises(UsageError):
        versions.register(store_with, draft(), {name: file})


def test_no_files_nan_and_unknown_roles_are_refused(store_with: Store) -> None:
    with pytest.raises(UsageError):
        versions.register(store_with, draft(), {})
    for change in ({"metrics": {"score": float("nan")}}, {"role": "boss"}):
        with pytest.raises(UsageError):
            add_version(store_with, **change)
    with pytest.raises(NotFoundError):
        versions.register(store_with, draft(), {"x": store_with.path / "absent"})
    assert versions.find(store_with).items == ()


def test_references_resolve_to_what_they_mean_now(home: Store) -> None:
    for seed in range(3):
        add_version(home, seed=seed)
    add_version(home, seed=3, role="baseline")
    assert versions.resolve(home, "news").reference == "news@3"
    assert versions.resolve(home, "news@latest").reference == "news@3"
    assert versions.resolve(home, "news@4").role == "baseline"
    aliases.promote(home, "news@2", "production")
    assert versions.resolve(home, "news").reference == "news@2"
    assert versions.resolve(home, "news@production").aliases == ("production",)
    assert versions.resolve(home, "news@latest").reference == "news@3"
    for ref in ("news@9", "news@staging", "films", "films@latest"):
        with pytest.raises(NotFoundError):
            versions.resolve(home, ref)


def test_an_unknown_task_is_answered_with_the_nearest_names(home: Store) -> None:
    with pytest.raises(NotFoundError) as caught:
        versions.resolve(home, "newz")
    assert "news" in caught.value.hint


def test_pages_stay_whole_while_versions_are_added(home: Store) -> None:
    for seed in range(25):
        add_version(home, seed=seed)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = versions.find(home, limit=4, cursor=cursor)
        seen += names(page)
        add_version(home, "films", seed=100 + len(seen))
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [f"news@{number}" for number in range(25, 0, -1)]


def test_the_last_page_has_no_cursor_even_when_it_is_full(home: Store) -> None:
    for seed in range(4):
        add_version(home, seed=seed)
    first = versions.find(home, limit=2)
    assert first.cursor is not None
    assert versions.find(home, limit=2, cursor=first.cursor).cursor is None
    assert versions.find(home, limit=4).cursor is None


def test_filters_choose_and_combine(home: Store) -> None:
    for seed in range(4):
        add_version(home, seed=seed, method="lora" if seed % 2 else "prefix")
    add_version(home, "films", seed=9, role="baseline")
    aliases.promote(home, "news@1", "production")
    assert names(versions.find(home, VersionQuery(task="films"))) == ["films@1"]
    assert names(versions.find(home, VersionQuery(method="lora", task="news"))) == ["news@4", "news@2"]
    assert names(versions.find(home, VersionQuery(alias="production"))) == ["news@1"]
    assert names(versions.find(home, VersionQuery(alias="latest"))) == ["news@4"]
    assert names(versions.find(home, VersionQuery(where="score >= 0.02 and role = adapter"))) == ["news@4", "news@3"]
    assert names(versions.find(home, VersionQuery(where="seed != 9 and number<2"))) == ["news@1"]
    assert names(versions.find(home, VersionQuery(where="created_at > '2999'"))) == []
    assert names(versions.find(home, VersionQuery(where="trainable_parameters == 10 AND size > 1e9"))) == []
    assert names(versions.find(home, VersionQuery(where="method = prefix and role != baseline"))) == [
        "news@3",
        "news@1",
    ]


def test_tags_are_searched_by_their_value(home: Store) -> None:
    for seed in range(3):
        add_version(home, seed=seed)
    tags.change(home, "news@1", {"owner": "ada", "ci.run": "9"})
    tags.change(home, "news@2", {"owner": "salt and pepper"})
    assert names(versions.find(home, VersionQuery(where="tag.owner = ada"))) == ["news@1"]
    assert names(versions.find(home, VersionQuery(where="tag.owner != ada"))) == ["news@2"]
    assert names(versions.find(home, VersionQuery(where="tag.owner = 'salt and pepper' and seed = 1"))) == ["news@2"]
    assert names(versions.find(home, VersionQuery(where="tag.ci.run = 9 and tag.owner=ada"))) == ["news@1"]
    assert names(versions.find(home, VersionQuery(where="tag.owner = bob"))) == []


@pytest.mark.parametrize(
    "where",
    [
        "",
        "score",
        "score >=",
        "score >= x",
        "digest = 1",
        "score >= 1; drop",
        "a and",
        "seed = nan",
        "seed = 1e400",
        "seed = 1 seed = 2",
        "seed = 1 or seed = 2",
        "tag. = x",
        "tag.-x = x",
        "tag.UP = x",
    ],
)
def test_a_condition_that_means_nothing_is_refused(store_with: Store, where: str) -> None:
    with pytest.raises(UsageError):
        versions.find(store_with, VersionQuery(where=where))


def test_wrong_limits_cursors_orders_and_tasks_are_refused(store_with: Store) -> None:
    for limit, cursor in ((0, None), (1001, None), (50, "x"), (50, "9" * 300)):
        with pytest.raises(UsageError):
            versions.find(store_with, limit=limit, cursor=cursor)
    for query in (
        VersionQuery(sort="digest"),
        VersionQuery(sort="--score"),
        VersionQuery(sort=""),
        VersionQuery(task="../x"),
    ):
        with pytest.raises(UsageError):
            versions.find(store_with, query)
    with pytest.raises(NotFoundError):
        versions.find(store_with, VersionQuery(task="sport"))


SCORES = (0.5, None, 0.9, 0.5, 0.1, None, 0.9, 0.3)


def all_pages(home: Store, limit: int, **arguments: Any) -> list[VersionRecord]:
    found: list[VersionRecord] = []
    cursor: str | None = None
    while True:
        page = versions.find(home, VersionQuery(**arguments), limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found
        assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
        assert not cursor.startswith("-")


@pytest.mark.parametrize("sort", [sign + name for name in SORTS for sign in ("", "-")])
def test_every_order_is_whole_on_pages_of_any_size(home: Store, sort: str) -> None:
    for seed, score in enumerate(SCORES):
        metrics = {} if score is None else {"score": score}
        add_version(home, "films" if seed % 3 else "news", seed=seed // 2, metrics=metrics, config={"n": seed})
    name = sort.removeprefix("-")

    def value(version: VersionRecord) -> Any:
        return {**vars(version), **version.cost, "size": version.size, "score": version.metrics.get("score")}[name]

    oldest = versions.find(home).items[::-1]
    # equal values stand as they were registered, or the other way round where the largest is first
    known = sorted((value(version), place) for place, version in enumerate(oldest) if value(version) is not None)
    unknown = [(None, place) for place, version in enumerate(oldest) if value(version) is None]
    step = -1 if sort.startswith("-") else 1
    expected = [oldest[place] for _, place in known[::step] + unknown[::step]]
    for limit in (1, 3, 7, 8, 1000):
        assert all_pages(home, limit, sort=sort) == expected
    by_task = [version for version in expected if version.task == "films"]
    assert all_pages(home, 2, sort=sort, task="films") == by_task


def test_a_sorted_list_goes_on_where_it_was_when_versions_are_added(home: Store) -> None:
    for seed in range(4):
        add_version(home, seed=seed)
    first = versions.find(home, VersionQuery(sort="-score"), limit=2)
    add_version(home, seed=50)
    assert names(first) == ["news@4", "news@3"]
    assert names(versions.find(home, VersionQuery(sort="-score"), limit=2, cursor=first.cursor)) == [
        "news@2",
        "news@1",
    ]


def forged(*content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def test_a_cursor_of_another_list_or_hand_made_is_refused(store_with: Store) -> None:
    for seed in range(3):
        add_version(store_with, seed=seed)
    newest, by_score = (
        versions.find(store_with, limit=1),
        versions.find(store_with, VersionQuery(sort="score"), limit=1),
    )
    wrong = [
        (None, by_score.cursor),
        ("score", newest.cursor),
        ("-score", by_score.cursor),
        *(("score", forged("score", value, 1)) for value in ("x", [1], float("nan"), True)),
        *(("seed", forged("seed", value, 1)) for value in (None, 1.5, 2**70, "1")),
        *(("score", forged("score", 1, id_)) for id_ in (None, "1", True, 1.0, 2**70)),
        *(("score", cursor) for cursor in ("!", "[", "é", forged(), forged("score", 1), "W1tb" * 40)),
        ("created_at", forged("created_at", 5, 1)),
    ]
    for sort, cursor in wrong:
        with pytest.raises(UsageError, match="is not a cursor"):
            versions.find(store_with, VersionQuery(sort=sort), cursor=cursor)


def test_deleted_versions_are_listed_only_when_asked_for(home: Store) -> None:
    for seed in range(3):
        add_version(home, seed=seed)
    deletion.delete(home, "news@2", "a test")
    assert (
        names(versions.find(home)) == names(versions.find(home, VersionQuery(sort="-score"))) == ["news@3", "news@1"]
    )
    page = versions.find(home, VersionQuery(deleted=True))
    assert (
        names(page)
        == names(versions.find(home, VersionQuery(sort="-score", deleted=True)))
        == ["news@3", "news@2", "news@1"]
    )
    assert [version.deleted is not None for version in page.items] == [False, True, False]
    assert versions.look_up(home, "news@2") == page.items[1]


def test_current_versions_are_the_promoted_else_the_newest_adapters(home: Store) -> None:
    assert versions.current(home) == ()
    add_version(home, "films", seed=0)
    add_version(home, seed=1)
    add_version(home, seed=2)
    add_version(home, "films", seed=3, role="baseline")
    assert [version.reference for version in versions.current(home)] == ["films@1", "news@2"]
    aliases.promote(home, "news@1", "production")
    assert [version.reference for version in versions.current(home)] == ["films@1", "news@1"]


def test_a_flipped_bit_is_found_when_a_version_is_loaded(store_with: Store) -> None:
    version = add_version(store_with)
    assert isinstance(store_with.blobs, LocalBlobs)
    file = store_with.blobs.root / blob_key(version.files[0].digest)
    data = bytearray(file.read_bytes())
    data[3] ^= 0x10
    file.chmod(0o644)
    file.write_bytes(data)
    with pytest.raises(IntegrityError):
        versions.files(store_with, version)


def test_an_edited_manifest_is_found_when_a_version_is_resolved(store_with: Store) -> None:
    add_version(store_with)
    with sqlite3.connect(store_with.path / "limpet.db") as connection:
        connection.execute("UPDATE versions SET manifest = replace(manifest, '\"r\":8', '\"r\":9')")
    with pytest.raises(IntegrityError, match="manifest"):
        versions.resolve(store_with, "news@1")


def test_a_locked_database_is_a_conflict_not_a_traceback(store_with: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limpet.registry.database.engine.BUSY_TIMEOUT_MS", 50)
    other = again(store_with)
    with store_with.database.write() as session:
        session.connection()
        with pytest.raises(LimpetError) as caught:
            add_version(other)
    assert caught.value.exit_code == 4
    add_version(other)


def test_a_read_only_database_is_a_typed_error(store_with: Store, tmp_path: Path) -> None:
    with store_with.database.writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.rollback()
    with pytest.raises(LimpetError, match="can't be written"):
        add_version(store_with)
