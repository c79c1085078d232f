from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from limpet.errors import IntegrityError, NotFoundError
from limpet.forgetting.metrics.forgetting import DEFINITIONS
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.build import build_report
from limpet.forgetting.report.conclusion import conclusion
from limpet.forgetting.report.values import Report
from limpet.registry import versions
from limpet.registry.cleanup.gc import collect
from limpet.registry.formats.canonical import canonical_json, digest_json
from limpet.registry.records import evaluations, streams, tasks
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft, Environment, EvaluationDraft, VersionRecord
from limpet.registry.versions import aliases, deletion
from limpet.registry.versions.costs import COMPARED
from tests.forgetting.grown_home import ENVIRONMENT, EXAMPLES, TASKS, add_base, add_task, add_version, grow

TARGETS = [n % 2 for n in range(EXAMPLES)]


def arm(of: Report, name: str) -> ArmReport:
    return next(arm for arm in of.arms if arm.name == name)


def evaluate(
    store: Store, version: VersionRecord, right: int, logits: str = "same", environment: Environment = ENVIRONMENT
) -> int:
    """Keep an evaluation of a version with its first `right` examples right; return its id."""
    predictions = [target if n < right else 1 - target for n, target in enumerate(TARGETS)]
    content = {"schema": 1, "predictions": predictions, "targets": TARGETS}
    return evaluations.add(
        store,
        EvaluationDraft(
            version=version.reference,
            state=version.reference,
            kind="full",
            split="evaluation",
            metric="accuracy",
            score=right / EXAMPLES,
            examples=EXAMPLES,
            predictions_digest=store.blobs.put_bytes(canonical_json(content)),
            logits_digest=digest_json(logits),
            plan_digest=digest_json("plan"),
            data_digest=tasks.get(store, version.task).split("evaluation").digest,
            base_digest=version.base_digest,
            environment=environment,
            seconds=1.0,
        ),
    ).id


def learn(
    store: Store, folder: Path, stream: str, name: str, seed: int, rows: Sequence[Sequence[int]]
) -> list[VersionRecord]:
    """Learn a stream's tasks under a new arm, with `rows[i][j]` examples of task j right after step i."""
    record = streams.get(store, stream)
    base = add_base(store)
    run = streams.arm_run(
        store,
        stream,
        ArmDraft(
            name, strategy="isolated" if name == "isolated" else "sequential", method="lora", seed=seed, settings={}
        ),
    )
    role = "adapter" if name == "isolated" else "baseline"
    made: list[VersionRecord] = []
    for index, row in enumerate(rows):
        made.append(add_version(store, record.tasks[index], base, folder, 100 * seed + len(name), role=role))
        cells = {
            version.task: evaluate(store, version, right, logits=f"{version.task} {right}")
            for version, right in zip(made, row, strict=True)
        }
        streams.add_step(store, run.id, index, version=made[-1].reference, base_unchanged=True, row=cells)
    return made


def new_stream(store: Store, count: int = 2) -> str:
    base = add_base(store)
    for task in TASKS[:count]:
        add_task(store, task)
    streams.create(store, "small", {"name": "small"}, base_digest=base.digest, tasks=TASKS[:count])
    return "small"


# -- the promised JSON


def test_the_json_has_the_promised_form(grown: Report) -> None:
    content = json.loads(json.dumps(grown.to_json(), allow_nan=False))
    assert content["schema"] == 1
    assert content["stream"] == "four-topics"
    assert content["base"]["name"] == "sample:minilm" and content["base"]["unchanged"] is True
    assert [task["name"] for task in content["tasks"]] == list(TASKS)
    assert content["tasks"][0].keys() == {
        "name",
        "metric",
        "definition",
        "eval_examples",
        "data_digest",
        "majority_baseline",
    }
    assert content["tasks"][0]["majority_baseline"] == pytest.approx(0.5)
    first = content["arms"][0]
    assert first.keys() >= {
        *("name", "strategy", "method", "seed", "task_identity", "matrix", "metrics", "intervals"),
        *("identical_predictions", "negative_flip_rate", "cost", "versions"),
    }
    assert first["cost"].keys() == {
        *("trainable_parameters", "trainable_share", "bytes_per_task"),
        *("train_seconds", "examples_per_second", "peak_memory_bytes", "examples_seen", "optimiser_steps"),
        *("peak_memory_added_bytes", "full_checkpoint_bytes", "bytes_share", "base_unchanged", "against_full"),
        *("latency_milliseconds", "base_latency_milliseconds", "latency_ratio", "merged_latency_ratio"),
    }
    assert first["cost"]["against_full"].keys() == set(COMPARED)
    assert first["task_identity"] == "oracle"
    assert first["versions"] == [f"{task}@1" for task in TASKS]
    promised = {"a", "b", "metric", "difference", "interval", "p_value"}
    assert content["comparisons"][0].keys() == promised | {
        *("over_seeds", "p_holm", "seeds_p_value", "seeds_p_holm"),
        *("margin", "equal_p_value", "equal_p_holm"),
    }
    assert first["reason"] is None and first["settings"]["method"] == {"r": 8, "alpha": 16}


