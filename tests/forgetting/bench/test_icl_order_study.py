"""The study of learning in context: every order and labelling scored on the same examples, the same way each time."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from limpet.cli import cli
from limpet.errors import UsageError
from limpet.forgetting.bench.icl_order_study import Orders, spread_by_chance
from limpet.home import Home, init
from limpet.training.learning.settings import TrainingSettings
from tests.migrated import with_database
from tests.tiny import enliven, tiny_base, tiny_csv

WORDS = {"label_words": "sea=wave,sky=cloud,rock=stone", "shots": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("study")
    made = init(with_database(folder / "home"), base=str(enliven(tiny_base(folder / "base", "llama"))), mlflow="off")
    made.task.add("place", f"csv:{tiny_csv(folder / 'place.csv')}", max_length=16)
    return made


def test_orders_and_labels_are_scored_on_the_same_examples(home: Home) -> None:
    study = home.study.icl("place", orders=4, limit=20, settings=WORDS)
    assert (study.examples, study.demonstrations, len(study.gold.prompts)) == (20, 3, 4)
    assert [prompt.order_seed for prompt in study.random.prompts] == [0, 1, 2, 3]
    assert study.zero_shot.order_seed is None
    for orders in (study.gold, study.random):
        accuracies = [prompt.accuracy for prompt in orders.prompts]
        assert orders.mean == pytest.approx(sum(accuracies) / 4)
        assert (orders.worst.accuracy, orders.best.accuracy) == (min(accuracies), max(accuracies))
        assert orders.spread == pytest.approx(max(accuracies) - min(accuracies))
        assert 0 <= orders.spread_null < 0.5
        _holds(orders)
    assert study.difference == pytest.approx(study.gold.mean - study.random.mean)
    assert study.difference_interval[0] <= study.difference <= study.difference_interval[1]
    assert study.words == {"rock": "stone", "sea": "wave", "sky": "cloud"}


def _holds(orders: Orders) -> None:
    assert orders.interval[0] <= orders.mean <= orders.interval[1]
    for prompt in orders.prompts:
        assert prompt.interval[0] <= prompt.accuracy <= prompt.interval[1]


def test_a_best_and_a_worst_order_are_as_far_apart_by_chance_as_where_no_order_matters() -> None:
    generator = np.random.default_rng(0)
    hard = generator.random(200)
    spreads, by_chance = [], []
    for _ in range(40):
        right = (generator.random((8, 200)) < hard).astype(np.float64)
        shares = right.mean(axis=1)
        spreads.append(shares.max() - shares.min())
        by_chance.append(spread_by_chance(right))
    assert np.mean(by_chance) == pytest.approx(np.mean(spreads), rel=0.1)
    # 8 orders that do nothing are well apart
    assert np.mean(spreads) > 0.05
    assert spread_by_chance(np.ones((8, 20))) == 0


def test_the_same_seed_gives_the_same_study_and_another_does_not(home: Home) -> None:
    first, again, other = (
        asdict(replace(home.study.icl("place", orders=2, limit=20, seed=seed, settings=WORDS), seconds=0.0))
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first["gold"]["prompts"] != other["gold"]["prompts"] or first["random"] != other["random"]


def test_an_order_of_the_study_is_what_a_version_of_that_order_scores(home: Home) -> None:
    study = home.study.icl("place", orders=2, settings=WORDS)
    for prompt in study.gold.prompts:
        settings = TrainingSettings("icl", method_settings=WORDS | {"order_seed": prompt.order_seed})
        assert home.train("place", settings).version.metrics["accuracy"] == prompt.accuracy


def test_the_command_prints_a_table_or_json_and_writes_a_file(home: Home, tmp_path: Path) -> None:
    typed = ["study", "icl", "place", "--home", str(home.path), "--orders", "2", "--limit", "6", "--shots", "1"]
    typed += ["--set", str("label_words=" + WORDS["label_words"]), "--out", str(tmp_path / "study.json")]  # type: ignore[operator]
    shown = CliRunner().invoke(cli, [*typed, "--quiet"])
    assert shown.exit_code == 0, shown.stderr
    assert "worst order" in shown.stdout and "right - random" in shown.stdout
    said = json.loads(CliRunner().invoke(cli, [*typed, "--json", "--quiet"]).stdout)
    kept = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert said.keys() == kept.keys() >= {"schema", "gold", "random", "zero_shot", "difference_interval"}
    assert said["gold"] == kept["gold"]


@pytest.mark.parametrize(("orders", "limit", "seed"), [(1, None, 0), (2, 0, 0), (2, None, -1)])
def test_numbers_that_make_no_sense_are_refused(home: Home, orders: int, limit: int | None, seed: int) -> None:
    with pytest.raises(UsageError, match="2 orders or more"):
        home.study.icl("place", orders=orders, limit=limit, seed=seed, settings=WORDS)


def test_a_task_that_is_no_classification_is_refused(home: Home, tmp_path: Path) -> None:
    home.task.add("text", f"csv:{tiny_csv(tmp_path / 'a.csv')}", type="generation", target_column="label")
    with pytest.raises(UsageError, match="'icl' can't learn task 'text' of type 'generation'"):
        home.study.icl("text", settings=WORDS)
