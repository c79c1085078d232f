"""A benchmark of methods: the same task by each, nothing registered unasked, and it goes on after an interruption."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
from dataclasses import replace
from typing import Any

import pytest

from limpet.errors import ConflictError, InterruptedRunError, NotFoundError, UsageError
from limpet.forgetting.bench.html_report import render_bench_html
from limpet.forgetting.bench.plot import score_cost
from limpet.forgetting.bench.tables import against_full_table, bench_table, failure_table
from limpet.forgetting.bench.values import Bench, MethodRow, MethodRun
from limpet.forgetting.metrics.intervals import t_interval
from limpet.forgetting.render.html_page import save_figure
from limpet.home import Home
from limpet.registry.values import Environment
from limpet.registry.versions.costs import COMPARED, COSTS
from limpet.training.learning.runs.run_folder import unfinished_run
from limpet.training.methods import names
from limpet.training.progress import SILENT

ENVIRONMENT = Environment("3.11", "2.13", "5.23", "0.21.2", "0.1.0", "cpu", "float32", 1)


class Interrupting:
    """Sends SIGINT to this process when `after` pieces of training have begun, and one step of the next is done."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.training = False

    def start(self, description: str, total: int) -> None:
        self.training = description == "train"
        self.left -= self.training

    def advance(self, done: int, detail: str = "") -> None:
        if self.training and self.left < 0:
            os.kill(os.getpid(), signal.SIGINT)

    def finish(self) -> None:
        self.training = False

    def note(self, text: str) -> None:
        SILENT.note(text)


def test_every_method_learns_under_every_seed_and_nothing_is_registered(home: Home) -> None:
    bench = home.bench.methods("place", ["ia3", "probe"], seeds=(0, 1), epochs=1)
    assert [(run.method, run.seed) for row in bench.rows for run in row.runs] == [
        ("ia3", 0),
        ("ia3", 1),
        ("probe", 0),
        ("probe", 1),
    ]
    for row in bench.rows:
        assert row.reason == ""
        assert row.interval == t_interval([run.score for run in row.runs])
        assert all(run.cost.keys() == COSTS.keys() and run.version is None for run in row.runs)
    assert home.adapter.list().items == ()
    with pytest.raises(NotFoundError):
        home.predict("place", ["wave"])
    assert not list((home.path / "bench" / "place" / "runs").iterdir())


def test_asked_for_results_are_registered_as_baselines_that_nothing_serves(home: Home) -> None:
    bench = home.bench.methods("place", ["full"], epochs=1, register=True)
    found = {run.version: run for row in bench.rows for run in row.runs}
    versions = home.adapter.list().items
    assert {version.reference for version in versions} == set(found)
    for version in versions:
        assert (version.role, version.lineage) == ("baseline", {"bench": "place"})
        assert version.metrics["score"] == found[version.reference].score
    with pytest.raises(NotFoundError):
        home.adapter.show("place@latest")


def test_all_methods_with_a_module_of_their_own_are_compared_by_default(home: Home) -> None:
    from limpet.forgetting.bench.run import BenchSpec

    assert BenchSpec().names() == tuple(name for name in names() if ":" not in name)
    assert "peft:loha" not in BenchSpec().names()


def test_an_interrupted_benchmark_goes_on_and_gives_what_an_undisturbed_one_gives(home: Home) -> None:
    whole = home.bench.methods("place", ["probe", "lora"], epochs=2)
    with pytest.raises(InterruptedRunError) as caught:
        home.bench.methods("place", ["probe", "lora"], epochs=2, progress=Interrupting(after=1))
    assert caught.value.hint == "limpet bench methods place --resume, with the same options"
    kept = {path.name: path.read_bytes() for path in (home.path / "bench" / "place").glob("*.json")}
    resumed = home.bench.methods("place", ["probe", "lora"], epochs=2, resume=True)
    assert [row.score for row in resumed.rows] == [row.score for row in whole.rows]
    # what was measured before the interruption was not measured again
    probe = resumed.rows[0].runs[0]
    assert any(json.loads(text)["cost"]["train_seconds"] == probe.cost["train_seconds"] for text in kept.values())


