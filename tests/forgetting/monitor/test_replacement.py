"""A version beside the one that it replaces: what it lost is seen, judged, named, and accepted only on purpose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from limpet.cli import cli
from limpet.errors import ConflictError, GateError, UsageError
from limpet.forgetting.gate.rules import GateRules, TaskRules
from limpet.forgetting.gate.verdicts import check_replacement, check_version, crossings, unjudged
from limpet.forgetting.monitor.kept_predictions import read_predictions
from limpet.forgetting.monitor.replacement import compare_versions
from limpet.forgetting.monitor.replacement_values import Replacement
from limpet.forgetting.render.csv_report import render_csv
from limpet.forgetting.render.html_report import render_html
from limpet.forgetting.render.markdown_report import render_markdown
from limpet.forgetting.report.build import build_report
from limpet.forgetting.report.conclusion import conclusion
from limpet.home import Home
from limpet.registry.cleanup.gc import collect
from limpet.registry.formats.canonical import canonical_json, digest_json
from limpet.registry.records import evaluations, gate_refusals, streams, tasks
from limpet.registry.settings import SETTINGS_FILE
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft, EvaluationDraft, VersionRecord
from limpet.registry.versions import aliases, deletion
from limpet.training.learning.settings import TrainingSettings
from tests.forgetting.grown_home import ENVIRONMENT, EXAMPLES, TASKS, add_base, add_task, add_version

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors", "routing_metrics.json").read_text())["replaced"]
GOOD = TrainingSettings(epochs=3, batch_size=8, dtype="float32", learning_rate=5e-3)
WORSE = TrainingSettings(epochs=1, batch_size=8, dtype="float32", learning_rate=1e-9, seed=3)
NEWS = TASKS[0]
TARGETS = [n % 2 for n in range(EXAMPLES)]


def evaluate(store: Store, version: VersionRecord, right: Sequence[bool], data: str | None = None) -> int:
    """Keep an evaluation of a version that is right on these examples and wrong on the others; return its id."""
    targets = TARGETS[: len(right)]
    answers = [target if is_right else 1 - target for target, is_right in zip(targets, right, strict=True)]
    content = {"schema": 1, "predictions": answers, "targets": targets}
    return evaluations.add(
        store,
        EvaluationDraft(
            version=version.reference,
            state=version.reference,
            kind="full",
            split="evaluation",
            metric="accuracy",
            score=sum(right) / len(right),
            examples=len(right),
            predictions_digest=store.blobs.put_bytes(canonical_json(content)),
            logits_digest=digest_json(answers),
            plan_digest=digest_json("plan"),
            data_digest=data or tasks.get(store, version.task).split("evaluation").digest,
            base_digest=version.base_digest,
            environment=ENVIRONMENT,
            seconds=1.0,
        ),
    ).id


def first(count: int) -> list[bool]:
    return [n < count for n in range(EXAMPLES)]


@pytest.fixture
def news(store: Store, tmp_path: Path) -> Home:
    """A home with three versions of one task, with 18, 16 and 19 of 20 examples right; 1 is in production."""
    base = add_base(store)
    add_task(store, NEWS)
    streams.extend(store, streams.HOME_STREAM, NEWS, base_digest=base.digest)
    arm = streams.arm_run(
        store, streams.HOME_STREAM, ArmDraft("isolated", strategy="isolated", method="any", seed=0, settings={})
    )
    for seed, right in enumerate((18, 16, 19)):
        version = add_version(store, NEWS, base, tmp_path, seed)
        row = {NEWS: evaluate(store, version, first(right))}
        streams.add_step(store, arm.id, None, version=version.reference, base_unchanged=True, row=row)
    aliases.promote(store, f"{NEWS}@1", "production")
    return Home(store)


def rules(home: Home, text: str) -> None:
    with (home.path / SETTINGS_FILE).open("a", encoding="utf-8") as file:
        file.write(f"\n[gate]\n{text}\n")


def replacements(home: Home) -> list[tuple[str, str, bool]]:
    return [(one.old, one.new, one.answers) for one in build_report(home.store, "home").replaced]


def run(home: Home, *typed: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [*typed, "--home", str(home.path)])
    return result.exit_code, result.stdout, result.stderr


# -- two versions on the same examples


def test_flips_between_two_versions_equal_their_vector(store: Store, tmp_path: Path) -> None:
    base = add_base(store)
    add_task(store, NEWS)
    old, new = (add_version(store, NEWS, base, tmp_path, seed) for seed in (0, 1))
    evaluate(store, old, VECTORS["old_right"])
    evaluate(store, new, VECTORS["new_right"])
    found = compare_versions(store, old.reference, new.reference, read=read_predictions(store))
    expected = VECTORS["expected"]
    assert found.negative_flip_rate == pytest.approx(expected["replaced_negative_flip_rate"], abs=1e-12)
    assert found.positive_flip_rate == pytest.approx(expected["replaced_positive_flip_rate"], abs=1e-12)
    assert found.p_value == pytest.approx(expected["mcnemar_exact_p"], abs=1e-12)
    assert (found.lost_examples, found.gained_examples) == ((1, 2), (3,))
    first_lost = found.losses[0]
    # labels by name, and the text of the very example
    assert (first_lost.target, first_lost.before, first_lost.now) == ("yes", "yes", "no")
    assert first_lost.text == f"{NEWS} evaluation 1"


def test_versions_that_answered_other_examples_are_not_compared(news: Home) -> None:
    store = news.store
    base = add_base(store)
    late = add_version(store, NEWS, base, news.path, seed=9)
    read = read_predictions(store)
    assert compare_versions(store, f"{NEWS}@1", late.reference, read=read).change is None
    evaluate(store, late, first(20), data="sha256:" + "1" * 64)
    found = compare_versions(store, f"{NEWS}@1", late.reference, read=read)
    assert found.change is None and "not evaluated on all the data that the task has now" in found.reason
    assert f"limpet evaluate {late.reference}" in found.reason
    assert "can't be compared" in found.sentence()


def test_a_replaced_version_that_was_deleted_is_evidence_still(news: Home) -> None:
    news.adapter.promote(f"{NEWS}@3", "production")
    deletion.delete(news.store, f"{NEWS}@2", "not wanted")
    collect(news.store, grace_seconds=0, dry_run=False)
    made = build_report(news.store, "home")
    assert all(one.change is not None for one in made.replaced)
    assert made.arms[0].matrix == ((0.9,), (0.8,), (0.95,))


# -- the rules

LOST = Replacement("a", "a@1", "a@2", "accuracy", 0.9, 0.8, -0.1, None, 0.15, 0.05, 0.2, (1, 2, 3), (4,))


@pytest.mark.parametrize(
    ("limits", "crossed"),
    [
        (GateRules(), []),
        (GateRules(max_forgetting=0.05), ["replaced-forgetting"]),
        # 0.9 - 0.8 is 0.09999999999999998, and a limit that is reached is not crossed
        (GateRules(max_forgetting=0.1, max_worst=0.1, max_negative_flips=0.15), []),
        (GateRules(max_worst=0.05), ["replaced-worst"]),
        (GateRules(max_negative_flips=0.1), ["replaced-flips"]),
        (GateRules(max_forgetting=0, tasks={"a": TaskRules(max_forgetting=0.2)}), []),
        (GateRules(tasks={"a": TaskRules(max_forgetting=0.01)}), ["replaced-forgetting"]),
        (GateRules(tasks={"b": TaskRules(max_forgetting=0.01)}), []),
        # a new version is there to answer otherwise
        (GateRules(require_identical=True), []),
    ],
)
def test_what_one_task_loses_is_held_against_the_limits_as_it_is(limits: GateRules, crossed: list[str]) -> None:
    assert [crossing.rule for crossing in crossings(check_replacement(LOST, limits))] == crossed


@pytest.mark.parametrize(
    "limits", [GateRules(max_forgetting=1), GateRules(max_worst=1), GateRules(max_negative_flips=1)]
)
def test_versions_that_can_not_be_compared_cross_every_rule_about_losses(limits: GateRules) -> None:
    unknown = Replacement("a", "a@1", "a@2", "accuracy", reason="a@1 was not evaluated")
    (crossing,) = check_replacement(unknown, limits)
    assert (crossing.rule, crossing.task) == ("replaced-unknown", "a")
    assert "a@1 was not evaluated" in crossing.detail
    assert check_replacement(unknown, GateRules(min_score=0.5)) == ()


def test_a_rule_about_flips_is_not_passed_over_in_silence_where_answers_are_graded() -> None:
    graded = replace(LOST, metric="neg-rmse", negative_flip_rate=None, p_value=None)
    assert crossings(check_replacement(graded, GateRules(max_negative_flips=0))) == ()
    assert "neg-rmse knows no right and wrong answers" in unjudged(graded, GateRules(max_negative_flips=0))
    assert unjudged(graded, GateRules(max_worst=0)) == unjudged(LOST, GateRules(max_negative_flips=0)) == ""


def test_a_version_is_held_against_its_own_limits_when_it_is_promoted(news: Home) -> None:
    version = news.adapter.show(f"{NEWS}@1")
    limits = GateRules(min_score=0.95, max_bytes=1, max_train_seconds=1, max_share=0.001)
    held = check_version(version, 0.9, limits)
    assert [crossing.rule for crossing in crossings(held)] == ["score", "bytes", "seconds", "share"]


# -- an alias moves


def test_without_a_rule_an_alias_moves_and_both_scores_are_told(news: Home) -> None:
    code, said, _ = run(news, "adapter", "promote", f"{NEWS}@2", "production")
    assert code == 0
    assert f"{NEWS}@2 took the place of {NEWS}@1: accuracy 0.9000 to 0.8000 (-0.1000), 2 of 20 examples lost" in said
    _, said, _ = run(news, "adapter", "rollback", NEWS, "production", "--json")
    replaced = json.loads(said)["replaced"]
    assert (replaced["old"], replaced["new"]) == (f"{NEWS}@2", f"{NEWS}@1")
    assert replaced["lost_examples"] == [] and replaced["gained_examples"] == [16, 17]


def test_a_worse_version_is_refused_and_the_alias_stays(news: Home) -> None:
    rules(news, "max_negative_flips = 0.05")
    with pytest.raises(GateError) as refused:
        news.adapter.promote(f"{NEWS}@2", "production")
    assert refused.value.exit_code == 6
    assert "loses the examples 16, 17" in refused.value.message
    assert f"limpet adapter promote {NEWS}@2 production --accept --reason TEXT" in refused.value.hint
    assert news.adapter.show(NEWS).reference == f"{NEWS}@1"
    # a better one is none of its business
    assert news.adapter.promote(f"{NEWS}@3", "production").to_number == 3


def test_a_rollback_is_judged_and_goes_on_only_with_a_reason_that_the_log_keeps(news: Home) -> None:
    news.adapter.promote(f"{NEWS}@3", "production")
    rules(news, "max_forgetting = 0.01")
    back = ("adapter", "rollback", NEWS, "production")
    code, _, error = run(news, *back)
    assert code == 6 and "the accuracy lost is 0.0500" in error
    assert run(news, *back, "--accept")[0] == 2
    assert news.adapter.show(NEWS).reference == f"{NEWS}@3"
    code, said, _ = run(news, *back, "--accept", "--reason", "3 answers too slowly")
    assert code == 0 and "accepted: 3 answers too slowly" in said
    (event,) = [event for event in news.log().items if event.action == "rollback"]
    assert event.detail["accepted"] == {"replaced": f"{NEWS}@3", "rules": ["replaced-forgetting"]}
    # from then on it is no loss to be held against the home
    assert news.gate("home").replaced[-1].accepted == "3 answers too slowly"
    news.adapter.promote(f"{NEWS}@3", "production")
    news.adapter.promote(f"{NEWS}@2", "staging")
    with pytest.raises(GateError):
        news.adapter.promote(f"{NEWS}@2", "production")


def test_each_alias_is_held_against_the_version_that_it_stands_at(news: Home) -> None:
    rules(news, "max_forgetting = 0")
    # nothing is replaced by an alias that was not set
    assert news.adapter.promote(f"{NEWS}@2", "staging").replaced is None
    assert news.adapter.promote(f"{NEWS}@1", "staging").to_number == 1
    with pytest.raises(GateError, match=f"{NEWS}@2 in the place of {NEWS}@1"):
        news.adapter.promote(f"{NEWS}@2", "staging")


def test_the_first_production_is_held_against_what_answered_without_it(store: Store, tmp_path: Path) -> None:
    base = add_base(store)
    add_task(store, NEWS)
    for seed, right in enumerate((16, 19)):
        evaluate(store, add_version(store, NEWS, base, tmp_path, seed), first(right))
    home = Home(store)
    rules(home, "max_worst = 0")
    # the newest adapter answers until production is set
    with pytest.raises(GateError, match=f"{NEWS}@1 in the place of {NEWS}@2"):
        home.adapter.promote(f"{NEWS}@1", "production")
    assert home.adapter.promote(f"{NEWS}@2", "production").to_number == 2


def test_an_alias_that_somebody_moves_while_the_gate_judges_is_not_moved(news: Home) -> None:
    with pytest.raises(ConflictError, match="moved by somebody while the gate judged"):
        aliases.promote(news.store, f"{NEWS}@3", "production", judged=aliases.Judged(2))
    with pytest.raises(ConflictError, match="not as expected"):
        news.adapter.promote(f"{NEWS}@3", "production", expect=f"{NEWS}@2")


def test_a_loss_is_accepted_only_with_a_reason(news: Home) -> None:
    with pytest.raises(UsageError, match="only with a reason"):
        news.adapter.promote(f"{NEWS}@2", "production", accept=True, reason="  ")


def test_a_loss_that_was_accepted_before_there_was_a_rule_is_not_held_against_the_home(news: Home) -> None:
    news.adapter.promote(f"{NEWS}@2", "production", accept=True, reason="it is half as large")
    news.gate("home", GateRules(max_forgetting=0, max_negative_flips=0))
    (event,) = [event for event in news.log().items if event.detail.get("accepted")]
    assert event.detail["accepted"] == {"replaced": f"{NEWS}@1", "rules": []}


# -- what the report has of it


def test_every_version_that_another_took_the_place_of_is_reported(news: Home) -> None:
    news.adapter.promote(f"{NEWS}@2", "production")
    news.adapter.promote(f"{NEWS}@3", "production")
    one, two, three = (f"{NEWS}@{n}" for n in (1, 2, 3))
    # before production was set, the newest answered
    history = [(one, two, True), (two, three, True), (three, one, True), (one, two, True), (two, three, True)]
    assert replacements(news) == history
    entry = build_report(news.store, "home").to_json()["replaced"][3]
    promised = ("task", "old", "new", "old_score", "new_score", "negative_flip_rate", "positive_flip_rate", "p_value")
    assert [entry[key] for key in promised] == [NEWS, one, two, 0.9, 0.8, 0.1, 0.0, 0.5]
    assert entry["lost_examples"] == [16, 17]


def test_where_production_was_taken_off_the_newest_has_answered_since(news: Home) -> None:
    store = news.store
    aliases.unpromote(store, NEWS, "production", reason="for a while")
    fourth = add_version(store, NEWS, add_base(store), news.path, seed=9)
    row = {NEWS: evaluate(store, fourth, first(17))}
    (arm,) = streams.arm_runs(store, streams.HOME_STREAM)
    streams.add_step(store, arm.id, None, version=fourth.reference, base_unchanged=True, row=row)
    one, two, three, four = (f"{NEWS}@{n}" for n in (1, 2, 3, 4))
    made = build_report(store, "home")
    pairs = [(one, two), (two, three), (three, one), (one, three), (three, four)]
    assert [(entry.old, entry.new) for entry in made.replaced] == pairs
    # the third addition answered before the fourth came, and not the first, which was in production before
    assert [row[0] for row in made.arms[0].matrix] == [0.9, 0.8, 0.95, 0.85]


def test_lost_examples_stand_in_every_form_of_the_report(news: Home) -> None:
    news.adapter.promote(f"{NEWS}@2", "production")
    made = build_report(news.store, "home")
    assert f"{NEWS}@2 took the place of {NEWS}@1" in conclusion(made)
    assert f"{NEWS} evaluation 16" in render_html(made)
    assert f"{NEWS} evaluation 17" in render_markdown(made).replace("\\", "")
    assert f"{NEWS}@2 for {NEWS}@1,,replaced,lost_example,,{NEWS},16" in render_csv(made)
    assert f"{NEWS} evaluation 16" in run(news, "report", "home")[1]


# -- learned for real


def test_a_worse_version_is_learned_kept_and_not_promoted(home: Home) -> None:
    home.train("place", GOOD, promote="production")
    with pytest.raises(GateError, match="place@2 in the place of place@1: the accuracy lost is"):
        home.train("place", WORSE, promote="production", max_forgetting=0.0)
    assert home.adapter.show("place@production").reference == "place@1"
    assert {kept.rule for kept in gate_refusals.for_version(home.store, "place@2")} == {"replaced-forgetting"}
    # what it would have cost stays to be read, and the gate says so until somebody decides
    (waits,) = home.report("home").replaced
    assert (waits.new, waits.answers) == ("place@2", False) and waits.lost_examples
    with pytest.raises(GateError, match="forgetting_max is"):
        home.gate("home", GateRules(max_forgetting=0.0))
    # the limit that its promotion was asked for under is its own from then on, under any alias
    with pytest.raises(GateError, match="under staging: place@2 in the place of place@1"):
        home.adapter.promote("place@2", "staging")
    # another task's addition is not refused for it
    assert home.train("wet", GOOD, max_forgetting=0.0, promote="production").promoted is not None
    assert home.gate("home", GateRules(max_forgetting=0.0, require_identical=True)).replaced == ()


def test_without_a_rule_a_worse_version_is_promoted_and_said_to_be_worse(home: Home) -> None:
    home.train("place", GOOD, promote="production")
    trained = home.train("place", WORSE, promote="production")
    assert trained.promoted is not None and trained.replaced is not None
    assert (trained.replaced.old, trained.replaced.answers) == ("place@1", True)
    assert trained.replaced.change is not None and trained.replaced.change < 0
    before, after = (row[0] for row in home.report("home").arms[0].matrix)
    assert before is not None and after is not None and before > after
    with pytest.raises(GateError):
        home.gate("home", GateRules(max_negative_flips=0.0))


def test_a_replaced_version_that_was_never_evaluated_is_evaluated_before_it_is_judged(home: Home) -> None:
    home.train("place", GOOD)
    home.train("place", WORSE, monitor=False)
    with home.store.database.write() as session:
        session.execute(text("DELETE FROM step_cells"))
        session.execute(text("DELETE FROM evaluations"))
    rules(home, "max_forgetting = 0.0")
    with pytest.raises(GateError, match="place@2 in the place of place@1"):
        home.adapter.promote("place@2", "production")
    assert len(evaluations.full(home.store, "place@1", "place@1")) == 1
