from __future__ import annotations

import json
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limpet.errors import ConflictError, UnavailableError, UsageError
from limpet.forgetting.mlflow_mirror import sent_items, sync
from limpet.forgetting.mlflow_mirror.dashboard import free_port, serve
from limpet.forgetting.mlflow_mirror.tracking import tracking_uri
from limpet.forgetting.stream.general_ability import ability_tasks_of
from limpet.registry import versions
from limpet.registry.cleanup.task_removal import remove
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import general_ability, streams, tasks
from limpet.registry.records.renaming import rename
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store, open_store
from limpet.registry.values import AbilityDraft, ArmDraft, VersionRecord
from limpet.registry.versions import aliases, deletion, lineage
from tests.forgetting.grown_home import ENVIRONMENT, TASKS, add_base, add_step, add_task, add_version, grow
from tests.warm import Warm

ALL = {"streams": 1, "arms": 3, "steps": 12, "versions": 12, "aliases": 2}
# something of every kind, drawn and sent in a third of the time
FEW_ARMS = {"isolated": ("isolated", "lora"), "sequential-shared": ("sequential", "lora")}
FEW = {"streams": 1, "arms": 2, "steps": 2, "versions": 2}
MIRRORED = (1 + 2 + 2, 2, 2)
SYNC = "import sys; from pathlib import Path; from limpet.registry.store import open_store; "
SYNC += "from limpet.forgetting.mlflow_mirror import sync; sync.sync(open_store(Path(sys.argv[1])))"


@pytest.fixture
def store(store: Store, empty_database: Path) -> Store:
    shutil.copy(empty_database, store.path / "mlflow.db")
    return store


@pytest.fixture
def home(store: Store, tmp_path: Path) -> Store:
    """A home in which two arms have learned one of four tasks."""
    grow(store, tmp_path, steps=1, arms=FEW_ARMS)
    return store


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Store:
    """A home in which three arms have learned four tasks, and its mirror, for tests that only look."""
    folder = tmp_path_factory.mktemp("mirrored")
    store = create_store(folder / "home", Settings(cache=folder / "cache"))
    shutil.copy(empty_database, store.path / "mlflow.db")
    grow(store, folder)
    aliases.promote(store, "bbc-news@1", "production", reason="kept every answer")
    aliases.promote(store, "reuters-r8@1", "candidate", reason="to be tried")
    assert sync.sync(store).pushed == ALL
    return store


