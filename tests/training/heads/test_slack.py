"""By how much outputs may move before an answer is another: no less changes it, and that much does."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from limpet.training.heads import HeadConfig
from limpet.training.heads.classification import ClassificationHead
from limpet.training.heads.multi_label import MultiLabelHead
from limpet.training.heads.token_classification import TokenConfig, TokenHead

LABELS = 4


def labels(row: Tensor, threshold: float | None) -> object:
    best = int(row.argmax())
    return best, threshold is not None and float(torch.softmax(row, -1)[best]) < threshold


def several(row: Tensor, threshold: float | None) -> object:
    return (torch.sigmoid(row) > (0.5 if threshold is None else threshold)).tolist()


def tags(row: Tensor, threshold: float | None) -> object:
    return [None if word.isnan().any() else int(word.argmax()) for word in row]


def rows(kind: str, count: int = 60) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    if kind != "token-classification":
        return list(2 * torch.randn(count, LABELS, generator=generator, dtype=torch.float64))
    made = 2 * torch.randn(count, 5, LABELS, generator=generator, dtype=torch.float64)
    made[:, 2] = torch.nan
    return list(made)


def heads() -> dict[str, tuple[object, Callable[[Tensor, float | None], object]]]:
    config = HeadConfig("classification", "mean", 8, LABELS)
    names = tuple("abcd")
    tokens = TokenConfig("token-classification", "words", 8, LABELS, tags=names, unseen="a")
    return {
        "classification": (ClassificationHead(config), labels),
        "multi-label": (MultiLabelHead(config), several),
        "token-classification": (TokenHead(tokens), tags),
    }


@pytest.mark.parametrize(
    ("kind", "threshold"),
    [
        ("classification", None),
        ("classification", 0.6),
        ("classification", 0.95),
        ("multi-label", None),
        ("multi-label", 0.2),
        ("token-classification", None),
    ],
)
def test_outputs_that_move_less_than_the_slack_give_the_same_answer(kind: str, threshold: float | None) -> None:
    head, decide = heads()[kind]
    generator = torch.Generator().manual_seed(1)
    changed = 0
    for row in rows(kind):
        slack, answer = head.slack(row, threshold), decide(row, threshold)  # type: ignore[attr-defined]
        assert slack > 0
        # the corners of the cube of that size, where outputs move as far as they may
        corners = torch.sign(torch.randn(40, *row.shape, generator=generator, dtype=row.dtype))
        assert all(decide(row + 0.999 * slack * corner, threshold) == answer for corner in corners)
        # the label with the most against all others, and the reverse
        best = torch.nn.functional.one_hot(row.nan_to_num(-9).argmax(-1), LABELS) * 2.0 - 1
        worst = [1.001 * slack * sign * one for sign in (1, -1) for one in (best, *corners)]
        changed += any(decide(row + move, threshold) != answer for move in worst)
    assert changed == len(rows(kind))


def test_a_word_that_is_not_seen_decides_nothing() -> None:
    head, _ = heads()["token-classification"]
    assert head.slack(torch.full((3, LABELS), torch.nan), None) == math.inf  # type: ignore[attr-defined]
