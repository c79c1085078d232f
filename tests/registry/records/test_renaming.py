"""A task gets another name: what was made under the former one follows, and no name ever means two tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from limpet.errors import ConflictError, LimpetError, NotFoundError, UsageError
from limpet.registry import versions
from limpet.registry.cleanup.task_removal import remove
from limpet.registry.exchange import export_import
from limpet.registry.records import alarms, evaluations, log, streams, tasks
from limpet.registry.records.renaming import rename
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft
from limpet.registry.verification.verify import verify
from limpet.registry.versions import alias_history, aliases, lineage
from limpet.registry.versions.serving import serving_summary
from tests.registry.exchange.bundles import a_home, add_sound_version
from tests.registry.homes import Grow, a_task, add_evaluation, add_version, again, draft, register, revise

HomeAfter = Callable[[Grow], Store]


def _used(home: Store) -> None:
    """Give `news` two versions, an alias that was moved, an alarm that was accepted, and a column of a stream."""
    add_version(home, seed=1)
    add_version(home, seed=2, parent="news@1")
    evaluation = add_evaluation(home, "news@1")
    aliases.promote(home, "news@1", "production")
    alarms.sound(home, "news@1", evaluation=evaluation.id, reference=evaluation.id, detail="it answers otherwise.")
    streams.create(home, "s", {"name": "s"}, base_digest=draft().base_digest, tasks=["news", "films"])
    run = streams.arm_run(home, "s", ArmDraft("isolated", "isolated", "lora", 0, {}))
    streams.add_step(home, run.id, 0, version="news@1", base_unchanged=True, row={"news": evaluation.id})


@pytest.fixture
def home(home_after: HomeAfter) -> Store:
    """A home whose task `news` is in use, once on each database."""
    return home_after(_used)


def test_versions_aliases_and_evaluations_follow_and_keep_their_digests(home: Store) -> None:
    before = versions.resolve(home, "news@2")
    rename(home, "news", "headlines")
    after = versions.resolve(home, "headlines@2")
    assert after == replace(before, task="headlines", parent="headlines@1")
    assert versions.identity(before, before.files) == after.digest
    assert versions.resolve(home, "headlines@production").number == 1
    assert [move.task for move in alias_history.moves(home, "headlines")] == ["headlines"]
    assert evaluations.full(home, "headlines@1", "headlines@1")[0].task == "headlines"
    assert [task.name for task in tasks.list_all(home)] == ["headlines", "films"]
    assert lineage.get(home, "headlines@2").parent == "headlines@1"
    assert verify(home, deep=True) == ()


def test_the_log_tells_under_the_new_name_what_was_told_under_the_old_one(home: Store) -> None:
    rename(home, "news", "headlines")
    aliases.promote(home, "headlines@2", "production", expect="headlines@1", reason="better")
    for name in ("headlines", "news"):
        told = [event.action for event in log.read(home, f"{name}@production").items]
        assert told == ["promote", "promote"]
        assert [event.action for event in log.read(home, name).items] == ["task rename", "task add"]
    renamed = log.read(home, "headlines").items[0]
    assert (renamed.subject, renamed.detail) == ("headlines", {"from": "news"})
    (service, _) = serving_summary(home)
    assert service.change is not None and (service.change.action, service.change.before) == ("promote", "headlines@1")
    assert verify(home) == ()


def test_what_serves_is_told_from_the_events_of_before(home: Store) -> None:
    (before, _) = serving_summary(home)
    rename(home, "news", "headlines")
    (after, _) = serving_summary(home)
    assert after.change == before.change and after.change is not None
    assert after.alarm is not None and after.alarm.version == "headlines@1"


def test_an_alarm_of_before_is_open_until_it_is_accepted(home: Store) -> None:
    rename(home, "news", "headlines")
    (alarm,) = alarms.open_alarms(home)
    assert alarm.version == "headlines@1" and alarms.open_alarm(home, "headlines@1") == alarm
    again_sound = alarms.sound(home, "headlines@1", evaluation=1, reference=1, detail="and again.")
    assert again_sound == alarm


def test_a_stream_has_its_column_under_the_new_name_and_grows_on_in_it(home: Store) -> None:
    rename(home, "news", "headlines")
    stream = streams.get(home, "s")
    assert stream.tasks == ("headlines", "films")
    assert streams.extend(home, "s", "headlines", base_digest=stream.base_digest).tasks == stream.tasks
    (run,) = streams.arm_runs(home, "s")
    (step,) = streams.steps(home, run.id)
    assert (step.task, step.version, list(step.row)) == ("headlines", "headlines@1", ["headlines"])


def test_the_former_name_stays_the_tasks_own(home: Store) -> None:
    rename(home, "news", "headlines")
    for ask in (lambda: tasks.get(home, "news"), lambda: versions.resolve(home, "news@1")):
        with pytest.raises(NotFoundError, match="'news' is called 'headlines' now"):
            ask()
    with pytest.raises(ConflictError, match="is called 'headlines' now"):
        tasks.add(home, a_task(home, "news"))
    with pytest.raises(ConflictError, match="its former name stays its own"):
        rename(home, "films", "news")
    assert tasks.get(home, "news", past=True).name == "headlines"


def test_names_go_on_and_back_but_are_never_swapped(home: Store) -> None:
    first = tasks.get(home, "news")
    for old, new in (("news", "b"), ("b", "c"), ("c", "news"), ("news", "b")):
        rename(home, old, new)
        assert tasks.get(home, new).data_digest == first.data_digest
        assert [event.action for event in log.read(home, f"{new}@production").items] == ["promote"]
        assert verify(home) == ()
    with pytest.raises(ConflictError, match="There is a task 'films' already"):
        rename(home, "b", "films")
    with pytest.raises(NotFoundError, match="'c' is called 'b' now"):
        tasks.get(home, "c")


def test_the_same_command_again_changes_nothing_and_nonsense_is_refused(home: Store) -> None:
    rename(home, "news", "headlines")
    before = log.head(home)
    rename(home, "news", "headlines")
    rename(home, "headlines", "headlines")
    assert log.head(home) == before
    with pytest.raises(NotFoundError):
        rename(home, "nothing", "else")
    with pytest.raises(UsageError):
        rename(home, "headlines", "../news")
    remove(home, "films", "no longer needed")
    with pytest.raises(ConflictError, match="'films' was removed by"):
        rename(home, "headlines", "films")


def test_what_was_learned_while_its_task_was_renamed_is_registered_all_the_same(home: Store) -> None:
    learned = draft(seed=7, parent="news@2")
    rename(home, "news", "headlines")
    version, made = register(home, learned)
    assert made and (version.reference, version.parent) == ("headlines@3", "headlines@2")
    # its identity is of the name that it was learned under
    assert register(home, learned) == (version, False)
    assert log.read(home, "headlines@3").items[0].action == "register"
    assert verify(home) == ()


def test_revisions_follow_and_go_on(home: Store) -> None:
    revise(home)
    rename(home, "news", "headlines")
    assert revise(home, "headlines", "c").reference == "headlines@r3"
    assert [task.name for task in tasks.revisions(home, "headlines")] == ["headlines"] * 3


def test_of_two_renames_at_once_one_wins(home: Store) -> None:
    stores = [again(home), again(home)]
    barrier, failed = threading.Barrier(2), []

    def run(store: Store, new: str) -> None:
        barrier.wait()
        try:
            rename(store, "news", new)
        except LimpetError as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(store, new)) for store, new in zip(stores, ("a", "b"), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (error,) = failed
    assert isinstance(error, NotFoundError)
    name = tasks.list_all(home)[0].name
    assert name in ("a", "b") and f"is called {name!r} now" in error.message
    assert verify(home) == ()
    for store in stores:
        store.database.close()


def test_a_version_of_before_leaves_under_its_former_name_and_comes_in_where_that_is_free(
    home: Store, tmp_path: Path
) -> None:
    version = add_sound_version(home, seed=5)
    rename(home, "news", "headlines")
    bundle = export_import.export_bundle(home, f"headlines@{version.number}", tmp_path / "out.limpet")
    other = a_home(tmp_path / "other")
    taken, _ = export_import.import_bundle(other, bundle)
    assert (taken.task, taken.digest) == ("news", version.digest)
    with pytest.raises(ConflictError, match="is called 'headlines' now") as refused:
        export_import.import_bundle(home, bundle)
    assert refused.value.exit_code == 4
