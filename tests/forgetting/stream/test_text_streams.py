"""The standard text streams: what is read from the hub, on local stand-ins with the hub's columns and classes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Value

from limpet.forgetting.stream.stream_file import read_stream
from limpet.home import Home
from limpet.training.data.build_task import build_task
from limpet.training.data.reading import sources
from limpet.training.data.task_request import TaskRequest
from tests.tiny import FILLER, TOPICS

TEXTS = {
    "fancyzhx/dbpedia_14": (["title", "content"], "label"),
    "fancyzhx/ag_news": (["text"], "label"),
    "SetFit/amazon_reviews_multi_en": (["text"], "label"),
    "Yelp/yelp_review_full": (["text"], "label"),
    "community-datasets/yahoo_answers_topics": (["question_title", "question_content", "best_answer"], "topic"),
    "stanfordnlp/imdb": (["text"], "label"),
    "nyu-mll/glue:mnli": (["premise", "hypothesis"], "label"),
    "nyu-mll/glue:qqp": (["question1", "question2"], "label"),
    "nyu-mll/glue:rte": (["sentence1", "sentence2"], "label"),
    "nyu-mll/glue:sst2": (["sentence"], "label"),
    "aps/super_glue:boolq": (["question", "passage"], "label"),
    "aps/super_glue:cb": (["premise", "hypothesis"], "label"),
    "aps/super_glue:copa": (["premise", "choice1", "choice2", "question"], "label"),
    "aps/super_glue:multirc": (["paragraph", "question", "answer"], "label"),
    "aps/super_glue:wic": (["word", "sentence1", "sentence2"], "label"),
}


def rows(columns: list[str], target: str, count: int, seed: int, hidden: bool = False) -> Dataset:
    """Texts of mostly their label's words; GLUE's test labels are kept back, as -1."""
    draw = random.Random(seed)
    labels = [index % 2 for index in range(count)]
    topics = [TOPICS["sea"], TOPICS["rock"]]
    table: dict[str, list[Any]] = {
        column: [" ".join(draw.choices(topics[label] + FILLER[:3], k=7)) for label in labels] for column in columns
    }
    classes = Features({**{column: Value("string") for column in columns}, target: ClassLabel(names=["no", "yes"])})
    return Dataset.from_dict({**table, target: [-1] * count if hidden else labels}, features=classes)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(repo: str, config: str | None, revision: str | None) -> dict[str, Dataset]:
        columns, target = TEXTS[f"{repo}:{config}" if config else repo]
        assert (revision is None) == (not repo.startswith("aps/"))
        train = rows(columns, target, 60, seed=len(columns))
        if repo.startswith(("nyu-mll", "aps")):
            held_back = {"test": rows(columns, target, 20, 2, hidden=True)}
            return {"train": train, "validation": rows(columns, target, 24, 3), **held_back}
        return {"train": train, "test": rows(columns, target, 24, 3)}

    monkeypatch.setattr(sources, "_load_hub", load)


def smaller(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The stand-ins have fewer examples than the hub's datasets."""
    sizes = {"train_size": 30, "eval_size": 12}
    return {key: sizes.get(key, value) for key, value in definition.items()}


def test_every_task_of_the_long_stream_can_be_read(hub: None) -> None:
    tasks = read_stream(Path("text-order-4")).tasks
    assert len(tasks) == 15
    for task in tasks:
        definition = {key: value for key, value in smaller(task.definition).items() if key not in ("text", "label")}
        columns, target = task.definition["text"], task.definition.get("label", "label")
        record, contents = build_task(TaskRequest(task.name, text_column=columns, target_column=target, **definition))
        assert record.labels == ("no", "yes")
        assert record.split("evaluation").examples > 0
        assert contents["train"].read().count(b"\\n") == record.split("train").examples * columns.count("+")


@pytest.mark.slow
def test_a_standard_stream_runs_with_the_figures_of_others_beside_ours(hub: None, home: Home, tmp_path: Path) -> None:
    source = dict(read_stream(Path("text-order-1")).source)
    source["tasks"] = [smaller(task) for task in source["tasks"]]
    (tmp_path / "stream.yaml").write_text(yaml.safe_dump(source), encoding="utf-8")
    report, _ = home.stream.run(tmp_path / "stream.yaml")
    assert [task.name for task in report.tasks] == ["dbpedia", "amazon", "yahoo", "ag-news"]
    assert len(report.arms) == 8 and all(arm.finished for arm in report.arms)
    isolated = next(arm for arm in report.arms if arm.name == "isolated")
    assert isolated.metrics["bwt_gem"] == 0 and isolated.identical_predictions is True
    assert {figure.arm for figure in report.published} >= {"SeqFT", "O-LoRA", "ProgPrompt", "EWC"}
