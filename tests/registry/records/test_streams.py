from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from limpet.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import bases, evaluations, streams, tasks
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft, EvaluationRecord
from tests.registry.homes import BASE, a_base, a_task, add_evaluation, add_version, again

SPEC = {"name": "two", "tasks": ["news", "films"]}


def evaluate(store: Store, version: str, state: str | None = None, **changes: Any) -> EvaluationRecord:
    # a score that no decimal fraction is
    given = {"state": state or version, "score": 0.1 + 0.2, "examples": 3, "seconds": 1.5}
    return add_evaluation(store, version, b'{"predictions":[1,0,1]}', **given | changes)


@pytest.fixture
def grown(home: Store) -> Store:
    add_version(home, "news", seed=1)
    add_version(home, "films", seed=2)
    streams.create(home, "two", SPEC, base_digest=BASE, tasks=("news", "films"))
    return home


def test_a_base_is_kept_once_and_never_under_another_fingerprint(home: Store) -> None:
    assert bases.add(home, a_base()) == bases.get(home) == bases.get(home, BASE) == bases.get(home, "sample:tiny")
    with pytest.raises(IntegrityError):
        bases.add(home, a_base(digest=digest_bytes(b"changed")))
    with pytest.raises(NotFoundError):
        bases.get(home, "sample:other")
    bases.add(home, a_base("other", digest_bytes(b"other")))
    with pytest.raises(UsageError):
        bases.get(home)
    chosen = replace(home, settings=replace(home.settings, base="other"))
    assert bases.get(chosen).name == "other"


def test_a_task_is_kept_once_and_never_with_another_definition(home: Store) -> None:
    task = a_task(home, "news")
    assert tasks.add(home, task) == tasks.get(home, "news") == task
    assert [kept.name for kept in tasks.list_all(home)] == ["news", "films"]
    for other in (
        replace(task, definition=replace(task.definition, max_length=128)),
        replace(task, data_digest=digest_bytes(b"changed")),
        replace(task, labels=("y", "x")),
    ):
        with pytest.raises(ConflictError):
            tasks.add(home, other)
    with pytest.raises(IntegrityError):
        lost = tuple(replace(split, digest=digest_bytes(b"lost")) for split in task.splits)
        tasks.add(home, replace(a_task(home, "new"), splits=lost))
    with pytest.raises(UsageError):
        tasks.add(home, a_task(home, "../up"))


def test_an_evaluation_comes_back_bit_for_bit_with_its_predictions(grown: Store) -> None:
    made = evaluate(grown, "news@1")
    assert (made.task, made.score) == ("news", 0.1 + 0.2)
    assert evaluations.full(again(grown), "news@1", "news@1") == (made,)
    assert evaluations.predictions(grown, made) == {"predictions": [1, 0, 1]}


def test_full_evaluations_are_those_of_that_state_alone_the_newest_first(grown: Store) -> None:
    assert evaluations.full(grown, "news@1", "news@1") == ()
    first, last = evaluate(grown, "news@1"), evaluate(grown, "news@1", score=0.9)
    evaluate(grown, "news@1", "films@1")
    evaluate(grown, "news@1", kind="audit")
    evaluate(grown, "news@1", split="validation")
    assert evaluations.full(grown, "news@1", "news@1") == (last, first)


def test_an_evaluation_without_finite_score_or_stored_predictions_is_refused(grown: Store) -> None:
    for score in (float("nan"), float("inf")):
        with pytest.raises(UsageError):
            evaluate(grown, "news@1", score=score)
    with pytest.raises(IntegrityError):
        evaluate(grown, "news@1", predictions_digest=digest_bytes(b"lost"))
    with pytest.raises(NotFoundError):
        evaluate(grown, "news@9")