def test_without_resume_it_is_measured_anew_and_other_conditions_are_too(home: Home) -> None:
    first = home.bench.methods("place", ["probe"], epochs=1)
    again = home.bench.methods("place", ["probe"], epochs=1)
    kept = home.bench.methods("place", ["probe"], epochs=1, resume=True)
    other = home.bench.methods("place", ["probe"], epochs=2, resume=True)
    seconds = [bench.rows[0].cost["train_seconds"] for bench in (first, again, kept, other)]
    assert seconds[1] == seconds[2]
    assert len(set(seconds)) == 3
    assert first.rows[0].score == again.rows[0].score


def test_a_damaged_result_is_measured_again(home: Home) -> None:
    first = home.bench.methods("place", ["probe"], epochs=1)
    (file,) = (home.path / "bench" / "place").glob("*.json")
    file.write_text(file.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert home.bench.methods("place", ["probe"], epochs=1, resume=True).rows[0].score == first.rows[0].score


def test_what_it_leaves_is_no_unfinished_run_of_train(home: Home) -> None:
    with pytest.raises(InterruptedRunError):
        home.bench.methods("place", ["lora"], epochs=1, progress=Interrupting(after=0))
    with pytest.raises(NotFoundError):
        unfinished_run(home.store, "place")


def test_a_method_that_fails_gives_its_reason_and_the_others_go_on(home: Home) -> None:
    settings = {"lora": {"r": 0}, "partial": {"layers": 9}, "probe": {"lr": 0.05}}
    bench = home.bench.methods("place", ["lora", "partial", "probe", "peft:xlora"], epochs=1, settings=settings)
    assert [row.reason for row in bench.rows] == [
        "Setting 'r' of method 'lora' must be at least 1, not 0.",
        "This base has 2 layers, so the top 9 can't be trained.",
        "",
        bench.rows[3].reason,
    ]
    assert "it mixes LoRA adapters" in bench.rows[3].reason
    assert [row.method for row in bench.rows if row.runs] == ["probe"]
    assert bench.rows[2].runs[0].config["training"]["learning_rate"] == 0.05
    assert [row[0] for row in failure_table(bench).rows] == ["lora", "partial", "peft:xlora"]
    assert bench_table(bench).rows[0][1:] == ("-",) * 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"methods": ["loar"]}, "no method 'loar'"),
        ({"methods": ["lora", "lora"]}, "stands once"),
        ({"methods": ["lora"], "seeds": (1, 1)}, "stands once"),
        ({"methods": ["lora"], "seeds": ()}, "there is a seed"),
        ({"methods": ["lora"], "settings": {"full": {"lr": 1e-5}}}, "'full', which is not compared"),
        ({"methods": ["lora"], "settings": {"lora": {"lr": "fast"}}}, "lr of 'lora' must be float"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_is_learned(
    home: Home, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        home.bench.methods("place", **arguments)
    assert not (home.path / "bench").exists()


def test_two_processes_are_not_at_one_benchmark(home: Home) -> None:
    folder = home.path / "bench" / "place"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="Another process is at a benchmark of 'place'"):
            home.bench.methods("place", ["probe"], epochs=1)


# -- values, tables and plot


def a_run(method: str, seed: int, score: float, **cost: Any) -> MethodRun:
    return MethodRun(method, seed, score, (score - 0.1, score + 0.1), cost, {}, ENVIRONMENT, None)


LORA = MethodRow(
    "lora",
    (
        a_run("lora", 0, 0.8, train_seconds=2.0, bytes=10, full_checkpoint_bytes=100, trainable_parameters=7),
        a_run("lora", 1, 0.9, train_seconds=4.0, bytes=30, full_checkpoint_bytes=100, latency={"ratio": 1.2}),
    ),
)
FULL = MethodRow("full", (a_run("full", 0, 0.85, train_seconds=12.0, trainable_parameters=1000),))
BENCH = Bench(
    task="<news>",
    type="classification",
    metric="accuracy",
    train_examples=50,
    eval_examples=20,
    data_digest="sha256:d",
    base="sample:minilm",
    base_digest="sha256:b",
    epochs=3,
    seeds=(0, 1),
    settings={},
    rows=(LORA, FULL),
)


def test_a_method_is_summed_up_over_its_seeds_and_unknown_where_one_seed_is() -> None:
    assert LORA.score == pytest.approx(0.85)
    assert LORA.interval == t_interval([0.8, 0.9])
    assert FULL.interval == pytest.approx((0.75, 0.95))
    assert (LORA.cost["train_seconds"], LORA.cost["bytes"], LORA.cost["bytes_share"]) == (3.0, 20.0, 0.2)
    assert LORA.cost["trainable_parameters"] is None
    assert LORA.cost["latency_ratio"] is None
    assert BENCH.against_full(LORA) == {**dict.fromkeys(COMPARED), "train_seconds": 0.25}
    assert replace(BENCH, rows=(LORA,)).against_full(LORA) == dict.fromkeys(COMPARED)
    assert MethodRow("lora", (), "because").score is None


@pytest.mark.parametrize("other", [{"dtype": "bfloat16"}, {"device": "cuda"}, {"threads": 7}])
def test_times_under_other_conditions_are_not_held_against_full(other: dict[str, Any]) -> None:
    (run,) = FULL.runs
    elsewhere = replace(FULL, runs=(replace(run, environment=replace(run.environment, **other)),))
    assert replace(BENCH, rows=(LORA, elsewhere)).against_full(LORA) == dict.fromkeys(COMPARED)


def test_the_json_has_every_run_and_null_for_what_is_not_known() -> None:
    content = json.loads(json.dumps(BENCH.to_json(), allow_nan=False))
    assert content["schema"] == 1
    first = content["methods"][0]
    assert first.keys() == {"method", "score", "interval", "cost", "against_full", "runs", "reason"}
    assert (first["reason"], first["cost"]["latency_ratio"], first["runs"][1]["seed"]) == (None, None, 1)
    assert content["environments"] == [ENVIRONMENT.content()]


def test_the_page_needs_nothing_beside_it_and_escapes_what_users_wrote() -> None:
    text = render_bench_html(BENCH)
    assert "&lt;news&gt;" in text and "<news>" not in text
    assert not re.findall(r"<script|<link|src=\"(?!data:)|https?://", text)
    assert all(key in text for key in COSTS)
    failed = replace(BENCH, rows=(MethodRow("lora", (), "no room"),))
    assert "no room" in render_bench_html(failed)


def test_the_plot_is_the_same_bytes_each_time_and_shows_what_is_known() -> None:
    svg = save_figure(score_cost(BENCH), "svg")
    assert svg == save_figure(score_cost(BENCH), "svg")
    assert save_figure(score_cost(BENCH), "png").startswith(b"\x89PNG")
    by_weights, by_time = score_cost(BENCH).axes
    # LoRA's weights are not known, so it has its place among the times alone
    assert (len(by_weights.containers), len(by_time.containers)) == (1, 2)
    assert by_time.get_xscale() == "log"
    assert by_weights.get_ylim()[1] <= 1.03


def test_the_tables_say_what_interval_it_is_and_what_full_took() -> None:
    table = bench_table(BENCH)
    assert "t-interval over 2 seeds" in table.note
    assert table.rows[1][:4] == ("full", "0.850 [0.750,0.950]", "1,000", "-")
    assert "bootstrap" in bench_table(replace(BENCH, seeds=(0,))).note
    assert against_full_table(BENCH).rows[0] == ("lora", "0.25x", "-", "-", "-")
    assert against_full_table(replace(BENCH, rows=(LORA,))).rows == ()
