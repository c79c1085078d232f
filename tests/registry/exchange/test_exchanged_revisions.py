"""Bundles carry the revision that a version was learned on, and a home takes in what fits what it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limpet.errors import ConflictError, IntegrityError, NotFoundError
from limpet.registry.exchange import export_import
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.values import SplitRecord, TaskDefinition
from limpet.registry.verification.verify import verify
from tests.registry.exchange.bundles import (
    a_home,
    add_sound_version,
    entries_of,
    exported,
    sealed,
    signed,
)
from tests.registry.homes import revise, stock

OTHER = "sha256:" + "1" * 64


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the bundles of three versions of `news`, each on its revision: r1, r2 and r3."""
    folder = tmp_path_factory.mktemp("source")
    store = stock(folder / "home")
    for number in (1, 2, 3):
        add_sound_version(store, seed=number, data_digest=tasks.get(store, "news").data_digest)
        exported(store, folder / f"r{number}.limpet", f"news@{number}")
        exported(store, folder / f"r{number}-bare.limpet", f"news@{number}", data=False)
        revise(store, text=f"row {number}")
    store.database.close()
    yield folder


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return a_home(tmp_path / "target")


def _take(store: Store, bundle: Path) -> str:
    version, _ = export_import.import_bundle(store, bundle)
    return tasks.of_version(store, version).reference


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 1, 3), (3, 1, 2), (3, 2, 1), (1, 3)])
def test_revisions_come_in_in_any_order_and_leave_as_they_came(
    source: Path, target: Store, tmp_path: Path, order: tuple[int, ...]
) -> None:
    taken = [_take(target, source / f"r{number}.limpet") for number in order]
    assert taken == [f"news@r{number}" for number in order]
    assert [task.revision for task in tasks.revisions(target, "news")] == sorted(order)
    assert tasks.get(target, "news").revision == 3
    for place, number in enumerate(order, start=1):
        again = exported(target, tmp_path / f"again-{number}.limpet", f"news@{place}")
        bundles = (again, source / f"r{number}.limpet")
        first, second = (entries_of(path, tmp_path / f"{number}-{path.name}") for path in bundles)
        # a manifest says when and from where a version came into its home
        assert {**first, "manifest.json": b""} == {**second, "manifest.json": b""}
    assert verify(target, deep=True) == ()


def test_the_first_revision_is_written_as_it_was_before_there_were_any(source: Path, tmp_path: Path) -> None:
    first, second = (json.loads(_entries(source, tmp_path, number)["task.json"]) for number in (1, 2))
    assert first.keys() == second.keys() - {"revision", "previous"}
    assert (second["revision"], second["previous"]) == (2, first["data_digest"])


def test_a_bundle_has_every_split_of_its_revision(source: Path, tmp_path: Path) -> None:
    data = {name for name in _entries(source, tmp_path, 3) if name.startswith("data-")}
    splits = ("train", "validation", "evaluation", "evaluation-r2", "evaluation-r3")
    assert data == {f"data-{split}.jsonl" for split in splits}


def test_a_revision_that_this_home_lacks_comes_in_with_its_data_alone(source: Path, target: Store) -> None:
    _take(target, source / "r1.limpet")
    with pytest.raises(NotFoundError, match="no revision 2 of the task 'news'"):
        _take(target, source / "r2-bare.limpet")
    _take(target, source / "r2.limpet")
    assert _take(target, source / "r2-bare.limpet") == "news@r2"


def test_a_revision_that_went_another_way_is_a_conflict(source: Path, target: Store) -> None:
    _take(target, source / "r1.limpet")
    revise(target, text="something else")
    for number in (2, 3):
        with pytest.raises(ConflictError, match="data digest") as refused:
            _take(target, source / f"r{number}.limpet")
        assert refused.value.exit_code == 4 and "news" in refused.value.hint
    assert [task.revision for task in tasks.revisions(target, "news")] == [1, 2]


def _entries(source: Path, tmp_path: Path, number: int) -> dict[str, bytes]:
    return entries_of(source / f"r{number}.limpet", tmp_path / f"entries-{number}")


Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def _forged(entries: dict[str, bytes], change: Change) -> bytes:
    """Return a bundle whose task was changed, with every digest made for what it says."""
    task, made = json.loads(entries["task.json"]), dict(entries)
    change(task, made)
    definition = TaskDefinition(**task["definition"])
    splits = [SplitRecord(**split) for split in task["splits"]]
    task["data_digest"] = tasks.data_digest(definition, task["labels"], splits)
    manifest = json.loads(entries["manifest.json"]) | {"data_digest": task["data_digest"]}
    return sealed(made | {"task.json": canonical_json(task), "manifest.json": signed(manifest)})


