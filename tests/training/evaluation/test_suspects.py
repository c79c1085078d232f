"""Wrong labels are found among the training examples, and what can't be judged is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from limpet.errors import UsageError
from limpet.home import Home
from limpet.training.evaluation.label_probe import probe_answers
from tests.tiny import FILLER, TOPICS
from tests.training.typed_data import write_rows


def clouds(each: int, labels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of `each` examples of every label around a place of its own, and the labels."""
    draw = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(labels, 16, generator=draw)
    given = torch.arange(each * labels) % labels
    return centres[given] + torch.randn(each * labels, 16, generator=draw), given


def test_flipped_labels_have_the_least_confidence() -> None:
    features, labels = clouds(60, 3)
    flipped = torch.tensor([4, 50, 77, 103])
    noisy = labels.clone()
    noisy[flipped] = (noisy[flipped] + 1) % 3
    answers = probe_answers(features, torch.nn.functional.one_hot(noisy) > 0, exclusive=True)
    confidence = answers.probabilities[torch.arange(len(noisy)), noisy]
    assert sorted(confidence.argsort()[:4].tolist()) == flipped.tolist()
    assert answers.agreement == pytest.approx(1 - 4 / 180)
    assert torch.allclose(answers.probabilities.sum(dim=1), torch.ones(180, dtype=torch.float64))


def test_a_label_that_was_left_out_is_doubted_where_there_are_several() -> None:
    features, first = clouds(60, 2, seed=1)
    more, second = clouds(60, 2, seed=2)
    targets = torch.stack([first, second], dim=1) > 0
    targets[7, 0] = ~targets[7, 0]
    answers = probe_answers(torch.cat([features, more], dim=1), targets, exclusive=False)
    doubted = torch.where(targets, answers.probabilities, 1 - answers.probabilities).min(dim=1).values
    assert int(doubted.argmin()) == 7


def test_misplaced_labels_of_a_task_are_suspects_with_what_the_probe_says(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "topics.jsonl"
    rows = []
    for at in range(120):
        topic = list(TOPICS)[at % 3]
        words = [TOPICS[topic][(at + step) % 6] for step in range(6)] + [FILLER[at % 10], FILLER[at // 12]]
        rows.append({"text": " ".join(words), "label": topic})
    right = {}
    for at in range(0, 120, 20):
        right[rows[at]["text"]] = rows[at]["label"]
        rows[at]["label"] = list(TOPICS)[(at + 1) % 3]
    rows += [{"text": f"the {word} of old", "label": "rare"} for word in ("wave", "cloud", "ore", "sand")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = tmp_path / "evaluation.jsonl"
    evaluation.write_text("".join(json.dumps(row | {"text": f"far {row['text']}"}) + "\n" for row in rows[:3]))
    home.task.add("topics", f"jsonl:train={path},eval={evaluation}", near_duplicates="keep", max_length=16)
    found = home.task.suspects("topics")
    train = [row for label in TOPICS for row in home.task.examples("topics", most=1000)[label]]
    # some were drawn for validation
    wrong = {row.text: right[row.text] for row in train if row.text in right}
    first = {suspect.text: suspect.probe[0] for suspect in found.suspects[: len(wrong)]}
    assert first == wrong
    assert all({row.row: row.text for row in train}[suspect.row] == suspect.text for suspect in found.suspects)
    assert found.suspects[0].confidence <= found.suspects[-1].confidence < 0.5
    assert list(found.not_judged) == ["rare"]
    assert all(suspect.labels != ("rare",) for suspect in found.suspects)


def test_of_several_labels_the_most_doubtful_one_decides(home: Home, tmp_path: Path) -> None:
    home.task.add("marks", write_rows(tmp_path / "marks.jsonl", "multi-label", rows=120), type="multi-label")
    found = home.task.suspects("marks")
    assert found.suspects
    confidences = [suspect.confidence for suspect in found.suspects]
    assert confidences == sorted(confidences)
    for suspect in found.suspects:
        assert set(suspect.labels) != set(suspect.probe) <= set(TOPICS)
        assert suspect.confidence == pytest.approx(1 - suspect.probe_confidence)
        assert suspect.confidence < 0.5


def test_a_task_without_labels_of_whole_texts_is_refused_before_the_base_is_loaded(
    home: Home, tmp_path: Path
) -> None:
    home.task.add("tags", write_rows(tmp_path / "tags.jsonl", "token-classification"), type="token-classification")
    with pytest.raises(UsageError, match="token-classification") as caught:
        home.task.suspects("tags")
    assert caught.value.hint == "limpet task show tags --examples"
