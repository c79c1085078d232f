"""A version on another form of its base: compared when that is asked for, and refused when it is not."""

from __future__ import annotations

import csv
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from limpet.cli import cli
from limpet.errors import IntegrityError, UsageError
from limpet.forgetting.monitor.other_base import check_other_form
from limpet.home import Home
from limpet.registry.records import evaluations
from limpet.registry.verification.verify import verify
from limpet.registry.versions import resolve
from tests.forgetting.monitor.settings import QUICK
from tests.tiny import FILLER, TOPICS, change_one_weight


def other_form(home: Home) -> str:
    return f"{home.base.show().name}#bfloat16"


def test_it_is_answered_on_both_and_enters_no_matrix_and_no_reference(trained: Home) -> None:
    before, reference = trained.report("home"), evaluations.of_version(trained.store, "place@1")
    found = trained.compare_bases("place@1", other_form(trained))
    assert (found.own.base_digest, found.own.score) == (trained.base.show().digest, reference[0].score)
    assert found.other.base == other_form(trained) and found.other.base_digest != found.own.base_digest
    assert found.difference == found.other.score - found.own.score
    assert found.own.interval and found.own.interval[0] <= found.own.score <= found.own.interval[1]
    assert found.difference_interval and found.difference_interval[0] <= found.difference
    (kept,) = found.evaluations
    assert (kept.kind, kept.score, kept.base_digest) == ("comparison", found.other.score, found.other.base_digest)
    assert evaluations.predictions(trained.store, kept)["source"] == {"base": other_form(trained)}
    assert evaluations.of_version(trained.store, "place@1") == reference
    assert trained.report("home").arms[0].matrix == before.arms[0].matrix
    assert verify(trained.store, deep=True) == ()
    # its own base answers as before, without an alarm
    assert trained.evaluate(["place@1"])[0].logits_digest == reference[0].logits_digest


def test_the_answers_that_differ_are_counted_and_the_first_are_shown(trained: Home, tmp_path: Path) -> None:
    path, draw = tmp_path / "waves.csv", random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "waves"])
        for count in range(80):
            rows.writerow(
                [" ".join([*draw.choices(TOPICS["sea"], k=count % 6), *draw.choices(FILLER, k=6)]), count % 6]
            )
    trained.task.add("waves", f"csv:{path}", type="regression", target_column="waves", max_length=16)
    trained.train("waves", replace(QUICK, epochs=1), monitor=False, mirror=False)
    found = trained.compare_bases("waves@1", other_form(trained))
    own = evaluations.predictions(trained.store, evaluations.of_version(trained.store, "waves@1")[0])["predictions"]
    other = evaluations.predictions(trained.store, found.evaluations[0])["predictions"]
    differing = [row for row, (a, b) in enumerate(zip(own, other, strict=True), 1) if a != b]
    assert found.differing == len(differing) > 0
    assert [answer.row for answer in found.answers] == differing[:20]
    assert (found.answers[0].own, found.answers[0].other) == (own[differing[0] - 1], other[differing[0] - 1])


def test_it_is_asked_for_on_the_command_line(trained: Home) -> None:
    typed = ["evaluate", "place@1", "--on", other_form(trained), "--home", str(trained.path)]
    printed = CliRunner().invoke(cli, typed)
    assert printed.exit_code == 0, printed.stderr
    content = json.loads(CliRunner().invoke(cli, [*typed, "--json"]).stdout)
    assert f"{content['differing']} of {content['examples']} differ" in printed.stdout
    assert content["own"]["score"] + content["difference"] == pytest.approx(content["other"]["score"])
    for more in (["wet@1"], ["--audit"], ["--data", "x.csv"], ["--task", "wet"], ["--accept", "--reason", "so"]):
        assert CliRunner().invoke(cli, [*typed, *more]).exit_code == 2


def test_another_model_is_refused_and_so_is_its_own_base(trained: Home, tmp_path: Path) -> None:
    own = trained.base.show()
    other = shutil.copytree(own.name, tmp_path / "other")
    change_one_weight(other)
    with pytest.raises(IntegrityError, match="have another weights: another base is another model"):
        trained.compare_bases("place@1", f"{other}#bfloat16")
    with pytest.raises(UsageError, match="is the very base"):
        trained.compare_bases("place@1", f"{own.name}#float32")


def test_what_needs_the_bases_own_weights_is_refused_on_a_form_that_changes_them(trained: Home) -> None:
    own, version = trained.base.show(), resolve(trained.store, "place@1")
    held = {**own.location, "recipe": {"quantize": "nf4"}}
    few_bits = replace(own, name=f"{own.name}#nf4", digest="sha256:" + "0" * 64, location=held)
    check_other_form(version, own, few_bits)
    with pytest.raises(UsageError, match="keeps weights of its own"):
        check_other_form(replace(version, method="full"), own, few_bits)
    with pytest.raises(UsageError, match="which are quantised"):
        check_other_form(replace(version, method="peft:hra"), own, few_bits)
    with pytest.raises(UsageError, match="DoRA reads"):
        check_other_form(replace(version, config={"method": {"dora": True}}), own, few_bits)


def test_unasked_it_is_evaluated_on_no_other_base_than_its_own(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trained.base.add(other_form(trained))
    monkeypatch.setenv("LIMPET_BASE", other.name)
    result = CliRunner().invoke(cli, ["evaluate", "place@1", "--home", str(trained.path)])
    assert result.exit_code == 5
    assert "was trained on the base" in result.stderr