def test_a_matrix_has_a_row_for_each_step_and_null_where_nothing_was_evaluated(grown: Report) -> None:
    assert arm(grown, "sequential-full").to_json()["matrix"] == [
        [0.95, None, None, None],
        [0.75, 0.9, None, None],
        [0.6, 0.8, 0.8, None],
        [0.45, 0.75, 0.55, 0.9],
    ]


def test_metrics_have_every_key_of_the_matrix_and_null_where_undefined(grown: Report) -> None:
    for each in grown.arms:
        per_task = {"negative_flip_rate", "positive_flip_rate", "identical_predictions"}
        per_version = {"replaced_negative_flip_rate", "replaced_positive_flip_rate"}
        assert set(each.metrics) == set(DEFINITIONS) - per_task - per_version
        assert each.metrics["fwt_gem"] is None


def test_isolated_adapters_forget_exactly_nothing(grown: Report) -> None:
    isolated = arm(grown, "isolated")
    assert isolated.metrics["bwt_gem"] == 0
    assert isolated.identical_predictions is True
    assert isolated.intervals["bwt_gem"] == (0, 0) and isolated.intervals["forgetting_max"] == (0, 0)
    assert isolated.negative_flip_rate == isolated.positive_flip_rate == (0, 0, 0)
    assert [entry.p_value for entry in isolated.mcnemar] == [1, 1, 1]


def test_a_sequential_arm_shows_what_it_lost(grown: Report) -> None:
    full = arm(grown, "sequential-full")
    assert full.identical_predictions is False
    assert full.negative_flip_rate == (0.5, 0.15, 0.25)
    assert full.positive_flip_rate == (0, 0, 0)
    assert [(entry.task, entry.lost, entry.gained) for entry in full.mcnemar] == [
        ("bbc-news", 10, 0),
        ("reuters-r8", 3, 0),
        ("rotten-tomatoes", 5, 0),
    ]
    assert full.chosen == {"lr": 3e-5} and len(full.sweep) == 2


def test_every_interval_holds_its_value(grown: Report) -> None:
    for each in grown.arms:
        assert set(each.intervals) == {"average_accuracy", "learning_accuracy", "bwt_gem", "forgetting_max"} | {
            f"score:{task}" for task in TASKS
        }
        for key, (low, high) in each.intervals.items():
            value = each.metrics.get(key)
            if value is None:
                value = each.matrix[-1][TASKS.index(key.removeprefix("score:"))]
            assert value is not None and low - 1e-12 <= value <= high + 1e-12, key


def test_a_report_is_the_same_each_time_it_is_made(grown_store: Store, grown: Report) -> None:
    assert build_report(grown_store, "four-topics") == grown


def test_costs_are_those_of_the_versions(grown: Report) -> None:
    cost = arm(grown, "isolated").cost
    assert (cost.trainable_parameters, cost.trainable_share) == (337_920, 0.0149)
    assert cost.train_seconds == (12.5,) * 4
    assert cost.bytes_per_task is not None and cost.bytes_per_task > 0


# -- arms against each other


def test_the_isolated_arm_comes_first_in_comparisons(grown: Report) -> None:
    pairs = [(entry.a, entry.b) for entry in grown.comparisons if entry.metric == "average_accuracy"]
    assert pairs == [
        ("isolated", "sequential-full"),
        ("isolated", "sequential-shared"),
        ("sequential-full", "sequential-shared"),
    ]


def test_a_difference_is_that_of_the_metrics_with_its_paired_interval(grown: Report) -> None:
    entry = grown.comparisons[0]
    # 17 of 80 examples, all in favour of the isolated arm
    assert entry.difference == pytest.approx(0.2125)
    assert 0.1 < entry.interval[0] < 0.2125 < entry.interval[1] < 0.33
    assert entry.p_value < 0.001
    assert entry.over_seeds is None
    forgetting = grown.comparisons[1]
    assert (forgetting.metric, forgetting.difference) == ("bwt_gem", pytest.approx(0.3))
    assert forgetting.interval[0] > 0