def test_a_stream_is_kept_once_and_never_with_another_file(grown: Store) -> None:
    made = streams.get(grown, "two")
    assert streams.create(grown, "two", SPEC, base_digest=BASE, tasks=("news", "films")) == made
    assert made.tasks == ("news", "films")
    for spec, base in (({"name": "two"}, BASE), (SPEC, digest_bytes(b"other"))):
        with pytest.raises(ConflictError):
            streams.create(grown, "two", spec, base_digest=base, tasks=("news",))
    with pytest.raises(NotFoundError):
        streams.create(grown, "new", {}, base_digest=BASE, tasks=("sport",))
    with pytest.raises(NotFoundError):
        streams.get(grown, "new")


def test_the_homes_own_stream_grows(grown: Store) -> None:
    for task in ("films", "news", "films"):
        streams.extend(grown, streams.HOME_STREAM, task, base_digest=BASE)
    assert streams.get(grown, "home").tasks == ("films", "news")
    with pytest.raises(ConflictError):
        streams.extend(grown, "home", "news", base_digest=digest_bytes(b"other"))


def test_latest_is_the_stream_worked_on_last(grown: Store) -> None:
    streams.create(grown, "other", {"name": "other"}, base_digest=BASE, tasks=())
    assert streams.latest(grown).name == "other"
    streams.arm_run(grown, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={}))
    assert streams.latest(grown).name == "two"
    assert [stream.name for stream in streams.list_all(grown)] == ["two", "other"]


def test_no_stream_yet_is_not_found(home: Store) -> None:
    with pytest.raises(NotFoundError):
        streams.latest(home)


def test_an_arm_is_begun_once_for_each_seed(grown: Store) -> None:
    arm = streams.arm_run(
        grown, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={"r": 8})
    )
    assert (
        streams.arm_run(
            grown, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={"r": 8})
        )
        == arm
    )
    other = streams.arm_run(
        grown, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=1, settings={"r": 8})
    )
    assert other.id != arm.id
    with pytest.raises(ConflictError):
        streams.arm_run(
            grown, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={"r": 16})
        )
    swept = streams.set_sweep(grown, arm.id, [{"lr": 1e-4}, {"lr": 1e-3}], chosen={"lr": 1e-4})
    assert (swept.sweep, swept.chosen, swept.finished) == (({"lr": 1e-4}, {"lr": 1e-3}), {"lr": 1e-4}, False)
    assert streams.finish_arm(grown, arm.id).finished
    assert [run.finished for run in streams.arm_runs(again(grown), "two")] == [True, False]


def test_steps_keep_their_rows_and_are_added_once(grown: Store) -> None:
    arm = streams.arm_run(grown, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={}))
    news, films = evaluate(grown, "news@1"), evaluate(grown, "films@1")
    first = streams.add_step(grown, arm.id, 0, version="news@1", base_unchanged=True, row={"news": news.id})
    second = streams.add_step(
        grown, arm.id, 1, version="films@1", base_unchanged=None, row={"news": news.id, "films": films.id}
    )
    assert streams.add_step(grown, arm.id, 0, version="news@1", base_unchanged=True, row={"news": news.id}) == first
    assert streams.steps(again(grown), arm.id) == (first, second)
    assert (dict(second.row), second.base_unchanged) == ({"news": news, "films": films}, None)
    with pytest.raises(ConflictError):
        streams.add_step(grown, arm.id, 0, version="films@1", base_unchanged=True, row={})


def test_a_step_without_a_place_is_the_next_one(grown: Store) -> None:
    arm = streams.arm_run(grown, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={}))
    news = evaluate(grown, "news@1")
    for place in (0, 1):
        assert (
            streams.add_step(grown, arm.id, None, version="news@1", base_unchanged=True, row={"news": news.id}).index
            == place
        )


def test_a_step_with_anything_unknown_is_refused_whole(grown: Store) -> None:
    arm = streams.arm_run(grown, "two", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={}))
    news = evaluate(grown, "news@1")
    for arm_id, version, row in (
        (arm.id + 9, "news@1", {}),
        (arm.id, "news@9", {}),
        (arm.id, "news@1", {"news": 999}),
        (arm.id, "news@1", {"films": news.id}),
    ):
        with pytest.raises(NotFoundError):
            streams.add_step(grown, arm_id, 0, version=version, base_unchanged=True, row=row)
    assert streams.steps(grown, arm.id) == ()