def _without(task: dict[str, Any], name: str) -> None:
    del task[name]


def _named(task: dict[str, Any], name: str) -> None:
    task["splits"][-1]["name"] = name


def _twice(task: dict[str, Any]) -> None:
    task["splits"].append(task["splits"][-1])


def _many(task: dict[str, Any]) -> None:
    task["revision"] = 9999
    last = task["splits"].pop()
    task["splits"] += [last | {"name": f"evaluation-r{number}"} for number in range(2, 60_000)]


ATTACKS: dict[str, Change] = {
    "no number": lambda task, entries: _without(task, "revision"),
    "no previous": lambda task, entries: _without(task, "previous"),
    "number one": lambda task, entries: task.update(revision=1),
    "number zero": lambda task, entries: task.update(revision=0),
    "number below zero": lambda task, entries: task.update(revision=-2),
    "number that leaves no room": lambda task, entries: task.update(revision=10_000),
    "number beyond a database": lambda task, entries: task.update(revision=2**63),
    "number as a text": lambda task, entries: task.update(revision="2"),
    "number as a bool": lambda task, entries: task.update(revision=True),
    "number of a float": lambda task, entries: task.update(revision=2.0),
    "previous is no digest": lambda task, entries: task.update(previous="sha256:../../evil"),
    "previous is null": lambda task, entries: task.update(previous=None),
    "field of its own": lambda task, entries: task.update(removed_at="2026-01-02T03:04:05.000006Z"),
    "name of its own": lambda task, entries: task.update(former_names="films"),
    "split of a later revision": lambda task, entries: _named(task, "evaluation-r4"),
    "split of the first revision": lambda task, entries: _named(task, "evaluation-r1"),
    "split with a zero": lambda task, entries: _named(task, "evaluation-r02"),
    "split with another digit": lambda task, entries: _named(task, "evaluation-r\u0663"),
    "split with a line end": lambda task, entries: _named(task, "evaluation-r3\n"),
    "split with a path": lambda task, entries: _named(task, "evaluation-r3/../../evil"),
    "split of training": lambda task, entries: _named(task, "train-r3"),
    "split twice": lambda task, entries: _twice(task),
    "splits in falling order": lambda task, entries: task["splits"].append(task["splits"].pop(-2)),
    "split before the first ones": lambda task, entries: task["splits"].insert(0, task["splits"].pop()),
    "a split's rows gone": lambda task, entries: entries.pop("data-evaluation-r2.jsonl") and None,
    "rows of no split": lambda task, entries: entries.update({"data-evaluation-r7.jsonl": b""}),
    "a split without its record": lambda task, entries: task["splits"].pop() and None,
    "sixty thousand splits": lambda task, entries: _many(task),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_forged_revision_is_refused_whole(source: Path, target: Store, tmp_path: Path, attack: str) -> None:
    (tmp_path / "forged.limpet").write_bytes(_forged(_entries(source, tmp_path, 3), ATTACKS[attack]))
    with pytest.raises(IntegrityError):
        export_import.import_bundle(target, tmp_path / "forged.limpet")
    assert tasks.list_all(target) == ()
    assert list(target.blobs.digests()) == []


def test_a_bundle_that_lies_about_the_revision_before_is_a_conflict_where_that_one_is(
    source: Path, target: Store, tmp_path: Path
) -> None:
    def lie(task: dict[str, Any], entries: dict[str, bytes]) -> None:
        task["previous"] = OTHER

    (tmp_path / "lie.limpet").write_bytes(_forged(_entries(source, tmp_path, 2), lie))
    _take(target, source / "r1.limpet")
    with pytest.raises(ConflictError, match=OTHER):
        export_import.import_bundle(target, tmp_path / "lie.limpet")
    assert [task.revision for task in tasks.revisions(target, "news")] == [1]


def test_a_version_on_data_that_its_home_has_no_revision_of_does_not_leave(tmp_path: Path) -> None:
    store = stock(tmp_path / "home")
    add_sound_version(store, data_digest=OTHER)
    with pytest.raises(IntegrityError, match="no revision of the task 'news' with the data of news@1"):
        exported(store, tmp_path / "out.limpet")


def test_the_same_revision_under_another_number_is_the_one_that_there_is(target: Store, source: Path) -> None:
    _take(target, source / "r2.limpet")
    known = tasks.get(target, "news")
    assert tasks.add(target, replace(known, revision=7)) == known