def test_forgetting_max_stands_beside_what_it_would_be_without_drift(grown: Report) -> None:
    assert list(arm(grown, "isolated").metrics)[5:7] == ["forgetting_max", "forgetting_max_null"]
    assert arm(grown, "isolated").metrics["forgetting_max_null"] == 0
    full = arm(grown, "sequential-full").metrics
    assert full["forgetting_max"] is not None and full["forgetting_max_null"] is not None
    assert 0 < full["forgetting_max_null"] < full["forgetting_max"] / 3


def test_an_arm_is_tested_against_itself_when_its_tasks_were_learned(grown: Report) -> None:
    isolated, full, shared = grown.drifts
    assert (isolated.arm, isolated.bwt_gem, isolated.p_value, isolated.p_holm) == ("isolated", 0, 1, None)
    assert full.bwt_gem == pytest.approx(-0.3) and full.interval[1] < 0
    assert full.p_value < 0.001 < shared.p_value * 1000
    assert full.seeds_p_value is None and full.seeds_p_holm is None


def test_every_test_of_a_report_is_corrected_for_all_others(grown: Report) -> None:
    flips = [entry for each in grown.arms for entry in each.mcnemar]
    tests = [*grown.drifts, *grown.comparisons, *flips]
    known = sorted((test.p_value, test.p_holm) for test in tests if test.p_holm is not None)
    assert {test.p_holm for test in tests if test.p_value == 1} == {None}
    count = len(known)
    assert known[0][1] == pytest.approx(count * known[0][0])
    assert all(p_holm >= p_value for p_value, p_holm in known)
    assert [p_holm for _, p_holm in known] == sorted(p_holm for _, p_holm in known)


def test_arms_that_are_not_equally_far_are_not_compared(store: Store, tmp_path: Path) -> None:
    new_stream(store)
    learn(store, tmp_path, "small", "isolated", 0, [[18], [18, 17]])
    learn(store, tmp_path, "small", "sequential-shared", 0, [[18]])
    assert build_report(store, "small").comparisons == ()


def test_several_seeds_are_averaged_and_have_a_t_interval(store: Store, tmp_path: Path) -> None:
    new_stream(store)
    for seed, right in enumerate((10, 12, 14)):
        learn(store, tmp_path, "small", "isolated", seed, [[18], [18, 16]])
        learn(store, tmp_path, "small", "sequential-shared", seed, [[18], [right, 16]])
    made = build_report(store, "small")
    summary = next(
        entry for entry in made.seeds if (entry.arm, entry.metric) == ("sequential-shared", "forgetting_max")
    )
    assert summary.seeds == (0, 1, 2)
    assert summary.mean == pytest.approx(0.3)
    # standard deviation 0.1 over three seeds
    assert summary.interval == pytest.approx((0.3 - 0.248414, 0.3 + 0.248414), abs=1e-5)
    entry = made.comparisons[0]
    assert entry.difference == pytest.approx(0.85 - (0.5 + 0.6 + 0.7) / 6 - 0.4)
    # standard deviation 0.05 over three seeds: the paired bootstrap knows nothing of it
    assert entry.over_seeds == pytest.approx((0.15 - 0.124207, 0.15 + 0.124207), abs=1e-5)


def test_only_seeds_that_both_arms_have_are_compared(store: Store, tmp_path: Path) -> None:
    new_stream(store)
    for seed in (0, 1):
        learn(store, tmp_path, "small", "isolated", seed, [[18 + seed], [18 + seed, 16]])
    learn(store, tmp_path, "small", "sequential-shared", 1, [[19], [9, 16]])
    assert build_report(store, "small").comparisons[0].difference == pytest.approx(0.25)


def test_only_the_seeds_that_are_farthest_are_compared(store: Store, tmp_path: Path) -> None:
    new_stream(store)
    learn(store, tmp_path, "small", "isolated", 0, [[18], [18, 16]])
    learn(store, tmp_path, "small", "isolated", 1, [[18]])
    learn(store, tmp_path, "small", "sequential-shared", 0, [[18], [8, 16]])
    learn(store, tmp_path, "small", "sequential-shared", 1, [[2]])
    assert build_report(store, "small").comparisons[0].difference == pytest.approx(0.25)


def test_one_seed_has_a_mean_and_no_interval(grown: Report) -> None:
    assert {entry.interval for entry in grown.seeds} == {None}


# -- streams in progress, and damaged ones


