"""A head that grows answers for a new label from the first step on, as surely as for those that it knew."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limpet.home import Home
from limpet.training.learning.new_labels import imprinted
from limpet.training.learning.settings import TrainingSettings
from tests.tiny import FILLER

QUICK = TrainingSettings(epochs=4, batch_size=8, dtype="float32", learning_rate=5e-3)


@pytest.fixture
def clusters() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Five means and a head that tells the first three apart."""
    torch.manual_seed(0)
    means = 4.0 * torch.eye(5, 8) + 3.0 + 0.2 * torch.randn(5, 8)
    weight = torch.cat([(means - means.mean(dim=0))[:3] * 2, torch.randn(2, 8)])
    return means, weight, 0.1 * torch.randn(5)


def test_a_new_label_stands_out_at_its_mean_as_the_old_ones_do_at_theirs(
    clusters: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    means, weight, bias = clusters
    rows = imprinted(means, weight, bias, new=[3, 4])
    assert rows is not None
    centre = means.mean(dim=0)
    old_heights = ((means[:3] - centre) * weight[:3]).sum(dim=1)
    new_heights = ((means[3:] - centre) * rows[0]).sum(dim=1)
    torch.testing.assert_close(new_heights, old_heights.mean().expand(2))
    level = (weight[:3] @ centre + bias[:3]).mean()
    torch.testing.assert_close(rows[0] @ centre + rows[1], level.expand(2))
    grown, biases = torch.cat([weight[:3], rows[0]]), torch.cat([bias[:3], rows[1]])
    answers = (means[3:] @ grown.T + biases).argmax(dim=1)
    assert answers.tolist() == [3, 4]


def test_a_head_that_tells_nothing_apart_gives_no_measure(
    clusters: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    means, weight, bias = clusters
    assert imprinted(means, -weight, bias, new=[3, 4]) is None


def test_a_version_knows_a_new_label_before_its_first_step(home: Home, tmp_path: Path) -> None:
    home.train("place", QUICK, monitor=False)
    path = tmp_path / "more.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [(f"{a} {b} {c} {b}", "word") for a in FILLER[:4] for b in FILLER[4:8] for c in FILLER[8:]]
        csv.writer(file).writerows([("text", "label"), *rows])
    home.task.revise("place", f"csv:{path}")
    still = replace(QUICK, epochs=1, learning_rate=1e-12, replay=0)
    first, second = (home.adapter.show("place@1"), home.train("place", still, start_from="place@1", monitor=False))
    scores = second.version.metrics["scores"]
    assert scores["new"] > 0.8
    assert scores["old"] >= first.metrics["accuracy"] - 0.1