class Mlflow:
    """What MLflow has, read by its own client."""

    def __init__(self, uri: str, experiment: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        self.experiment = experiment

    def runs(self) -> list[Any]:
        return list(self.client.search_runs([self.experiment], max_results=1000))

    def run(self, name: str) -> Any:
        (found,) = [run for run in self.runs() if run.info.run_name == name]
        return found

    def children(self, run: Any) -> list[str]:
        parent = run.info.run_id
        return [
            child.info.run_name
            for child in reversed(self.runs())
            if child.data.tags.get("mlflow.parentRunId") == parent
        ]

    def curve(self, run: Any, key: str) -> list[tuple[int, float]]:
        return sorted(
            (point.step, round(point.value, 6)) for point in self.client.get_metric_history(run.info.run_id, key)
        )

    def models(self) -> list[Any]:
        return list(self.client.search_logged_models([self.experiment], max_results=1000))

    def numbers(self, name: str) -> dict[str, int]:
        """Limpet's version by MLflow's number."""
        found = self.client.search_model_versions(f"name = '{name}'")
        return {version.tags["limpet.version"]: int(version.version) for version in found}

    def everything(self) -> Counter[str]:
        """How much there is of each kind; what is made twice shows here."""
        runs = self.runs()
        points = sum(
            len(self.client.get_metric_history(run.info.run_id, key)) for run in runs for key in run.data.metrics
        )
        registered = self.client.search_model_versions(max_results=1000)
        outputs = sum(len(run.outputs.model_outputs) for run in runs)
        inputs = sum(len(run.inputs.dataset_inputs) for run in runs)
        return Counter(
            runs=len(runs),
            models=len(self.models()),
            registered=len(registered),
            points=points,
            outputs=outputs,
            inputs=inputs,
        )


def mlflow_of(store: Store) -> Mlflow:
    from limpet.forgetting.mlflow_mirror.sent_items import find

    item = find(store, "experiment")
    assert item is not None
    return Mlflow(tracking_uri(store), item[0])


def test_a_stream_is_a_run_with_its_arms_inside_and_their_steps_inside_those(mirrored: Store) -> None:
    there = mlflow_of(mirrored)
    stream = there.run("four-topics")
    arms = ["isolated, seed 0", "sequential-full, seed 0", "sequential-shared, seed 0"]
    assert sorted(there.children(stream)) == arms
    for arm in arms:
        steps = [f"step {number}: {task}" for number, task in enumerate(TASKS, start=1)]
        assert sorted(there.children(there.run(arm))) == steps
    assert {run.info.status for run in there.runs()} == {"FINISHED"}


def test_an_arm_has_a_curve_for_each_task_with_the_step_on_the_x_axis(mirrored: Store) -> None:
    there = mlflow_of(mirrored)
    arm = there.run("sequential-full, seed 0")
    assert there.curve(arm, "score/bbc-news") == [(1, 0.95), (2, 0.75), (3, 0.6), (4, 0.45)]
    assert there.curve(arm, "score/election-tweets") == [(4, 0.9)]
    # undefined after one task, so there is no point, and no zero
    assert [step for step, _ in there.curve(arm, "bwt_gem")] == [2, 3, 4]
    assert there.curve(there.run("isolated, seed 0"), "bwt_gem") == [(2, 0.0), (3, 0.0), (4, 0.0)]
    assert arm.data.params["chosen.lr"] == "3e-05"


def test_a_score_is_linked_to_the_adapter_that_was_active_and_to_the_data(mirrored: Store) -> None:
    there = mlflow_of(mirrored)
    arm = streams.arm_runs(mirrored, "four-topics")[1]
    last = streams.steps(mirrored, arm.id)[-1]
    (model,) = [model for model in there.models() if model.tags["limpet.version"] == last.version]
    scored = {metric.key: (metric.value, metric.dataset_name) for metric in model.metrics}
    assert scored["score/bbc-news"] == (0.45, "bbc-news/evaluation")
    assert scored["score/election-tweets"] == (0.9, "election-tweets/evaluation")


def test_a_step_names_its_data_by_digest_and_the_version_it_made(mirrored: Store) -> None:
    there = mlflow_of(mirrored)
    version = versions.resolve(mirrored, "bbc-news@1")
    runs = [run for run in there.runs() if run.data.tags.get("limpet.version") == "bbc-news@1"]
    (run,) = [run for run in runs if run.data.tags["limpet.kind"] == "step"]
    digests = {tag.value for one in run.inputs.dataset_inputs for tag in one.tags if tag.key == "limpet.digest"}
    assert digests == {split.digest for split in tasks.get(mirrored, "bbc-news").splits}
    (output,) = run.outputs.model_outputs
    model = there.client.get_logged_model(output.model_id)
    assert model.tags["limpet.digest"] == version.digest
    assert model.tags["mlflow.model.isExternal"] == "true"
    assert model.source_run_id == run.info.run_id


def test_what_a_version_gets_wrong_lies_beside_its_card(mirrored: Store, tmp_path: Path) -> None:
    there = mlflow_of(mirrored)
    (model,) = [model for model in there.models() if model.tags["limpet.version"] == "bbc-news@1"]
    page = Path(model.artifact_location.removeprefix("file://")) / "errors.json"
    errors = json.loads(page.read_text(encoding="utf-8"))
    assert errors["version"] == "bbc-news@1"
    assert errors["wrong_examples"] == round((1 - errors["score"]) * errors["examples"])
    assert [label["label"] for label in errors["labels"]] == list(tasks.get(mirrored, "bbc-news").labels)


def test_heat_maps_and_the_report_are_artifacts_and_the_note_says_who_forgot(mirrored: Store, tmp_path: Path) -> None:
    there = mlflow_of(mirrored)
    stream, arm = there.run("four-topics"), there.run("sequential-shared, seed 0")
    picture = there.client.download_artifacts(arm.info.run_id, "matrix.png", str(tmp_path))
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    page = there.client.download_artifacts(stream.info.run_id, "report.html", str(tmp_path))
    assert "four-topics" in Path(page).read_text(encoding="utf-8")
    note = stream.data.tags["mlflow.note.content"]
    assert "| isolated, seed 0 | 0.875 | 0.875 | 0.000 | none |" in note
    assert "bbc-news, 0.900 to 0.500 at step 2 (reuters-r8)" in note


def test_the_note_of_a_home_begins_with_what_serves_and_then_says_who_forgot(mirrored: Store) -> None:
    there = mlflow_of(mirrored)
    first, *rest = there.client.get_experiment(there.experiment).tags["mlflow.note.content"].splitlines()
    number = there.numbers("limpet-bbc-news")["bbc-news@1"]
    link = f"[bbc-news@1](#/models/limpet-bbc-news/versions/{number})"
    assert first.startswith(f"Serving: {link} 0.900 accuracy, [reuters-r8@")
    worst = "**sequential-shared** forgets most: bbc-news, 0.900 to 0.500 at step 2 (reuters-r8)"
    assert f"{worst}; less: sequential-full; nothing: isolated." in first
    # every task has its row: what answers, its score, its last change, the gate, and where it came from
    rows = {
        cells[0]: cells for line in rest if line.startswith("| ") and (cells := re.split(r"&nbsp; \| ", line[2:]))
    }
    assert list(rows) == ["task", "bbc-news", "reuters-r8", "rotten-tomatoes", "election-tweets"]
    _, answers, score, change, gate, bbc = rows["bbc-news"]
    assert (answers, score, gate) == (f"{link} (production)", "0.900 accuracy", "no rule crossed")
    assert change.startswith("promoted ")
    assert change.endswith(": kept every answer")
    assert versions.resolve(mirrored, "bbc-news@1").data_digest[:19] in bbc
    _, _, link = bbc.partition(f"[its run](#/experiments/{there.experiment}/runs/")
    assert there.client.get_run(link.partition(")")[0]).data.tags["limpet.version"] == "bbc-news@1"
    assert rows["reuters-r8"][1].endswith("(the newest)")
    assert any(line.startswith("- **reuters-r8@candidate** is [reuters-r8@1](") for line in rest)


def test_a_second_sync_sends_nothing_and_one_from_scratch_makes_nothing_twice(home: Store) -> None:
    sync.sync(home)
    before = mlflow_of(home).everything()
    assert sync.sync(home).pushed == {}
    assert mlflow_of(home).everything() == before
    assert sync.sync(home, again=True).pushed == FEW
    assert mlflow_of(home).everything() == before


def test_a_stream_that_went_on_gets_only_its_new_steps(store: Store, tmp_path: Path) -> None:
    grow(store, tmp_path, steps=1, arms=FEW_ARMS)
    assert sync.sync(store).pushed == {"streams": 1, "arms": 2, "steps": 2, "versions": 2}
    assert mlflow_of(store).run("four-topics").info.status == "RUNNING"
    grow(store, tmp_path, steps=4, arms=FEW_ARMS)
    assert sync.sync(store).pushed == {"streams": 1, "arms": 2, "steps": 6, "versions": 6}
    there = mlflow_of(store)
    assert len(there.runs()) == 1 + 2 + 8
    arm = there.run("isolated, seed 0")
    assert there.curve(arm, "score/bbc-news") == [(step, 0.95) for step in (1, 2, 3, 4)]
    assert arm.info.status == "FINISHED"


@pytest.mark.parametrize("items", [4, pytest.param(9, marks=pytest.mark.slow)])
def test_a_sync_killed_in_the_middle_is_completed_without_doubles(home: Store, warm: Warm, items: int) -> None:
    from sqlalchemy import func, select

    from limpet.registry.database.schema import MirrorItemRow

    process = warm.start("-c", SYNC, home.path)
    sent = 0
    while process.poll() is None and sent < items:
        with home.database.read() as session:
            sent = session.scalar(select(func.count()).select_from(MirrorItemRow)) or 0
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    process.close()
    sync.sync(home)
    there = mlflow_of(home).everything()
    assert (there["runs"], there["models"], there["registered"]) == MIRRORED
    # what an undisturbed mirror of the same home has
    (home.path / "mlflow.db").unlink()
    sync.sync(home)
    assert mlflow_of(home).everything() == there


def test_aliases_are_set_moved_and_removed_as_in_the_registry(home: Store) -> None:
    aliases.promote(home, "bbc-news@1", "production", reason="first")
    sync.sync(home)
    there = mlflow_of(home)
    there.client.set_registered_model_alias("limpet-bbc-news", "somebody-elses", "2")
    assert there.client.get_model_version_by_alias("limpet-bbc-news", "production").version == 1
    add_version(home, "bbc-news", add_base(home), home.path, seed=9)
    aliases.promote(home, "bbc-news@3", "production", reason="better")
    assert sync.sync(home).pushed == {"versions": 1, "aliases": 2}
    model = there.client.get_registered_model("limpet-bbc-news")
    number = there.numbers("limpet-bbc-news")["bbc-news@3"]
    assert {alias: int(n) for alias, n in model.aliases.items()} == {"production": number}
    aliases.unpromote(home, "bbc-news", "production", reason="worse")
    assert sync.sync(home).pushed == {"aliases": 1}
    assert there.client.get_registered_model("limpet-bbc-news").aliases == {}


def test_an_alias_that_mlflow_reserves_gets_a_legal_name_and_a_note(home: Store) -> None:
    aliases.promote(home, "bbc-news@1", "v2", reason="a name that MLflow keeps to itself")
    report = sync.sync(home)
    assert list(mlflow_of(home).client.get_registered_model("limpet-bbc-news").aliases) == ["limpet-v2"]
    assert report.notes == ("bbc-news@v2 is limpet-v2 in MLflow, where v2 is not a legal alias",)


def test_versions_have_the_numbers_that_limpet_gave_them(mirrored: Store) -> None:
    numbers = mlflow_of(mirrored).numbers("limpet-rotten-tomatoes")
    assert numbers == {f"rotten-tomatoes@{number}": number for number in (1, 2, 3)}


def test_a_deleted_version_says_so_in_mlflow_and_keeps_its_number(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = add_base(store)
    add_task(store, "news")
    first, second, third = (add_version(store, "news", base, tmp_path, seed=seed) for seed in range(3))
    monkeypatch.setenv("LIMPET_ACTOR", "ana")
    deletion.delete(store, second.reference, "before it was mirrored")
    sync.sync(store)
    gone = deletion.delete(store, first.reference, "after it was mirrored")
    assert gone.deleted is not None
    assert sync.sync(store).pushed == {"deletions": 1}
    there = mlflow_of(store)
    assert there.numbers("limpet-news") == {first.reference: 1, second.reference: 2, third.reference: 3}
    registered = there.client.search_model_versions("name = 'limpet-news'")
    said = {one.tags["limpet.version"]: one.tags.get("limpet.deleted") for one in registered}
    assert said[first.reference] == f"{gone.deleted.created_at} by ana: after it was mirrored"
    assert str(said[second.reference]).endswith("by ana: before it was mirrored")
    assert said[third.reference] is None
    assert sorted("limpet.deleted" in model.tags for model in there.models()) == [False, True, True]
    origin = lineage.get(store, third.reference)
    assert origin.mlflow_run == there.run(third.reference).info.run_id
    assert origin.mlflow_model in {model.model_id for model in there.models()}


def test_a_task_that_was_renamed_is_mirrored_once_under_its_new_name(store: Store, tmp_path: Path) -> None:
    base = add_base(store)
    add_task(store, "bbc-news")
    streams.extend(store, streams.HOME_STREAM, "bbc-news", base_digest=base.digest)
    growth = ArmDraft("isolated", strategy="isolated", method="any", seed=0, settings={})
    first, _ = (add_version(store, "bbc-news", base, tmp_path, seed=seed) for seed in range(2))
    add_step(store, streams.arm_run(store, streams.HOME_STREAM, growth), [first], [19])
    aliases.promote(store, "bbc-news@1", "production", reason="kept every answer")
    sync.sync(store)
    before, origin = mlflow_of(store).everything(), lineage.get(store, "bbc-news@1")
    rename(store, "bbc-news", "headlines")
    assert sent_items.unsent_versions(store) == []
    sync.sync(store)
    there = mlflow_of(store)
    assert there.everything() == before
    assert there.numbers("limpet-headlines") == {"headlines@1": 1, "headlines@2": 2}
    assert there.numbers("limpet-bbc-news") == {}
    renamed = there.client.get_registered_model("limpet-headlines")
    assert renamed.tags["limpet.task"] == "headlines"
    assert {alias: int(number) for alias, number in renamed.aliases.items()} == {"production": 1}
    assert {model.tags["limpet.version"] for model in there.models()} == {"headlines@1", "headlines@2"}
    assert replace(lineage.get(store, "headlines@1"), version=origin.version) == origin
    # and back, and looked up anew
    rename(store, "headlines", "bbc-news")
    sync.sync(store, again=True)
    assert there.numbers("limpet-bbc-news") == {"bbc-news@1": 1, "bbc-news@2": 2}
    assert there.everything() == before


def test_a_removed_task_and_its_revisions_are_told(store: Store, tmp_path: Path) -> None:
    base = add_base(store)
    first = add_task(store, "news")
    add_version(store, "news", base, tmp_path, seed=0)
    (added,) = [split for split in first.splits if split.name == "evaluation"]
    splits = (*first.splits, replace(added, name="evaluation-r2"))
    digest = tasks.data_digest(first.definition, first.labels, splits)
    tasks.add(store, replace(first, splits=splits, data_digest=digest, revision=2, previous=first.data_digest))
    add_version(store, "news", base, tmp_path, seed=1)
    sync.sync(store)
    there = mlflow_of(store)
    named = {
        name: {one.dataset.name for one in there.run(name).inputs.dataset_inputs} for name in ("news@1", "news@2")
    }
    parts = ("train", "validation", "evaluation")
    assert named["news@1"] == {f"news/{part}" for part in parts}
    assert named["news@2"] == {f"news@r2/{part}" for part in (*parts, "evaluation-r2")}
    gone = remove(store, "news", "no longer needed")
    assert sync.sync(store).pushed == {"deletions": 2}
    said = there.client.get_registered_model("limpet-news").tags["limpet.removed"]
    assert said.startswith(gone.removed.created_at) and said.endswith(": no longer needed")
    assert sync.sync(store).pushed == {}


def test_the_growth_of_a_home_is_a_run_that_a_task_learned_again_does_not_break(store: Store, tmp_path: Path) -> None:
    base = add_base(store)
    for task in TASKS[:2]:
        add_task(store, task)
        streams.extend(store, streams.HOME_STREAM, task, base_digest=base.digest)
    arm = streams.arm_run(
        store, streams.HOME_STREAM, ArmDraft("isolated", strategy="isolated", method="any", seed=0, settings={})
    )
    first, second = (add_version(store, task, base, tmp_path, seed=0) for task in TASKS[:2])
    again = add_version(store, TASKS[0], base, tmp_path, seed=1)
    add_step(store, arm, [first], [19])
    add_step(store, arm, [first, second], [19, 18])
    add_step(store, arm, [second, again], [18, 17])
    assert sync.sync(store).pushed == {"streams": 1, "arms": 1, "steps": 3, "versions": 3}
    there = mlflow_of(store)
    run = there.run("isolated, seed 0")
    assert there.curve(run, "score/bbc-news") == [(1, 0.95), (2, 0.95), (3, 0.85)]
    # the worse version took the better one's place: (0.85 - 0.95) and (0.9 - 0.9)
    assert there.curve(run, "bwt_gem") == [(2, 0.0), (3, pytest.approx(-0.05))]
    assert {run.info.status for run in there.runs()} == {"FINISHED"}


def test_what_probes_of_general_ability_found_is_a_curve_of_its_arm_from_the_base_alone_on(
    store: Store, tmp_path: Path
) -> None:
    base, arm = add_base(store), {"name": "isolated", "strategy": "isolated", "method": "lora"}
    names, scores = TASKS[:2], [42.0, 44.5, 43.25]
    for name in TASKS[:3]:
        add_task(store, name)
    probe = {"kind": "perplexity", "name": TASKS[2]}
    spec = {"name": "asked", "tasks": list(names), "arms": [arm], "ability": [probe]}
    stream = streams.create(store, "asked", spec, base_digest=base.digest, tasks=names)
    run = streams.arm_run(
        store, "asked", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={})
    )
    made = [add_version(store, name, base, tmp_path, seed=0) for name in names]
    (asked,) = ability_tasks_of(store, stream)
    for version, score in zip([None, *made], scores, strict=True):
        add_ability(store, asked.identity, version, score)
    add_step(store, run, made[:1], [19])
    # the second step is sent later, as while a stream goes on
    sync.sync(store)
    add_step(store, run, made, [19, 18])
    sync.sync(store)
    there = mlflow_of(store)
    curve = there.curve(there.run("isolated, seed 0"), f"ability/perplexity/{TASKS[2]}")
    assert curve == [(0, 42.0), (1, 44.5), (2, 43.25)]


def add_ability(store: Store, probe: dict[str, Any], version: VersionRecord | None, score: float) -> None:
    # log-likelihood and number of tokens of each text
    answers = [[-10 * math.log(score), 10]] * 20
    content = {"schema": 1, "predictions": answers, "targets": [None] * 20}
    predictions = store.blobs.put_bytes(canonical_json(content))
    general_ability.add(
        store,
        AbilityDraft(
            probe=probe,
            head=None,
            state=version.reference if version else None,
            after=None,
            metric="perplexity",
            score=score,
            examples=20,
            predictions_digest=predictions,
            logits_digest=predictions,
            plan_digest=predictions,
            base_digest=add_base(store).digest,
            environment=ENVIRONMENT,
            seconds=1.0,
        ),
    )


def test_arms_have_colours_that_a_colour_blind_reader_tells_apart(mirrored: Store) -> None:
    there = mlflow_of(mirrored)
    arms = [run for run in there.runs() if run.data.tags["limpet.kind"] == "arm"]
    assert len({run.data.tags["mlflow.runColor"] for run in arms}) == 3


def test_a_version_that_no_stream_made_has_a_run_of_its_own(store: Store, tmp_path: Path) -> None:
    base = add_base(store)
    add_task(store, "bbc-news")
    add_version(store, "bbc-news", base, tmp_path, seed=0)
    assert sync.sync(store).pushed == {"versions": 1}
    there = mlflow_of(store)
    (run,) = there.runs()
    assert (run.info.run_name, run.data.metrics["score"]) == ("bbc-news@1", 0.9)
    assert len(run.inputs.dataset_inputs) == 3
    assert there.models()[0].source_run_id == run.info.run_id


def test_baselines_that_no_step_made_are_folded_into_one_run(store: Store, tmp_path: Path) -> None:
    base = add_base(store)
    add_task(store, "bbc-news")
    for seed, role in enumerate(("baseline", "adapter", "baseline")):
        add_version(store, "bbc-news", base, tmp_path, seed=seed, role=role)
    assert sync.sync(store).pushed == {"versions": 3}
    there = mlflow_of(store)
    folded = there.run("baselines beside the arms")
    assert sorted(there.children(folded)) == ["bbc-news@1", "bbc-news@3"]
    above = [run.info.run_name for run in there.runs() if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(above) == ["baselines beside the arms", "bbc-news@2"]
    before = there.everything()
    sync.sync(store, again=True)
    assert there.everything() == before


def test_a_run_deleted_in_mlflow_comes_back_when_everything_is_looked_up_again(home: Store) -> None:
    sync.sync(home)
    there = mlflow_of(home)
    before = there.everything()
    there.client.delete_run(there.run("isolated, seed 0").info.run_id)
    sync.sync(home, again=True)
    assert there.everything() == before


def test_a_home_that_was_moved_keeps_its_artifacts_where_it_is_now(home: Store, tmp_path: Path) -> None:
    sync.sync(home)
    home.database.close()
    moved = tmp_path / "elsewhere"
    home.path.rename(moved)
    store = open_store(moved)
    assert sync.sync(store).pushed == FEW
    run = mlflow_of(store).run("four-topics")
    assert run.info.artifact_uri.startswith(moved.as_uri())
    assert not home.path.exists()


def test_syncing_prints_nothing_and_leaves_the_environment_alone(store: Store, tmp_path: Path) -> None:
    grow(store, tmp_path, steps=1, arms={"isolated": ("isolated", "lora")})
    # the database is made in the same breath, which is when MLflow talks most
    (store.path / "mlflow.db").unlink()
    script = SYNC.replace("sync.sync", "import os; before = dict(os.environ); sync.sync")
    script += "; assert dict(os.environ) == before"
    done = subprocess.run(
        [sys.executable, "-c", script, str(store.path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "mlruns").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_server_that_is_down_costs_a_warning_and_the_mirror_catches_up(home: Store) -> None:
    down = replace(home, settings=replace(home.settings, mlflow=f"http://127.0.0.1:{free_port()}"))
    started = time.monotonic()
    warning = sync.sync_after(down)
    assert time.monotonic() - started < 8
    assert warning is not None
    assert "can't be reached" in warning
    assert "\n" not in warning
    with pytest.raises(UnavailableError):
        sync.sync(down)
    assert sync.sync_after(home) is None
    assert len(mlflow_of(home).runs()) == MIRRORED[0]


def test_a_mirror_that_is_off_is_never_asked(store: Store) -> None:
    off = replace(store, settings=replace(store.settings, mlflow="off"))
    assert sync.sync_after(off) is None
    with pytest.raises(UsageError):
        sync.sync(off)
    with pytest.raises(UsageError), serve(off):
        pass


@pytest.mark.slow
def test_two_homes_share_a_server_without_mixing(store: Store, tmp_path: Path) -> None:
    """Through HTTP, as to a server of a team; the server is that of a third home."""
    homes = []
    with serve(store, port := free_port()):
        uri = f"http://127.0.0.1:{port}"
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            # the same folder name, so that the names on the server collide
            home = create_store(tmp_path / name / "work", Settings(mlflow=uri, cache=tmp_path / "cache"))
            grow(home, tmp_path, steps=2, arms={"isolated": ("isolated", "lora")})
            aliases.promote(home, "bbc-news@1", "production", reason=name)
            pushed = sync.sync(home).pushed
            assert pushed == {"streams": 1, "arms": 1, "steps": 2, "versions": 2, "aliases": 1}
            sync.sync(home, again=True)
            homes.append(home)
        for home in homes:
            there = mlflow_of(home)
            assert len(there.runs()) == 4
            assert len(there.models()) == 2
            arm = there.run("isolated, seed 0")
            assert there.curve(arm, "score/bbc-news") == [(1, 0.95), (2, 0.95)]
            assert [file.path for file in there.client.list_artifacts(arm.info.run_id)] == ["matrix.png"]
        names = sorted(model.name for model in mlflow_of(homes[0]).client.search_registered_models())
        assert len(names) == 4
        assert names[0] == "limpet-bbc-news"
        assert names[1].startswith("limpet-bbc-news-")


def test_the_dashboard_answers_on_this_machine_alone_and_stops_with_the_block(home: Store) -> None:
    import urllib.request

    import psutil

    sync.sync(home)
    port = free_port()
    with serve(home, port) as dashboard:
        assert dashboard.process is not None
        server = psutil.Process(dashboard.process.pid)
        processes = [server, *server.children(recursive=True)]
        listening = {c.laddr.ip for p in processes for c in p.net_connections("tcp") if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        assert dashboard.url.startswith(f"http://127.0.0.1:{port}/#/experiments/")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.status == 200
    assert not any(process.is_running() for process in processes)


def test_a_port_that_is_taken_is_said_so_with_one_that_is_free(store: Store) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConflictError, match=str(port)) as caught, serve(store, port):
            pass
    assert "limpet ui --port" in caught.value.hint


def test_no_second_process_writes_the_mirror_meanwhile(home: Store, warm: Warm) -> None:
    other = warm.start("-c", SYNC, home.path)
    # whoever comes second waits, and finds nothing left to send
    sync.sync(home)
    assert other.wait() == 0
    other.close()
    there = mlflow_of(home).everything()
    assert (there["runs"], there["models"], there["registered"]) == MIRRORED