def test_a_stream_in_progress_reports_the_tasks_learned_so_far(store: Store, tmp_path: Path) -> None:
    grow(store, tmp_path, steps=2)
    made = build_report(store)
    isolated = arm(made, "isolated")
    assert isolated.matrix == ((0.95, None, None, None), (0.95, 0.9, None, None))
    assert isolated.metrics["average_accuracy"] == pytest.approx(0.925)
    assert not isolated.finished and len(made.tasks) == 4
    assert "in progress" in conclusion(made)


def test_after_one_task_identity_is_unknown(store: Store, tmp_path: Path) -> None:
    grow(store, tmp_path, steps=1)
    isolated = arm(build_report(store), "isolated")
    assert isolated.identical_predictions is None
    assert isolated.metrics["bwt_gem"] is None and isolated.mcnemar == ()


def test_a_stream_without_any_step_reports_no_arm(store: Store) -> None:
    new_stream(store)
    made = build_report(store, "small")
    assert made.arms == () and made.base.unchanged is None
    assert "nothing to conclude" in conclusion(made)


def test_an_unknown_stream_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        build_report(store, "nowhere")


def test_without_any_stream_there_is_no_report(store: Store) -> None:
    with pytest.raises(NotFoundError):
        build_report(store)


def test_predictions_that_were_tampered_with_are_refused(store: Store, tmp_path: Path) -> None:
    new_stream(store)
    learn(store, tmp_path, "small", "isolated", 0, [[18]])
    (run,) = streams.arm_runs(store, "small")
    (step,) = streams.steps(store, run.id)
    blob = store.blobs.path(step.row[TASKS[0]].predictions_digest)
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(IntegrityError):
        build_report(store)


# -- identity


@pytest.mark.parametrize(
    ("logits", "environment", "identical"),
    [
        ("same", ENVIRONMENT, True),
        ("other", ENVIRONMENT, False),
        # bits may differ between environments; predictions may not
        ("other", replace(ENVIRONMENT, threads=8), True),
    ],
)
def test_logits_must_be_equal_inside_one_environment(
    store: Store, tmp_path: Path, logits: str, environment: Environment, identical: bool
) -> None:
    new_stream(store)
    base = add_base(store)
    run = streams.arm_run(
        store, "small", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={})
    )
    a, b = (add_version(store, task, base, tmp_path, 0) for task in TASKS[:2])
    streams.add_step(store, run.id, 0, version=a.reference, base_unchanged=True, row={a.task: evaluate(store, a, 18)})
    row = {a.task: evaluate(store, a, 18, logits, environment), b.task: evaluate(store, b, 17)}
    streams.add_step(store, run.id, 1, version=b.reference, base_unchanged=True, row=row)
    assert arm(build_report(store), "isolated").identical_predictions is identical


def test_a_base_that_changed_once_is_not_called_unchanged(store: Store, tmp_path: Path) -> None:
    new_stream(store)
    base = add_base(store)
    run = streams.arm_run(
        store, "small", ArmDraft("isolated", strategy="isolated", method="lora", seed=0, settings={})
    )
    for index, (task, unchanged) in enumerate(zip(TASKS[:2], (False, True), strict=True)):
        version = add_version(store, task, base, tmp_path, 0)
        streams.add_step(
            store,
            run.id,
            index,
            version=version.reference,
            base_unchanged=unchanged,
            row={task: evaluate(store, version, 18)},
        )
    made = build_report(store)
    assert made.base.unchanged is False
    assert "do not trust" in conclusion(made)


# -- the home's own growth


@pytest.fixture
def growth(store: Store) -> int:
    """The home's own stream; the id of its arm."""
    base = add_base(store)
    for task in TASKS:
        add_task(store, task)
    streams.create(store, streams.HOME_STREAM, {}, base_digest=base.digest, tasks=TASKS[:2])
    return streams.arm_run(
        store, streams.HOME_STREAM, ArmDraft("isolated", strategy="isolated", method="any", seed=0, settings={})
    ).id


def add_growth(store: Store, growth: int, *measured: tuple[VersionRecord, int]) -> None:
    """Add the first version to the home, with how many examples it and the others had right then."""
    cells = {version.task: evaluate(store, version, right) for version, right in measured}
    new = measured[0][0]
    streams.add_step(
        store, growth, len(streams.steps(store, growth)), version=new.reference, base_unchanged=True, row=cells
    )


