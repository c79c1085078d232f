"""Several orders of the tasks, what arms are measured against, and arms that were interrupted between two tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from limpet.errors import InterruptedRunError
from limpet.forgetting.render.csv_report import render_csv
from limpet.forgetting.render.html_report import render_html
from limpet.forgetting.render.markdown_report import render_markdown
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.values import Report
from limpet.forgetting.stream.run import run_stream
from limpet.forgetting.stream.stream_file import read_stream
from limpet.home import Home, open_home
from limpet.registry import versions
from limpet.registry.records import streams
from tests.training.learning.test_learn import StopAt

FIGURE = {"arm": "SeqFT", "base": "t5-large", "metric": "average_accuracy", "value": 0.189, "source": "Ada 1843"}
STREAM: dict[str, Any] = {
    "name": "two",
    "tasks": ["place", "wet"],
    "seeds": [0],
    "evaluate_future": True,
    "training": {"epochs": 1, "batch_size": 8, "dtype": "float32", "max_length": 16},
    "published": [FIGURE],
}
EWC = {"name": "ewc", "strategy": "ewc", "method": "lora", "set": {"r": 4, "lr": 5e-3, "lambda": 10}}
REPLAY = {"name": "replay", "strategy": "replay", "method": "lora", "set": {"r": 4, "lr": 5e-3, "buffer": 12}}
JOINT = {"name": "joint", "strategy": "joint", "method": "lora", "set": {"r": 4}, "sweep": {"lr": [1e-6, 5e-3]}}
FROZEN = {"name": "frozen", "strategy": "frozen"}


def write(folder: Path, *arms: dict[str, Any], **changes: Any) -> Path:
    path = folder / "stream.yaml"
    path.write_text(yaml.safe_dump({**STREAM, "arms": list(arms), **changes}), encoding="utf-8")
    return path


def arm(report: Report, name: str) -> ArmReport:
    return next(arm for arm in report.arms if arm.name == name)


def test_other_orders_are_streams_of_their_own_and_stand_together_in_the_report(home: Home, tmp_path: Path) -> None:
    report, _ = home.stream.run(write(tmp_path, EWC, JOINT, FROZEN, orders=2))
    assert [(order.stream, order.tasks) for order in report.orders] == [
        ("two", ("place", "wet")),
        ("two.order-2", ("wet", "place")),
    ]
    # the first order's choice of a sweep holds for the others
    runs = {run.name: run for run in streams.arm_runs(home.store, "two.order-2")}
    first = next(run for run in streams.arm_runs(home.store, "two") if run.name == "joint")
    assert runs["joint"].chosen == first.chosen and runs["joint"].sweep == first.sweep
    apart = home.report("two.order-2")
    assert [task.name for task in apart.tasks] == ["wet", "place"]
    accuracy = next(one for one in report.over_orders if (one.arm, one.metric) == ("ewc", "average_accuracy"))
    measured = (arm(report, "ewc").metrics["average_accuracy"], arm(apart, "ewc").metrics["average_accuracy"])
    assert accuracy.values == measured
    assert accuracy.interval is not None and accuracy.interval[0] <= accuracy.mean <= accuracy.interval[1]
    # what is taken by default is the stream with all its seeds, not the order that was learned last
    assert home.report().stream == "two"
    moved = streams.get(home.store, "two").updated_at
    assert home.stream.run(tmp_path / "stream.yaml")[0].stream == "two"
    assert streams.get(home.store, "two").updated_at == moved
    check_references(report)
    check_forms(report)


def check_references(report: Report) -> None:
    """b is the frozen base's diagonal, a* that of joint learning; no arm is held against itself."""
    ewc, frozen, joint = (arm(report, name) for name in ("ewc", "frozen", "joint"))
    before = ewc.matrix[0][1]
    b, a = frozen.matrix[1][1], [joint.matrix[step][step] for step in range(2)]
    assert before is not None and b is not None
    assert ewc.metrics["fwt_gem"] == pytest.approx(before - b)
    lost = [(a[step] or 0) - (ewc.matrix[step][step] or 0) for step in range(2)]
    assert ewc.metrics["intransigence"] == pytest.approx(sum(lost) / 2)
    assert frozen.metrics["fwt_gem"] is None
    assert joint.metrics["intransigence"] is None and joint.metrics["fwt_gem"] is not None


def check_forms(report: Report) -> None:
    """Every form shows orders, budgets and published figures."""
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert content["published"] == [{**FIGURE, "note": ""}]
    assert content["orders"][1]["tasks"] == ["wet", "place"]
    assert {"arm", "metric", "streams", "values", "mean", "interval"} == content["over_orders"][0].keys()
    for text in (render_markdown(report), render_html(report)):
        assert "orders of the tasks" in text and "published by others" in text and "Ada 1843" in text
        assert "budgets" in text and "one head for each task" in text
        assert "Above the diagonal: before learning, by class means." in text
    lines = render_csv(report).splitlines()
    assert any(line.startswith("two.order-2,ewc,,order,average_accuracy") for line in lines)
    assert any(line.startswith("Ada 1843,SeqFT (t5-large),,published") for line in lines)


def test_a_sweep_of_joint_learning_needs_its_last_step_alone(home: Home, tmp_path: Path) -> None:
    notes: list[str] = []

    class Listening(StopAt):
        def note(self, text: str) -> None:
            notes.append(text)

    run_stream(home.store, home.backbone(), read_stream(write(tmp_path, JOINT)), progress=Listening(-1))
    learned = [note for note in notes if "learns" in note]
    # each candidate its last step; then the chosen one's first step, and its last is there already
    assert len(learned) == 2 + 2
    assert sum("learns place" in note for note in learned) == 1


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(7, id="in the first task", marks=pytest.mark.slow),
        pytest.param(12, id="in the second"),
        pytest.param(20, id="in the second arm", marks=pytest.mark.slow),
    ],
)
def test_an_arm_that_was_interrupted_ends_with_the_same_bits(home: Home, tmp_path: Path, steps: int) -> None:
    path = write(tmp_path, EWC, REPLAY, evaluate_future=False)
    run_stream(home.store, home.backbone(), read_stream(path))
    made = digests(home)
    again = tmp_path / "again"
    other = open_home(_empty_copy(home, again))

    class StopLater(StopAt):
        """Interrupts after so many training steps over all runs."""

        def advance(self, done: int, detail: str = "") -> None:
            if self.training:
                self.step -= 1
                if self.step == 0:
                    super().advance(self.step, detail)

    with pytest.raises(InterruptedRunError):
        run_stream(other.store, other.backbone(), read_stream(path), progress=StopLater(steps))
    # a new process has nothing in memory of what mattered for earlier tasks
    gone_on = open_home(again)
    run_stream(gone_on.store, gone_on.backbone(), read_stream(path))
    assert digests(gone_on) == made


def digests(home: Home) -> list[str]:
    """The digests of all versions that the stream has made, in their order."""
    runs = streams.arm_runs(home.store, "two")
    made = [step.version for run in runs for step in streams.steps(home.store, run.id)]
    return [versions.resolve(home.store, reference).digest for reference in made]


def _empty_copy(home: Home, folder: Path) -> Path:
    """A home with the same base and tasks, and nothing learned."""
    from limpet.home import init

    made = init(folder, base=home.base.show().location["path"], mlflow="off")
    for task in home.task.list():
        made.task.add(task.name, task.definition.data, max_length=16)
    return folder