def test_a_home_has_a_row_for_each_addition_and_a_column_for_each_task(
    store: Store, tmp_path: Path, growth: int
) -> None:
    base = add_base(store)
    news, r8 = (add_version(store, task, base, tmp_path, 0) for task in TASKS[:2])
    add_growth(store, growth, (news, 15))
    add_growth(store, growth, (r8, 16), (news, 15))
    again = add_version(store, TASKS[0], base, tmp_path, 1)
    add_growth(store, growth, (again, 19), (r8, 16))
    (home,) = build_report(store, "home").arms
    assert [version.reference for version in home.versions] == ["bbc-news@1", "reuters-r8@1", "bbc-news@2"]
    assert home.tasks == ("bbc-news", "reuters-r8")
    assert home.matrix == ((0.75, None), (0.75, 0.8), (0.95, 0.8))
    assert [version.reference for version in home.answering] == ["bbc-news@2", "reuters-r8@1"]
    # the news are answered otherwise than when they were learned first, but by no version that changed
    assert (home.identical_predictions, home.answers_kept) == (False, True)
    assert home.metrics["bwt_gem"] == pytest.approx(0.1)
    assert home.method == "lora"


def test_a_worse_version_of_a_task_is_a_fall_of_its_column(store: Store, tmp_path: Path, growth: int) -> None:
    base = add_base(store)
    news, r8 = (add_version(store, task, base, tmp_path, 0) for task in TASKS[:2])
    add_growth(store, growth, (news, 18))
    add_growth(store, growth, (r8, 16), (news, 18))
    worse = add_version(store, TASKS[0], base, tmp_path, 1)
    add_growth(store, growth, (worse, 4), (r8, 16))
    (home,) = build_report(store, "home").arms
    assert [row[0] for row in home.matrix] == [0.9, 0.9, 0.2]
    assert home.metrics["forgetting_max"] == pytest.approx(0.35)
    assert home.metrics["worst_forgetting"] == pytest.approx(0.7)
    assert home.negative_flip_rate == (pytest.approx(0.7), 0.0)
    # brought back, the better one answers: the column stands where it stood
    aliases.promote(store, news.reference, "production")
    (home,) = build_report(store, "home").arms
    assert [row[0] for row in home.matrix] == [0.9, 0.9, 0.9]


def test_an_addition_that_is_not_promoted_answers_for_nothing(store: Store, tmp_path: Path, growth: int) -> None:
    base = add_base(store)
    news = add_version(store, TASKS[0], base, tmp_path, 0)
    add_growth(store, growth, (news, 18))
    aliases.promote(store, news.reference, "production")
    worse = add_version(store, TASKS[0], base, tmp_path, 1)
    add_growth(store, growth, (worse, 4))
    assert build_report(store, "home").arms[0].matrix == ((0.9,), (0.9,))
    # judged as what it would be in its place
    assert build_report(store, "home", added=worse).arms[0].matrix == ((0.9,), (0.2,))


def test_learning_the_same_again_does_not_move_a_version(store: Store, tmp_path: Path, growth: int) -> None:
    base = add_base(store)
    news, r8 = (add_version(store, task, base, tmp_path, 0) for task in TASKS[:2])
    add_growth(store, growth, (news, 15))
    add_growth(store, growth, (r8, 16), (news, 15))
    add_growth(store, growth, (news, 15), (r8, 16))
    (home,) = build_report(store, "home").arms
    assert [version.reference for version in home.versions] == ["bbc-news@1", "reuters-r8@1"]
    assert home.matrix == ((0.75, None), (0.75, 0.8))


def test_after_a_rollback_the_version_before_answers_again(store: Store, tmp_path: Path, growth: int) -> None:
    base = add_base(store)
    news = add_version(store, TASKS[0], base, tmp_path, 0)
    add_growth(store, growth, (news, 15))
    again = add_version(store, TASKS[0], base, tmp_path, 1)
    add_growth(store, growth, (again, 19))
    r8 = add_version(store, TASKS[1], base, tmp_path, 0)
    add_growth(store, growth, (r8, 16), (again, 19))
    aliases.promote(store, news.reference, "production")
    (home,) = build_report(store, "home").arms
    assert home.matrix == ((0.75, None), (0.95, None), (0.75, 0.8))
    assert home.metrics["forgetting_max"] == pytest.approx(0.2)
    # it was not asked again since, so that nothing shows that it answers as it did
    assert home.answers_kept is None


def test_a_home_that_has_grown_nothing_reports_no_arm(store: Store, growth: int) -> None:
    assert build_report(store, "home").arms == ()


def test_deleted_versions_are_evidence_still(store: Store, tmp_path: Path) -> None:
    grow(store, tmp_path)
    before = build_report(store)
    for version in versions.find(store).items:
        if not version.aliases:
            deletion.delete(store, version.reference, "not wanted")
    collect(store, grace_seconds=0, dry_run=False)
    assert build_report(store) == before
